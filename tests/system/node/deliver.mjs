// Delivers the event of a job of BullMQ's. What the proxy refuses comes back when it says, and was no attempt.
import axios from "axios";
import { DelayedError } from "bullmq";

export async function deliver(job, token) {
  const { url, event } = job.data;
  const { status, headers } = await axios.post(url, event, { timeout: 10_000, validateStatus: null });
  const refusedSeconds = headers["x-breaker-reason"] && headers["retry-after"];
  if (refusedSeconds) {
    await job.moveToDelayed(Date.now() + refusedSeconds * 1000, token);
    throw new DelayedError();
  }
  if (status < 200 || status > 299) throw new Error(`status ${status}`);
}
