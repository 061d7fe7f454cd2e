// The quality monitor: measures against their limits, the alarm, re-arming.
import { post } from "./api.js";
import { byId, element, fitted, keyed, setAttribute, setText, svgElement, swatch } from "./dom.js";
import { divergence, interval, percent, plural, shortPercent } from "./format.js";
import { agreementBeyond, divergenceBeyond, hasLimit, listed, slotsOf, verdict, verdictWords } from "./verdict.js";

const parts = new WeakMap();

// Returns what takes a new status.
export function startQuality() {
  startRearm();
  return ({ variants }) => {
    const slots = slotsOf(variants);
    const watched = variants.filter(({ quality }) => quality !== null);
    const axes = axesOf(watched);
    keyed(byId("guards"), watched, ({ name }) => name, (one) => makeCard(one, slots), (card, one) => updateCard(card, one, axes));
    byId("no-guards").hidden = watched.length > 0;
    showAlarm(variants.filter(({ fallen_back }) => fallen_back).map(({ name }) => name));
  };
}

function showAlarm(fallen) {
  const alarm = byId("alarm");
  if (alarm.dataset.names === fallen.join("\n")) return;
  alarm.dataset.names = fallen.join("\n");
  if (!fallen.length) return alarm.replaceChildren();
  const text = fallen.length > 1 ? " left their quality budgets. Their requests are answered by the dense model. " : " left its quality budget. Its requests are answered by the dense model. ";
  alarm.replaceChildren(element("p", {}, element("b", { text: listed(fallen) }), text, element("a", { href: "#quality", text: "What the monitor found" })));
}

// All cards share their axes.
function axesOf(watched) {
  const scored = watched.map(({ quality }) => quality).filter(({ tokens }) => tokens > 0);
  const lows = watched.map(({ quality }) => quality.min_agreement).filter(Boolean).concat(scored.map(({ agreement }) => agreement.low ?? agreement.mean));
  const highs = watched.map(({ quality }) => quality.max_kl ?? 0).concat(scored.map(({ kl }) => kl.high ?? kl.mean));
  return {
    agreement: { low: Math.max(0, Math.floor(Math.min(0.9, ...lows) * 20 - 0.5) / 20), high: 1 },
    kl: { low: 0, high: Math.max(0.01, ...highs) * 1.15 },
  };
}

function makeCard({ name }, slots) {
  const slot = slots.get(name);
  const card = element("article", { className: `card s${slot}` });
  const made = {
    badge: element("span"),
    agreement: makeMeasure("Agreement", percent),
    kl: makeMeasure("Divergence, nats", divergence),
    note: element("p", { className: "note" }),
    button: element("button", { type: "button", text: "Serve it sparse again…" }),
  };
  made.button.addEventListener("click", () => askRearm(name));
  parts.set(card, made);
  card.append(element("header", {}, element("h4", {}, swatch(name, slot)), made.badge));
  card.append(...made.agreement.nodes, ...made.kl.nodes, made.note, made.button);
  return card;
}

function makeMeasure(name, format) {
  const value = element("b");
  const range = element("span");
  const line = element("p", { className: "measure" }, element("span", { text: name }), element("span", {}, value, " ", range));
  const svg = svgElement("svg", { class: "interval", role: "img" });
  const made = { name, format, value, range, svg, nodes: [line, svg], drawn: undefined };
  made.redraw = fitted(svg, (width) => made.drawn && svg.replaceChildren(...intervalMarks(made.drawn, width)));
  return made;
}

function updateCard(card, variant, axes) {
  const { quality, fallen_back } = variant;
  const { badge, agreement, kl, note, button } = parts.get(card);
  card.classList.toggle("fallen", fallen_back);
  const state = verdict(variant);
  badge.className = ["fallen", "beyond"].includes(state) ? "badge bad" : "badge";
  setText(badge, verdictWords[state]);
  const scored = quality.tokens > 0;
  const limit = quality.min_agreement > 0 ? { value: quality.min_agreement, text: `at least ${shortPercent(quality.min_agreement)}` } : undefined;
  updateMeasure(agreement, { scored, measured: quality.agreement, limit, axis: axes.agreement, beyond: agreementBeyond(quality), good: "high" });
  const most = quality.max_kl === null ? undefined : { value: quality.max_kl, text: `at most ${quality.max_kl}` };
  updateMeasure(kl, { scored, measured: quality.kl, limit: most, axis: axes.kl, beyond: divergenceBeyond(quality), good: "low" });
  setText(note, scoredWords(quality));
  button.hidden = !fallen_back;
}

function scoredWords(quality) {
  const { tokens, answers, waiting_tokens } = quality;
  const scored = tokens ? `${plural(tokens, "token")} of ${plural(answers, "answer")} scored` : "Nothing scored yet";
  const waiting = waiting_tokens ? `; ${plural(waiting_tokens, "token")} ${waiting_tokens === 1 ? "waits" : "wait"}` : "";
  return `${scored}${waiting}.${hasLimit(quality) ? "" : " No limit is set: it is never turned off."}`;
}

function updateMeasure(measure, drawn) {
  const { name, format, value, range, svg } = measure;
  const { scored, measured, limit, beyond } = drawn;
  setText(value, scored ? format(measured.mean) : "–");
  value.className = scored && beyond ? "beyond" : "";
  setText(range, scored ? interval(measured, format) : "");
  const told = scored ? `${format(measured.mean)}, 95% interval ${interval(measured, format) || "not known"}` : "not scored yet";
  setAttribute(svg, "aria-label", `${name}: ${told}; ${limit ? `limit ${limit.text}` : "no limit"}`);
  measure.drawn = { ...drawn, format };
  measure.redraw();
}

const EDGE = 5;
const RAIL = 13;

// The allowed side of the limit, the interval with its mean, and the ends of the axis.
function intervalMarks({ scored, measured, limit, axis, good, format }, width) {
  const share = (value) => Math.max(0, Math.min(1, (value - axis.low) / (axis.high - axis.low)));
  const x = (value) => EDGE + share(value) * (width - 2 * EDGE);
  const marks = [svgElement("line", { class: "rail", x1: 0, x2: width, y1: RAIL, y2: RAIL })];
  if (limit) {
    const at = x(limit.value);
    const [from, to] = good === "high" ? [at, width] : [0, at];
    marks.unshift(svgElement("rect", { class: "allowed", x: from, y: 3, width: to - from, height: 20, rx: 2 }));
    marks.push(svgElement("line", { class: "limit", x1: at, x2: at, y1: 1, y2: 25 }));
  }
  if (scored) {
    const { mean, low, high } = measured;
    marks.push(svgElement("line", { class: "reach", x1: x(low ?? mean), x2: x(high ?? mean), y1: RAIL, y2: RAIL }));
    marks.push(svgElement("circle", { class: "mark", cx: x(mean), cy: RAIL, r: 5 }));
  }
  return [...marks, ...axisTexts({ limit, axis, good, format, x }, width)];
}

function axisTexts({ limit, axis, good, format, x }, width) {
  const ends = good === "high" ? [shortPercent(axis.low), "100%"] : ["0", format(axis.high)];
  const texts = [svgElement("text", { x: 0, y: 40 }, ends[0]), svgElement("text", { x: width, y: 40, "text-anchor": "end" }, ends[1])];
  if (!limit) return texts;
  // The limit's words stand clear of the ends'.
  const at = Math.max(96, Math.min(width - 96, x(limit.value)));
  return [...texts, svgElement("text", { x: at, y: 40, "text-anchor": "middle" }, limit.text)];
}

let asked;

function askRearm(name) {
  asked = name;
  byId("rearm-name").textContent = name;
  byId("rearm-error").textContent = "";
  byId("rearm").showModal();
}

function startRearm() {
  const go = byId("rearm-go");
  go.addEventListener("click", async () => {
    go.disabled = true;
    try {
      await post("/fewron/rearm", { variant: asked });
      byId("rearm").close();
    } catch (error) {
      byId("rearm-error").textContent = `It did not work: ${error.message}`;
    } finally {
      go.disabled = false;
    }
  });
}
