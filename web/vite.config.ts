// Builds the dashboard into the Python package, and serves it with hot reload beside a running gateway.
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { defaultClientConditions, loadEnv, type Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** Bytes of script after gzip that a first visit loads; a build above it fails. The page has to open at once, on any line. */
const BUDGET_BYTES = 350_000;

/** Below this, compressing saves less than the header that says so. */
const WORTH_BYTES = 1024;

function bundleBudget(): Plugin {
  return {
    name: "tickcast:bundle-budget",
    apply: "build",
    generateBundle(_options, bundle) {
      let bytes = 0;
      for (const file of Object.values(bundle)) {
        if (file.type === "chunk") bytes += gzipSync(file.code).length;
      }
      if (bytes > BUDGET_BYTES) this.error(`the scripts are ${bytes} bytes gzipped, the budget is ${BUDGET_BYTES}`);
    },
  };
}

/** Puts `.br` and `.gz` beside what compresses, once and at the highest level: the gateway sends them as they are. */
function precompress(): Plugin {
  return {
    name: "tickcast:precompress",
    apply: "build",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_options, bundle) {
        for (const [fileName, file] of Object.entries(bundle)) {
          if (!/\.(js|css|html|svg)$/.test(fileName)) continue;
          const body = Buffer.from(file.type === "chunk" ? file.code : file.source);
          if (body.length < WORTH_BYTES) continue;
          const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } };
          this.emitFile({ type: "asset", fileName: `${fileName}.br`, source: brotliCompressSync(body, quality) });
          this.emitFile({ type: "asset", fileName: `${fileName}.gz`, source: gzipSync(body, { level: 9 }) });
        }
      },
    },
  };
}

export default defineConfig(({ mode }) => {
  const gateway = loadEnv(mode, ".", "TICKCAST_").TICKCAST_GATEWAY ?? "http://127.0.0.1:3000";
  // The gateway checks `Origin`; the page's own (of the development server) would be refused.
  const http = { target: gateway, changeOrigin: true };
  const proxy = {
    "/ws": { ...http, ws: true, headers: { origin: new URL(gateway).origin } },
    "/api": http,
    "/health": http,
    "/metrics": http,
  };
  return {
    base: "./", // relative, so that the page also works below a prefix
    plugins: [bundleBudget(), precompress()],
    resolve: { conditions: ["tickcast-source", ...defaultClientConditions] },
    oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
    worker: { format: "es" },
    build: {
      outDir: "../python/tickcast/_web",
      // Outside the root, hence explicit. `public/.gitkeep` puts back the one file of the folder that git knows.
      emptyOutDir: true,
      target: "es2022",
      modulePreload: { polyfill: false },
    },
    server: { host: "127.0.0.1", port: 5173, proxy },
    test: { include: ["tests/**/*.test.{ts,tsx}", "client/tests/**/*.test.ts"], environment: "node" },
  };
});
