// A stock client of the original contract: node client.mjs PROTO ADDRESS < ticks, one JSON object a line > trades.
// It has nothing of tickcast but the one proto file.
import { createInterface } from "node:readline";
import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const [proto, address] = process.argv.slice(2);
const definition = loadSync(proto, { longs: String, enums: String, defaults: true, oneofs: true });
const { marketdata } = loadPackageDefinition(definition);
const client = new marketdata.MarketDataProcessor(address, credentials.createInsecure());
const call = client.ProcessStream();

call.on("data", (trade) => process.stdout.write(`${JSON.stringify(trade)}\n`));
call.on("error", (error) => {
  process.stderr.write(`${error.code} ${error.details}\n`);
  process.exitCode = 1;
});
call.on("end", () => client.close());

for await (const line of createInterface({ input: process.stdin })) {
  if (!call.write(JSON.parse(line))) {
    await new Promise((resolve) => call.once("drain", resolve));
  }
}
call.end();
