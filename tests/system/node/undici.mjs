// undici: node undici.mjs tunnel | forward | fetch | retry. It tunnels http:// as well unless it is told not to.
// fetch is Node's own, which finds the proxy only through a dispatcher of undici's.
import { EnvHttpProxyAgent, RetryAgent, request, setGlobalDispatcher } from "undici";
import { serve } from "./calls.mjs";

const way = process.argv[2];
const dispatcher = new EnvHttpProxyAgent({ proxyTunnel: way !== "forward" && way !== "retry" });
setGlobalDispatcher(way === "retry" ? new RetryAgent(dispatcher) : dispatcher);

async function requested(url, { interim, ...options }) {
  const { statusCode: status, headers, body } = await request(url, {
    ...options,
    onInfo: ({ statusCode }) => interim.push(statusCode),
  });
  return { status, headers, interim, content: await body.arrayBuffer() };
}

async function fetched(url, { interim, ...options }) {
  const answer = await fetch(url, { ...options, duplex: "half" });
  const { status, headers } = answer;
  return { status, headers: Object.fromEntries(headers), interim, content: await answer.arrayBuffer() };
}

const call = way === "fetch" ? fetched : requested;

await serve(async ({ method, url, timeout_ms }, body) => {
  try {
    return await call(url, { method, body, signal: AbortSignal.timeout(timeout_ms), interim: [] });
  } catch (error) {
    if (error.name === "TimeoutError") return { timeout: true };
    throw error;
  }
});
await dispatcher.destroy();
