// A dispatcher on BullMQ: node bullmq.mjs SOCKET-OF-REDIS. Each line that it reads is a job. When its input
// ends, it finishes what it is at and says how many jobs are in which state.
import { createInterface } from "node:readline";
import axios from "axios";
import { Queue, Worker } from "bullmq";

const connection = { path: process.argv[2] };
const queue = new Queue("webhooks", {
  connection,
  defaultJobOptions: { attempts: 10, backoff: { type: "exponential", delay: 100 } },
});
// axios finds the proxy in its environment, and throws whatever is not 2xx: then BullMQ tries again later.
const worker = new Worker("webhooks", ({ data: { url, event } }) => deliver(url, event), {
  connection,
  concurrency: 8,
});
worker.on("error", console.error);

async function deliver(url, event) {
  await axios.post(url, event, { timeout: 1000 });
}

for await (const line of createInterface({ input: process.stdin })) await queue.add("webhook", JSON.parse(line));
await worker.close();
console.log(JSON.stringify(await queue.getJobCounts()));
await queue.close();
