// undici: node undici.mjs tunnel | forward. It tunnels http:// as well unless it is told not to.
import { EnvHttpProxyAgent, request } from "undici";
import { serve } from "./calls.mjs";

const dispatcher = new EnvHttpProxyAgent({ proxyTunnel: process.argv[2] === "tunnel" });

await serve(async ({ method, url, timeout_ms }, body) => {
  const interim = [];
  try {
    const { statusCode: status, headers, body: content } = await request(url, {
      dispatcher,
      method,
      body,
      signal: AbortSignal.timeout(timeout_ms),
      onInfo: ({ statusCode }) => interim.push(statusCode),
    });
    return { status, headers, interim, content: await content.arrayBuffer() };
  } catch (error) {
    if (error.name === "TimeoutError") return { timeout: true };
    throw error;
  }
});
await dispatcher.destroy();
