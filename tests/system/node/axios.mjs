// axios, which finds the proxy in its environment.
import axios from "axios";
import { serve } from "./calls.mjs";

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
