// A server that serves the dashboard's files as `fewron serve` does, with statuses and answers from a script.
//
//     node mock_server.mjs [PORT]
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

import { busy, empty } from "./mock_status.mjs";
import { Tokenizer } from "./mock_tokenizer.mjs";

const SOURCE = new URL("../../crates/fewron-serve/src/", import.meta.url);
const TYPES = { page: "text/html", style: "text/css", script: "text/javascript" };
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// The files that the Rust module names, by path.
function assets() {
  const module = readFileSync(new URL("dashboard.rs", SOURCE), "utf8");
  const entries = module.matchAll(/(page|style|script)\("([^"]+)", include_str!\("([^"]+)"\)\)/g);
  return new Map([...entries].map(([, kind, path, file]) => [path, { type: `${TYPES[kind]}; charset=utf-8`, file: new URL(file, SOURCE) }]));
}

// Answers by the last word of the prompt; `choices` are the dense model's, where they differ.
export const ANSWERS = {
  sky: {
    dense: ["The", " sky", " is", " blue", " because", " air", " scat", "ters", " blue", " light", " most", "."],
    sparse: ["The", " sky", " is", " blue", " since", " air", " bends", " light", ".\n", "That", "’s all", "."],
    choices: { 4: " because", 6: " scat", 8: "," },
  },
  same: { dense: ["Yes", "."], sparse: ["Yes", "."], choices: {} },
  html: {
    dense: ["<script>", "document.title = 'hacked'", "</script>", " is", " text"],
    sparse: ["<img", " src=x", " onerror=", "\"document.title = 'hacked'\"", ">", "<b>bold</b>"],
    choices: { 0: "<script>document.title = 'hacked'</script>", 5: "<img src=/stolen>" },
  },
  // The fox is two tokens, the second of which ends its bytes.
  fox: {
    dense: ["A", " red", " fox"],
    sparse: ["A", " ", [0xf0, 0x9f], [0xa6, 0x8a], "!"],
    choices: { 1: " red", 4: "." },
  },
  empty: { dense: ["Something"], sparse: [], choices: {} },
  long: {
    dense: Array.from({ length: 400 }, (_, at) => ` word${at}`), sparse: Array.from({ length: 400 }, (_, at) => ` word${at}`), choices: {},
  },
};

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Mock {
  // Every message is a second later than the one before, whatever the clock says.
  // What tests turn: a status maker, a key that is asked for, HTTP errors by path, and how answers go wrong.
  status = busy;
  fallen = false;
  key = "";
  errors = {};
  breakAfter = Infinity;
  errorInStream = false;
  silent = false;
  ids = false;
  recut = false;
  tick_ms = 1000;
  token_ms = 15;
  // What was asked: `{ path, body }`.
  asked = [];

  #assets = assets();
  #tokenizer = new Tokenizer();
  #start_s = Date.now() / 1000;
  #tick = 0;
  #streams = new Set();
  #server = createServer((request, response) => this.#answer(request, response).catch((error) => response.destroy(error)));

  async listen(port = 0) {
    await new Promise((resolve) => this.#server.listen(port, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.#server.address().port}/`;
    return this;
  }

  // Cuts the streams of statuses that are open.
  drop() {
    for (const stream of this.#streams) stream.destroy();
  }

  close() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request, response) {
    const path = new URL(request.url, this.url).pathname;
    if (this.#assets.has(path)) return this.#file(path, response);
    if (this.key && request.headers.authorization !== `Bearer ${this.key}`) return refuse(response, 401, "Incorrect API key provided");
    const body = request.method === "POST" ? JSON.parse(Buffer.concat(await request.toArray())) : undefined;
    this.asked.push({ path, body });
    if (this.errors[path]) return refuse(response, ...this.errors[path]);
    const answer = this.#routes[path];
    return answer ? answer(body, response) : refuse(response, 404, `no such path: ${path}`);
  }

  #routes = {
    "/fewron/status": (_, response) => json(response, this.#now()),
    "/fewron/events": (_, response) => this.#events(response),
    "/fewron/rearm": (_, response) => {
      this.fallen = false;
      json(response, {});
    },
    "/v1/chat/completions": (body, response) => this.#chat(body, response),
    "/v1/completions": (body, response) => json(response, this.#echo(body)),
    "/tokenize": (body, response) => json(response, { tokens: this.#tokenize(body) }),
  };

  #file(path, response) {
    const { type, file } = this.#assets.get(path);
    response.writeHead(200, { "content-type": type, "content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer" });
    response.end(readFileSync(file));
  }

  #now() {
    this.#tick++;
    return this.status(this.#start_s + this.#tick, this.#tick, this.fallen);
  }

  async #events(response) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(": statuses follow\n\n");
    this.#streams.add(response);
    response.on("close", () => this.#streams.delete(response));
    while (!response.destroyed) {
      if (!this.silent) response.write(`event: status\ndata: ${JSON.stringify(this.#now())}\r\n\r\n`);
      await pause(this.tick_ms);
    }
  }

  async #chat({ model, messages, max_tokens }, response) {
    const script = scriptOf(messages);
    const all = model.endsWith(":dense") ? script.dense : script.sparse;
    const ids = this.#tokenizer.ids(all.slice(0, max_tokens));
    response.writeHead(200, { "content-type": "text/event-stream" });
    const send = (value) => response.write(`data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`);
    send({ choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }], usage: null });
    const decoder = new TextDecoder();
    for (const [at, id] of ids.entries()) {
      await pause(this.token_ms);
      if (response.destroyed) return;
      if (at === this.breakAfter && this.errorInStream) return response.end(`data: ${JSON.stringify({ error: { message: "the request took longer than 600 s" } })}\n\n`);
      if (at === this.breakAfter) return response.destroy();
      const content = decoder.decode(Uint8Array.from(this.#tokenizer.bytes(id)), { stream: true });
      const token = { token: this.#tokenizer.text(id), bytes: this.#tokenizer.bytes(id), logprob: -0.1, top_logprobs: [], ...(this.ids && { id }) };
      send({ choices: [{ index: 0, delta: { content }, logprobs: { content: [token] }, finish_reason: null }], usage: null });
    }
    send({ choices: [{ index: 0, delta: {}, finish_reason: all.length > max_tokens ? "length" : "stop" }], usage: null });
    send({ choices: [], usage: { prompt_tokens: 9, completion_tokens: ids.length, total_tokens: 9 + ids.length } });
    send("[DONE]");
    response.end();
  }

  #tokenize({ messages, prompt }) {
    if (messages) {
      this.script = scriptOf(messages);
      return this.#tokenizer.encode(messages.map(({ role, content }) => `<|${role}|>${content}`).join("") + "<|assistant|>");
    }
    const ids = this.#tokenizer.encode(prompt);
    return this.recut ? ids.flatMap((id) => [...this.#tokenizer.text(id)].flatMap((letter) => this.#tokenizer.ids([letter]))) : ids;
  }

  #echo({ prompt }) {
    const tokens = prompt.map((id) => this.#tokenizer.text(id));
    const { choices, sparse } = this.script;
    const begin = tokens.length - sparse.length;
    const chosen = (at) => choices[at - begin];
    const token_logprobs = tokens.map((_, at) => at === 0 ? null : chosen(at) ? -1.2 : -0.05);
    const top_logprobs = tokens.map((token, at) => at === 0 ? null : chosen(at) ? { [token]: -1.2, [chosen(at)]: -0.4 } : { [token]: -0.05 });
    return { choices: [{ index: 0, text: tokens.join(""), logprobs: { tokens, token_logprobs, top_logprobs, text_offset: [] }, finish_reason: "length" }] };
  }
}

function scriptOf(messages) {
  return ANSWERS[messages.at(-1).content.trim().split(/\W+/).filter(Boolean).at(-1)] ?? ANSWERS.sky;
}

function json(response, value) {
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

function refuse(response, status, message, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify({ error: { message, type: "error", param: null, code: null } }));
}

export const startMock = (settings = {}) => Object.assign(new Mock(), settings).listen();
export { busy, empty };

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const mock = await new Mock().listen(Number(process.argv[2] ?? 8080));
  console.log(mock.url);
}
