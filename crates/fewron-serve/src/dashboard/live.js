// The status, once a second, for as long as the page is open.
import { access, ApiError, eventData, get } from "./api.js";

const SILENCE_MS = 6000;
const LONGEST_PAUSE_MS = 15_000;

// Tells `status` (detail: the status) and `connection` (detail: `live`, `lost` or `locked`).
export class Feed extends EventTarget {
  #wake = () => {};

  start() {
    addEventListener("online", () => this.retryNow());
    access.addEventListener("given", () => this.retryNow());
    this.#run();
  }

  retryNow() {
    this.#wake();
  }

  async #run() {
    for (let failures = 0; ; failures++) {
      try {
        for await (const status of statuses()) {
          failures = 0;
          this.#tell("connection", "live");
          this.#tell("status", status);
        }
        this.#tell("connection", "lost");
      } catch (error) {
        const locked = error instanceof ApiError && error.status === 401;
        this.#tell("connection", locked ? "locked" : "lost");
        if (locked) {
          await this.#pause();
          failures = -1;
          continue;
        }
      }
      await this.#pause(Math.min(500 * 2 ** failures, LONGEST_PAUSE_MS));
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // Until `retryNow`, at most `ms`.
  #pause(ms) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (ms !== undefined) setTimeout(resolve, ms);
    });
  }
}

// One connection: the status at once, then as it changes. Ends when the server is silent for too long.
async function* statuses() {
  const aborter = new AbortController();
  const abort = () => aborter.abort();
  let timer = setTimeout(abort, SILENCE_MS);
  try {
    yield await (await get("/fewron/status", aborter.signal)).json();
    for await (const data of eventData(await get("/fewron/events", aborter.signal))) {
      clearTimeout(timer);
      timer = setTimeout(abort, SILENCE_MS);
      yield JSON.parse(data);
    }
  } finally {
    clearTimeout(timer);
    aborter.abort();
  }
}
