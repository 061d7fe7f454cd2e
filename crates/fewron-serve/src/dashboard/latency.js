// How long clients wait: percentiles as numbers, and as places on a logarithmic axis.
import { byId, element, fitted, setAttribute, setText, svgElement } from "./dom.js";
import { duration, NONE, plural } from "./format.js";
import { fillLines, liveTable } from "./table.js";

const MEASURES = [
  ["first_token_ms", "First token"],
  ["inter_token_ms", "Token to token"],
  ["request_ms", "Whole request"],
];
const PERCENTILES = ["p50", "p90", "p99"];
const EDGE = 6;

const redraws = new WeakMap();

// Returns what takes a new status.
export function latencyTable() {
  const columns = [
    { head: "", fill: (cell, { name, observed }) => fillLines(cell, name, observed.count ? `${plural(observed.count, "value")}` : "") },
    ...PERCENTILES.map((percentile, at) => ({
      head: ["median", "90%", "99%"][at],
      fill: (cell, { observed }) => { cell.textContent = observed.count ? duration(observed[percentile]) : NONE; },
    })),
    { head: "", className: "plot", fill: spread },
  ];
  const table = byId("figure-latency").querySelector("table");
  const update = liveTable(table, columns, ({ name }) => name);
  table.tHead.rows[0].cells[0].textContent = "From the request to";
  const ends = [element("span"), element("span")];
  table.tHead.rows[0].cells[4].append(element("span", { className: "ends" }, ...ends));
  return ({ latency }) => {
    const axis = axisOf(latency);
    setText(ends[0], decade(axis.low));
    setText(ends[1], decade(axis.high));
    update(MEASURES.map(([key, name]) => ({ name, observed: latency[key], axis })));
  };
}

// Whole decades around all observations.
function axisOf(latency) {
  const values = MEASURES.map(([key]) => latency[key]).filter(({ count }) => count)
    .flatMap((observed) => PERCENTILES.map((percentile) => Math.log10(Math.max(observed[percentile], 0.1))));
  if (!values.length) return { low: 0, high: 3 };
  const low = Math.floor(Math.min(...values));
  return { low, high: Math.max(Math.ceil(Math.max(...values)), low + 1) };
}

// `1 ms`, `10 s`.
const decade = (power) => power < 3 ? `${10 ** power} ms` : `${10 ** (power - 3)} s`;

function spread(cell, { name, observed, axis }) {
  let svg = cell.firstElementChild;
  if (!svg) {
    svg = svgElement("svg", { class: "spread", role: "img" });
    cell.append(svg);
    redraws.set(svg, fitted(svg, (width, height) => svg.replaceChildren(...spreadMarks(svg.measured, width, height))));
  }
  svg.measured = { observed, axis };
  const values = PERCENTILES.map((percentile) => duration(observed[percentile])).join(", ");
  setAttribute(svg, "aria-label", observed.count ? `${name}: ${values} at 50, 90 and 99%` : `${name}: nothing yet`);
  redraws.get(svg)();
}

function spreadMarks({ observed, axis }, width, height) {
  const middle = height / 2;
  const rail = svgElement("line", { class: "rail", x1: 0, x2: width, y1: middle, y2: middle });
  if (!observed.count) return [rail];
  const place = (ms) => EDGE + (Math.log10(Math.max(ms, 0.1)) - axis.low) / (axis.high - axis.low) * (width - 2 * EDGE);
  const [p50, p90, p99] = PERCENTILES.map((percentile) => place(observed[percentile]));
  return [
    rail,
    svgElement("line", { class: "reach", x1: p50, x2: p99, y1: middle, y2: middle }),
    svgElement("line", { class: "open", x1: p99, x2: p99, y1: middle - 5, y2: middle + 5 }),
    svgElement("circle", { class: "open", cx: p90, cy: middle, r: 3.5 }),
    svgElement("circle", { class: "mark", cx: p50, cy: middle, r: 4.5 }),
  ];
}
