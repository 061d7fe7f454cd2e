// The table that compares variants.
import { byId, element, setText, swatch } from "./dom.js";
import { count, divergence, duration, interval, NONE, percent, rate, shortPercent } from "./format.js";
import { fillLines, liveTable } from "./table.js";
import { agreementBeyond, divergenceBeyond, slotsOf, verdict } from "./verdict.js";

const COLUMNS = [
  { head: "Variant", fill: fillName },
  { head: "State", className: "words", fill: fillState },
  { head: "Traffic", fill: (cell, { share }) => setText(cell, share ? shortPercent(share) : NONE) },
  { head: "Requests", note: "tokens", fill: (cell, { requests, answer_tokens }) => fillLines(cell, count(requests), count(answer_tokens)) },
  { head: "Tokens/s", note: "one stream", fill: fillSpeed },
  { head: "First token", note: "median", fill: (cell, { latency }) => fillPercentiles(cell, latency.first_token_ms) },
  { head: "Token to token", note: "median", fill: (cell, { latency }) => fillPercentiles(cell, latency.inter_token_ms) },
  { head: "Active", note: "asked for", fill: fillActive },
  { head: "Agreement", note: "95% interval", fill: (cell, { quality }) => fillQuality(cell, quality, "agreement", percent, agreementBeyond) },
  { head: "KL, nats", note: "95% interval", fill: (cell, { quality }) => fillQuality(cell, quality, "kl", divergence, divergenceBeyond) },
];

// Returns what takes a new status.
export function startVariants() {
  const update = liveTable(byId("figure-variants").querySelector("table"), COLUMNS, ({ name }) => name);
  return ({ variants }) => {
    const slots = slotsOf(variants);
    const dense_tok_s = variants.find(({ policy }) => policy === null)?.stream_tok_s;
    update(variants.map((variant) => ({ ...variant, slot: slots.get(variant.name), dense_tok_s })));
  };
}

function fillName(cell, { name, policy, slot }) {
  if (!cell.firstChild) cell.append(swatch(name, slot), element("small"));
  setText(cell.lastChild, policy === null || name.startsWith(policy) ? "" : policy);
}

function fillState(cell, variant) {
  if (!cell.firstChild) cell.append(element("span"));
  const state = verdict(variant);
  cell.firstChild.className = state === "fallen" ? "badge bad" : "";
  setText(cell.firstChild, state === "fallen" ? "served dense" : "served");
}

function fillSpeed(cell, { stream_tok_s, policy, dense_tok_s }) {
  const times = policy !== null && stream_tok_s && dense_tok_s ? `${(stream_tok_s / dense_tok_s).toFixed(2)} × dense` : "";
  fillLines(cell, stream_tok_s ? rate(stream_tok_s) : NONE, times);
}

function fillPercentiles(cell, { p50, p90, p99, count: seen }) {
  fillLines(cell, seen ? duration(p50) : NONE, seen ? `${duration(p90)} · ${duration(p99)}` : "");
}

function fillActive(cell, { active, policy, sparsity, requests }) {
  const ran = policy === null || requests > 0;
  fillLines(cell, ran ? percent(active) : NONE, policy === null ? "" : shortPercent(1 - sparsity));
}

function fillQuality(cell, quality, measure, format, beyond) {
  const scored = quality?.tokens > 0;
  fillLines(cell, scored ? format(quality[measure].mean) : NONE, scored ? interval(quality[measure], format) : "");
  cell.firstChild.className = scored && beyond(quality) ? "wrong" : "";
}
