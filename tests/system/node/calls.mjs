// A client as a process: one call a line of standard input, one answer a line of standard output.
import { createReadStream } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";

const bodies = { none: () => undefined, whole: readFile, chunked: createReadStream };

// `send({ method, url, timeout_ms }, body)` answers with { status, headers, content }, or with { timeout: true }.
export async function serve(send) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { framing, content: file, into, ...call } = JSON.parse(line);
    let told;
    try {
      const { content, ...answer } = await send(call, await bodies[framing](file));
      if (content !== undefined) await writeFile(into, Buffer.from(content));
      told = answer;
    } catch (error) {
      told = { error: String(innermost(error)) };
    }
    console.log(JSON.stringify(told));
  }
}

const innermost = (error) => (error.cause ? innermost(error.cause) : error);
