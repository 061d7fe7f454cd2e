// The latest requests and what the server noted.
import { byId, element, keyed, setText, swatch } from "./dom.js";
import { clock, count, duration, NONE, rate, span } from "./format.js";
import { liveTable } from "./table.js";
import { slotsOf } from "./verdict.js";

const AT_WORK = new Set(["reading", "writing"]);

const COLUMNS = [
  { head: "Request", fill: (cell, { id }) => setText(cell, String(id)) },
  { head: "Variant", className: "words", fill: fillVariant },
  { head: "State", className: "words", fill: fillState },
  { head: "Came", fill: (cell, { age_s }) => setText(cell, `${span(age_s)} ago`) },
  { head: "Prompt tokens", fill: (cell, { prompt_tokens }) => setText(cell, count(prompt_tokens)) },
  { head: "known already", fill: (cell, { reused_tokens }) => setText(cell, reused_tokens ? count(reused_tokens) : NONE) },
  { head: "Answer tokens", fill: (cell, { answer_tokens }) => setText(cell, count(answer_tokens)) },
  { head: "First token", fill: (cell, { first_token_ms }) => setText(cell, first_token_ms === null ? NONE : duration(first_token_ms)) },
  { head: "Tokens/s", fill: (cell, { tok_s }) => setText(cell, tok_s === null ? NONE : rate(tok_s)) },
];

// Returns what takes a new status.
export function startRequests() {
  const region = byId("figure-requests").querySelector(".scroll");
  const update = liveTable(region.querySelector("table"), COLUMNS, ({ id }) => id);
  return ({ requests, variants, log }) => {
    const slots = slotsOf(variants);
    update(requests.map((one) => ({ ...one, slot: slots.get(one.variant) ?? "d" })));
    region.hidden = requests.length === 0;
    byId("no-requests").hidden = requests.length > 0;
    showLog(log);
  };
}

function fillVariant(cell, { variant, slot }) {
  if (cell.textContent !== variant) cell.replaceChildren(swatch(variant, slot));
}

function fillState(cell, { state }) {
  if (!cell.firstChild) cell.append(element("span"));
  cell.firstChild.className = state === "failed" ? "badge bad" : AT_WORK.has(state) ? "badge busy" : "";
  setText(cell.firstChild, state);
}

function showLog(log) {
  // Lines have no number: those of one moment count from the oldest.
  const seen = new Map();
  const lines = log.toReversed().map((line) => {
    const at = (seen.get(line.time_s) ?? 0) + 1;
    seen.set(line.time_s, at);
    return { ...line, key: `${line.time_s}/${at}` };
  }).toReversed();
  keyed(byId("log"), lines, ({ key }) => key, makeLine, () => {});
  byId("log").hidden = log.length === 0;
  byId("no-log").hidden = log.length > 0;
}

function makeLine({ time_s, level, text }) {
  const time = element("time", { datetime: new Date(time_s * 1000).toISOString(), text: clock(time_s) });
  return element("li", { className: level === "warning" ? "warning" : "info" }, time, element("p", { text }));
}
