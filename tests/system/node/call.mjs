// One call through a proxy: node call.mjs PROXY METHOD URL TIMEOUT_MS [whole | chunked]
// The content comes from standard input; the answer, or why there is none, goes to standard output as JSON.
import { buffer } from "node:stream/consumers";
import { ProxyAgent, request } from "undici";

const [proxy, method, url, timeoutMs, framing] = process.argv.slice(2);
const dispatcher = new ProxyAgent(proxy);
const content = { whole: () => buffer(process.stdin), chunked: () => process.stdin };

try {
  const answer = await request(url, {
    dispatcher,
    method,
    body: await content[framing]?.(),
    signal: AbortSignal.timeout(Number(timeoutMs)),
  });
  const { statusCode: status, headers, body } = answer;
  console.log(JSON.stringify({ status, headers, content: await body.text() }));
} catch ({ name, message }) {
  console.log(JSON.stringify({ name, message }));
}
await dispatcher.destroy();
