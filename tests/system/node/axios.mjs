// axios, which finds the proxy in its environment: node axios.mjs axios | axios-old. Before 1.0 it had no CONNECT.
import { serve } from "./calls.mjs";

const { default: axios } = await import(process.argv[2]);

await serve(async ({ method, url, timeout_ms }, data) => {
  try {
    const { status, headers, data: content } = await axios.request({
      method,
      url,
      data,
      timeout: timeout_ms,
      responseType: "arraybuffer",
      validateStatus: () => true,
      maxBodyLength: Infinity,
    });
    return { status, headers, content };
  } catch (error) {
    if (error.code === "ECONNABORTED") return { timeout: true };
    throw error;
  }
});
