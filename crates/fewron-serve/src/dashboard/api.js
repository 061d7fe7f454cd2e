// The server's HTTP API: the key, errors, server-sent events.
const STORED_KEY = "fewron-key";
let key = readKey();

// Tells `needed` when the server wants a key that it did not get, `given` when there is a new one.
export const access = new EventTarget();
export const hasKey = () => key !== "";

function readKey() {
  try {
    return sessionStorage.getItem(STORED_KEY) ?? "";
  } catch {
    return "";
  }
}

export function setKey(value) {
  key = value;
  try {
    sessionStorage.setItem(STORED_KEY, value);
  } catch {
    // The key is good until the page is left.
  }
  access.dispatchEvent(new Event("given"));
}

// An answer that is no success: `status` of HTTP (0 inside a stream), the server's message.
export class ApiError extends Error {
  constructor(status, message, retry_after_s) {
    super(message);
    this.status = status;
    this.retry_after_s = retry_after_s;
  }
}

async function errorOf(response) {
  let message = `the server answered ${response.status} ${response.statusText}`.trimEnd();
  try {
    message = (await response.json()).error.message ?? message;
  } catch {
    // A proxy's page, or nothing.
  }
  const retry_after_s = Number(response.headers.get("retry-after")) || undefined;
  return new ApiError(response.status, message, retry_after_s);
}

async function request(path, options) {
  const headers = { ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  const response = await fetch(path, { cache: "no-store", ...options, headers });
  if (response.ok) return response;
  const error = await errorOf(response);
  if (error.status === 401) access.dispatchEvent(new Event("needed"));
  throw error;
}

export const get = (path, signal) => request(path, { signal });

export function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

// The `data` of each server-sent event of a response (WHATWG HTML, section 9.2.6).
export async function* eventData(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.map((one) => one.replace(/\r$/, ""))) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
