// undici's WebSocket: node websocket.mjs URL. Sends a line that it reads, says what it hears, and so on.
import { once } from "node:events";
import { createInterface } from "node:readline";
import { EnvHttpProxyAgent, WebSocket } from "undici";

const dispatcher = new EnvHttpProxyAgent();
const socket = new WebSocket(process.argv[2], { dispatcher });
socket.addEventListener("error", ({ error }) => console.error(error));
await once(socket, "open");
for await (const line of createInterface({ input: process.stdin })) {
  socket.send(line);
  const [{ data }] = await once(socket, "message");
  console.log(data);
}
socket.close(1000, "done");
const [{ code, reason }] = await once(socket, "close");
console.log(`closed ${code} ${reason}`);
await dispatcher.destroy();
