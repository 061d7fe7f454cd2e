// What the server does now: the sentence, the four numbers, curves, room, memory, totals.
import { all, byId, element, keyed, setAttribute, setText } from "./dom.js";
import { bytes, count, duration, NONE, percent, plural, rate, span } from "./format.js";
import { historyChart, remember } from "./history.js";
import { latencyTable } from "./latency.js";
import { listed, verdict } from "./verdict.js";

const NAMES = { decode_tok_s: "Answer tokens", prefill_tok_s: "Prompt tokens" };

// Returns what takes a new status.
export function startOverview() {
  const points = [];
  const charts = all("[data-history]").map((svg) => historyChart(svg, points, svg.dataset.history, NAMES[svg.dataset.history]));
  const showLatency = latencyTable();
  byId("copy").addEventListener("click", copyExample);
  return (status) => {
    remember(points, status);
    for (const redraw of charts) redraw();
    showHead(status);
    showTiles(status, points);
    showLatency(status);
    showRoom(status);
    showMemory(status.memory);
    showTotals(status.totals);
  };
}

function showHead(status) {
  setText(byId("model"), status.model);
  const facts = [plural(status.layers, "layer"), `context of ${count(status.context)} tokens`, plural(status.threads, "thread"), `up for ${span(status.uptime_s)}`];
  setText(byId("facts"), `· ${facts.join(" · ")}`);
  setText(byId("headline"), headline(status));
  byId("welcome").hidden = status.totals.requests > 0;
  const body = JSON.stringify({ model: status.model, messages: [{ role: "user", content: "Why is the sky blue?" }] });
  setText(byId("example"), `curl ${location.origin}/v1/chat/completions \\\n  -H 'content-type: application/json' \\\n  -d '${body.replaceAll("'", "'\\''")}'`);
}

// The one thing to know.
function headline({ load, totals, variants }) {
  const named = (wanted) => variants.filter((one) => verdict(one) === wanted).map(({ name }) => name);
  const fallen = named("fallen");
  if (load.draining) return "The server is shutting down and takes on nothing new.";
  if (fallen.length) return `${listed(fallen)} left ${fallen.length > 1 ? "their quality budgets and are" : "its quality budget and is"} served dense.`;
  if (load.max_waiting > 0 && load.waiting >= load.max_waiting) return "The queue is full: new requests are refused.";
  const beyond = named("beyond");
  if (beyond.length) return `${listed(beyond)} may leave ${beyond.length > 1 ? "their quality budgets" : "its quality budget"}.`;
  if (totals.requests === 0) return "Ready: no request has come yet.";
  const kept = named("keeps");
  if (!kept.length) return "Serving, with no quality budget at stake.";
  return kept.length > 1 ? `${kept.length} sparse variants keep their quality budgets.` : `${kept[0]} keeps its quality budget.`;
}

function showTiles({ decode_tok_s, prefill_tok_s, load, latency, totals }, points) {
  const best = (quantity) => `at most ${rate(Math.max(...points.map((point) => point[quantity])))} while this page was open`;
  setText(byId("decode"), rate(decode_tok_s));
  setText(byId("decode-note"), best("decode_tok_s"));
  setText(byId("prefill"), rate(prefill_tok_s));
  const reused = totals.prompt_tokens ? `${percent(totals.reused_tokens / totals.prompt_tokens, 0)} of all prompt tokens were known already` : "reused ones not counted";
  setText(byId("prefill-note"), reused);
  setText(byId("running"), count(load.running));
  setText(byId("running-note"), load.waiting ? `${count(load.waiting)} more wait` : "none waits");
  const { p50, p99, count: seen } = latency.first_token_ms;
  setText(byId("first-token"), seen ? duration(p50) : NONE);
  setText(byId("first-token-note"), seen ? `median; ${duration(p99)} for the slowest 1%` : "nothing yet");
}

function showRoom({ load, memory }) {
  const kv_bytes = memory.kv_running_bytes + memory.kv_prefix_bytes;
  const meters = [
    { name: "Answers at once", parts: [[load.running, "load"]], most: load.max_running, text: `${count(load.running)} of ${count(load.max_running)}` },
    { name: "Requests that wait", parts: [[load.waiting, "load"]], most: load.max_waiting, text: `${count(load.waiting)} of ${count(load.max_waiting)}` },
    {
      name: "Keys and values", most: memory.kv_limit_bytes, text: `${bytes(kv_bytes)} of ${bytes(memory.kv_limit_bytes)}`,
      parts: [[memory.kv_running_bytes, "kv"], [memory.kv_prefix_bytes, "kept"]],
    },
  ];
  keyed(byId("room"), meters, ({ name }) => name, makeMeter, updateMeter);
}

function makeMeter({ name, parts }) {
  const head = element("div", { className: "row" }, element("span", { text: name }), element("span"));
  const rail = element("div", { className: "rail-bar", role: "meter", "aria-label": name, "aria-valuemin": 0 }, ...parts.map(() => element("i")));
  return element("div", { className: "meter" }, head, rail);
}

function updateMeter(meter, { parts, most, text }) {
  const rail = meter.lastElementChild;
  const sum = parts.reduce((total, [value]) => total + value, 0);
  setText(meter.firstElementChild.lastElementChild, text);
  setAttribute(rail, "aria-valuenow", sum);
  setAttribute(rail, "aria-valuemax", Math.max(most, sum));
  setAttribute(rail, "aria-valuetext", text);
  parts.forEach(([value, className], at) => {
    const part = rail.children[at];
    part.className = most > 0 && sum >= most ? "full" : className;
    part.style.width = share(value, Math.max(most, sum));
  });
}

const share = (value, whole) => whole > 0 ? `${value / whole * 100}%` : "0";

function showMemory({ resident_bytes, weights_bytes, kv_running_bytes, kv_prefix_bytes }) {
  const known = weights_bytes + kv_running_bytes + kv_prefix_bytes;
  const parts = [
    ["Weights", "weights", weights_bytes],
    ["Keys and values of requests at work", "kv", kv_running_bytes],
    ["Keys and values of kept prompts", "kept", kv_prefix_bytes],
    ["Everything else", "rest", Math.max(0, resident_bytes - known)],
  ];
  const whole = Math.max(resident_bytes, known);
  const bar = byId("memory-bar");
  keyed(bar, parts, ([name]) => name, () => element("i"), (part, [, className, value]) => {
    part.className = className;
    part.style.width = share(value, whole);
  });
  const rows = [["Process", "", resident_bytes], ...parts];
  setAttribute(bar, "aria-label", `Memory: ${rows.map(([name, , value]) => `${name} ${bytes(value)}`).join(", ")}`);
  const cells = rows.flatMap(([name, className, value]) => [{ name, className, head: true }, { name, value }]);
  keyed(byId("memory-key"), cells, ({ name, head }) => name + (head ? "" : ":"), makeKey, (cell, { head, name, value }) => {
    if (!head) setText(cell, name === "Process" && !value ? "not told by the system" : bytes(value));
  });
}

function makeKey({ name, className, head }) {
  if (!head) return element("dd");
  return element("dt", {}, className ? element("span", { className: `swatch ${className}` }, element("span", { text: name })) : name);
}

function showTotals(totals) {
  const rows = [
    ["Requests", totals.requests], ["Answered", totals.finished], ["Cancelled", totals.cancelled],
    ["Failed", totals.failed], ["Refused", totals.refused],
    ["Prompt tokens", totals.prompt_tokens], ["Known already", totals.reused_tokens], ["Answer tokens", totals.answer_tokens],
  ];
  const make = ([name]) => element("div", {}, element("dt", { text: name }), element("dd"));
  keyed(byId("totals"), rows, ([name]) => name, make, (row, [, value]) => setText(row.lastElementChild, count(value)));
}

async function copyExample({ currentTarget: button }) {
  try {
    await navigator.clipboard.writeText(byId("example").textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("example"));
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1600);
}
