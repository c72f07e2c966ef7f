// A dispatcher on BullMQ: node bullmq.mjs SOCKET-OF-REDIS plain | told. Each line that it reads is a job. When its
// input ends, it finishes what it is at and says how many jobs are in which state.
import { createInterface } from "node:readline";
import axios from "axios";
import { Queue, Worker } from "bullmq";
import { deliver as told } from "./deliver.mjs";

const [path, way] = process.argv.slice(2);
const connection = { path };
const queue = new Queue("webhooks", {
  connection,
  defaultJobOptions: { attempts: 10, backoff: { type: "exponential", delay: 100 } },
});
const worker = new Worker("webhooks", { plain, told }[way], { connection, concurrency: 8 });
worker.on("error", console.error);

// axios finds the proxy in its environment, and throws whatever is not 2xx: then BullMQ tries again later.
async function plain({ data: { url, event } }) {
  await axios.post(url, event, { timeout: 1000 });
}

for await (const line of createInterface({ input: process.stdin })) await queue.add("webhook", JSON.parse(line));
await worker.close();
console.log(JSON.stringify(await queue.getJobCounts()));
await queue.close();
