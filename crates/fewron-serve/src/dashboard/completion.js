// One streamed chat answer: its text, its tokens, its times.
import { ApiError, eventData, post } from "./api.js";

const FEWEST_TIMED = 8;

// A chat answer as it grows.
export class Completion {
  text = "";
  // `{ token, bytes?, id? }`, as the server cuts them.
  tokens = [];
  finish = null;
  usage = null;
  #first_ms;
  #last_ms;
  #chunks = 0;

  // Reads the answer to its end, telling `onText` of each piece.
  async read(body, signal, onText) {
    const asked = { ...body, stream: true, logprobs: true, stream_options: { include_usage: true } };
    const response = await post("/v1/chat/completions", asked, signal);
    for await (const data of eventData(response)) {
      if (data === "[DONE]") return;
      const piece = this.#take(JSON.parse(data));
      onText(piece);
    }
    if (this.finish === null) throw new Error("the stream broke off");
  }

  // Tokens of the answer; without log-probabilities the server's count, or else that of its messages.
  get length() {
    return this.tokens.length || this.usage?.completion_tokens || this.#chunks;
  }

  // Tokens a second from the first one on, as they came here; 0 for too few, which often come in one go.
  get tok_s() {
    const took_s = (this.#last_ms - this.#first_ms) / 1000;
    return this.length >= FEWEST_TIMED && took_s > 0 ? (this.length - 1) / took_s : 0;
  }

  #take({ error, choices, usage }) {
    if (error) throw new ApiError(0, error.message ?? "the server failed");
    this.usage = usage ?? this.usage;
    const choice = choices?.[0];
    if (!choice) return "";
    this.finish = choice.finish_reason ?? this.finish;
    const text = choice.delta?.content ?? "";
    const tokens = choice.logprobs?.content ?? [];
    if (text || tokens.length) this.#note();
    this.text += text;
    this.tokens.push(...tokens);
    return text;
  }

  #note() {
    this.#chunks++;
    this.#last_ms = performance.now();
    this.#first_ms ??= this.#last_ms;
  }
}
