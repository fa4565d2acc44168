// The gateway in Node.js that one would write first: Fastify, its WebSocket plugin, and a stock gRPC client.
//
//   node gateway.mjs PROTO GRPC_ADDRESS [NATS_URL SUBJECT]
//
// Without a queue it is as published: each socket has a ProcessStream of its own, its ticks go up, and its trades come
// back to it alone. With one it is made to broadcast: the queue's ticks go through one ProcessStream, and each trade to
// every socket. Its port is the first line that it prints.
import websocket from "@fastify/websocket";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import Fastify from "fastify";
import { connect, JSONCodec } from "nats";

const [proto, address, queue, subject] = process.argv.slice(2);
const definition = loader.loadSync(proto, { longs: String, enums: String, defaults: true, oneofs: true });
const { marketdata } = grpc.loadPackageDefinition(definition);
const client = new marketdata.MarketDataProcessor(address, grpc.credentials.createInsecure());

const toTick = ({ instrumentId, price, volume, timestampNs }) => ({
  instrumentId,
  price,
  volume,
  timestampNs: timestampNs ?? `${Date.now()}000000`,
});
const toText = (trade) => JSON.stringify({ ...trade, vwap20m: trade.vwap_20m, vwap_20m: undefined });

const app = Fastify();
await app.register(websocket);
const sockets = new Set();

app.get("/ws/marketdata", { websocket: true }, (socket) => {
  socket.on("error", () => socket.terminate());
  if (queue) {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    return;
  }
  const stream = client.ProcessStream();
  stream.on("data", (trade) => socket.send(toText(trade)));
  stream.on("error", () => socket.close());
  socket.on("message", (message) => stream.write(toTick(JSON.parse(message))));
  socket.on("close", () => stream.end());
});

if (queue) {
  const stream = client.ProcessStream();
  stream.on("data", (trade) => {
    const text = toText(trade);
    for (const socket of sockets) socket.send(text);
  });
  const connection = await connect({ servers: queue });
  const codec = JSONCodec();
  connection.subscribe(subject, { callback: (_, message) => stream.write(toTick(codec.decode(message.data))) });
  await connection.flush();
}
await app.listen({ host: "127.0.0.1", port: 0 });
console.log(app.server.address().port);
