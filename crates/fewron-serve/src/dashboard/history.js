// Curves of the last minutes, read by a cross line.
import { fitted, setAttribute, svgElement } from "./dom.js";
import { clock, rate } from "./format.js";
import { hideTip, showTip, tipOwner } from "./tip.js";

// What a chart spans: the least that holds all it knows.
const SPANS_S = [60, 120, 300];
const TIMES = { 60: ["1 min ago", "30 s ago"], 120: ["2 min ago", "1 min ago"], 300: ["5 min ago", "150 s ago"] };
const GAP_S = 5;
const MARGIN = { left: 44, right: 8, top: 10, bottom: 24 };

// Adds `status` to `points` and forgets what is too old.
export function remember(points, status) {
  if (points.at(-1)?.time_s >= status.time_s) return;
  points.push(status);
  while (points[0].time_s < status.time_s - SPANS_S.at(-1)) points.shift();
}

// A chart of `quantity` of `points`. Returns how to draw it again.
export function historyChart(svg, points, quantity, name) {
  let chosen;
  const redraw = fitted(svg, (width, height) => {
    const scale = scaleOf(points, quantity, width, height);
    svg.replaceChildren(...grid(scale), ...curve(points, quantity, scale), ...cross(points[chosen], quantity, scale));
    setAttribute(svg, "aria-label", label(points, quantity, name));
  });
  const tell = () => {
    redraw();
    const point = points[chosen];
    const box = svg.getBoundingClientRect();
    const scale = scaleOf(points, quantity, box.width, box.height);
    const rows = [[name, `${rate(point[quantity])} tok/s`], ["At work", String(point.load.running)]];
    showTip(svg, box.left + scale.x(point.time_s), box.top + box.height / 2, clock(point.time_s), rows);
  };
  const leave = () => {
    chosen = undefined;
    if (tipOwner() === svg) hideTip();
    redraw();
  };
  const point = (event) => {
    if (!points.length) return;
    const box = svg.getBoundingClientRect();
    chosen = nearest(points, scaleOf(points, quantity, box.width, box.height), event.clientX - box.left);
    tell();
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !points.length) return;
    event.preventDefault();
    chosen = Math.max(0, Math.min(points.length - 1, (chosen ?? points.length) + step));
    tell();
  });
  return () => {
    if (chosen !== undefined) chosen = Math.min(chosen, points.length - 1);
    redraw();
  };
}

function scaleOf(points, quantity, width, height) {
  const now = points.at(-1)?.time_s ?? 0;
  const known_s = now - (points[0]?.time_s ?? 0);
  const span_s = SPANS_S.find((span) => known_s <= span) ?? SPANS_S.at(-1);
  const top = roundUp(Math.max(1, ...points.map((point) => point[quantity])));
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  return {
    top, right, bottom, span_s, left: MARGIN.left,
    x: (time_s) => right - (now - time_s) / span_s * (right - MARGIN.left),
    y: (value) => bottom - value / top * (bottom - MARGIN.top),
  };
}

// The next of 1, 2, 4, 5, 10, … in its decade.
function roundUp(value) {
  const decade = 10 ** Math.floor(Math.log10(value));
  return decade * [1, 2, 4, 5, 10].find((step) => step * decade >= value);
}

function grid({ left, right, bottom, top, y, span_s }) {
  const values = [0, 0.5, 1].flatMap((share) => [
    svgElement("line", { class: "grid", x1: left, x2: right, y1: y(share * top), y2: y(share * top) }),
    svgElement("text", { x: left - 8, y: y(share * top) + 4, "text-anchor": "end" }, String(Number((share * top).toFixed(1)))),
  ]);
  const [first, middle] = TIMES[span_s];
  const times = [[left, "start", first], [(left + right) / 2, "middle", middle], [right, "end", "now"]];
  return [...values, ...times.map(([x, anchor, text]) => svgElement("text", { x, y: bottom + 18, "text-anchor": anchor }, text))];
}

// Lines with a shade below them, broken where nothing was heard.
function curve(points, quantity, { x, y, bottom }) {
  const runs = [];
  points.forEach((point, at) => {
    if (at === 0 || point.time_s - points[at - 1].time_s > GAP_S) runs.push([]);
    runs.at(-1).push(`${x(point.time_s).toFixed(1)},${y(point[quantity]).toFixed(1)}`);
  });
  const drawn = runs.flatMap((run) => {
    const [first, last] = [run[0], run.at(-1)].map((place) => place.split(",")[0]);
    return [
      svgElement("polygon", { class: "band", points: `${first},${bottom} ${run.join(" ")} ${last},${bottom}` }),
      svgElement("polyline", { class: "line", points: run.join(" ") }),
    ];
  });
  const last = points.at(-1);
  if (last) drawn.push(svgElement("circle", { class: "now mark", cx: x(last.time_s), cy: y(last[quantity]), r: 3.5 }));
  return drawn;
}

function cross(point, quantity, { x, y, bottom }) {
  if (!point) return [];
  const at = x(point.time_s);
  return [
    svgElement("line", { class: "cross", x1: at, x2: at, y1: MARGIN.top, y2: bottom }),
    svgElement("circle", { class: "now", cx: at, cy: y(point[quantity]), r: 3.5 }),
  ];
}

function nearest(points, { x }, place) {
  const distance = (at) => Math.abs(x(points[at].time_s) - place);
  return points.reduce((best, _, at) => distance(at) < distance(best) ? at : best, 0);
}

function label(points, quantity, name) {
  if (!points.length) return `${name} a second: nothing yet`;
  const values = points.map((point) => point[quantity]);
  const seconds = Math.round(points.at(-1).time_s - points[0].time_s);
  return `${name} a second over the last ${seconds} s: now ${rate(values.at(-1))}, between ${rate(Math.min(...values))} and ${rate(Math.max(...values))}`;
}
