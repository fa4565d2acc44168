// Builds the dashboard into the Python package, and serves it with hot reload beside a running gateway.
import { gzipSync } from "node:zlib";
import { loadEnv, type Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** Bytes of script and style after gzip; a build above it fails. The page has to open at once, on any line. */
const BUDGET_BYTES = 20_000;

function bundleBudget(): Plugin {
  return {
    name: "tickcast:bundle-budget",
    apply: "build",
    generateBundle(_options, bundle) {
      let bytes = 0;
      for (const file of Object.values(bundle)) {
        bytes += gzipSync(file.type === "chunk" ? file.code : file.source).length;
      }
      if (bytes > BUDGET_BYTES) {
        this.error(`the bundle is ${bytes} bytes gzipped, the budget is ${BUDGET_BYTES}`);
      }
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
    plugins: [bundleBudget()],
    build: {
      outDir: "../python/tickcast/_web",
      // Outside the root, hence explicit. `public/.gitkeep` puts back the one file of the folder that git knows.
      emptyOutDir: true,
      target: "es2022",
      modulePreload: { polyfill: false },
    },
    server: { host: "127.0.0.1", port: 5173, proxy },
    test: { include: ["tests/**/*.test.ts"], environment: "node" },
  };
});
