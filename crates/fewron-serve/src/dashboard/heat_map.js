// Active share by variant and layer: a table whose cells are coloured, read with the pointer or the arrow keys.
import { byId, element, keyed, setText, swatch } from "./dom.js";
import { percent } from "./format.js";
import { hideTip, showTip, tipOwner } from "./tip.js";
import { slotsOf } from "./verdict.js";

// The scale has 21 steps; up to this one, text is in the ink of low values, so that its contrast is 4.5.
const STEPS = 20;
const LAST_LOW_STEP = 10;
// Narrowest column, in pixels, that holds a number.
const NUMBER_PX = 22;

// Returns what takes a new status.
export function startHeatMap() {
  const table = byId("figure-layers").querySelector("table");
  const head = element("tr");
  const body = element("tbody");
  table.append(element("thead", {}, head), body);
  listen(table);
  let layers;
  new ResizeObserver(() => fitNumbers(table, layers)).observe(table);
  return ({ variants, layers: now }) => {
    if (now !== layers) {
      layers = now;
      table.style.setProperty("--layers", layers);
      head.replaceChildren(element("th", { scope: "col", text: "Layer" }), ...range(layers).map(layerHead));
      body.replaceChildren();
      fitNumbers(table, layers);
    }
    const slots = slotsOf(variants);
    keyed(body, variants, ({ name }) => name, (one) => makeRow(one, slots, layers), updateRow);
    if (!body.querySelector("td[tabindex='0']")) body.querySelector("td")?.setAttribute("tabindex", 0);
    if (table.contains(tipOwner())) tell(tipOwner());
  };
}

const range = (length) => Array.from({ length }, (_, at) => at);

function layerHead(layer) {
  const head = element("th", { scope: "col" }, element("span", { text: layer }));
  if (layer % 5 === 0) head.className = "labelled";
  return head;
}

function fitNumbers(table, layers) {
  const width = table.rows[1]?.cells[1]?.getBoundingClientRect().width ?? table.clientWidth / (layers + 5);
  table.classList.toggle("dense-columns", width < NUMBER_PX);
}

function makeRow({ name }, slots, layers) {
  const cells = range(layers).map(() => element("td", { tabindex: -1 }));
  return element("tr", {}, element("th", { scope: "row" }, swatch(name, slots.get(name))), ...cells);
}

function updateRow(row, { name, active, active_by_layer, policy, requests }) {
  const seen = policy === null || requests > 0;
  row.dataset.total = seen ? `${percent(active)} in all layers` : "no request yet";
  [...row.cells].slice(1).forEach((cell, layer) => {
    const share = seen ? active_by_layer[layer] ?? active : undefined;
    cell.dataset.name = name;
    const step = Math.round((share ?? 0) * STEPS);
    cell.classList.toggle("high", step > LAST_LOW_STEP);
    cell.style.setProperty("--q", step / STEPS * 100);
    setText(cell, share === undefined ? "–" : (share * 100).toFixed(0));
    cell.dataset.share = share === undefined ? "–" : percent(share);
  });
}

function tell(cell) {
  const box = cell.getBoundingClientRect();
  const rows = [["Active in this layer", cell.dataset.share], ["Variant", cell.parentElement.dataset.total]];
  showTip(cell, box.right - 8, box.top + box.height / 2, `${cell.dataset.name}, layer ${cell.cellIndex - 1}`, rows);
}

function listen(table) {
  const cellOf = (event) => event.target.closest("td");
  for (const type of ["pointerover", "focusin"]) {
    table.addEventListener(type, (event) => { if (cellOf(event)) tell(cellOf(event)); });
  }
  table.addEventListener("pointerleave", hideTip);
  table.addEventListener("focusout", hideTip);
  table.addEventListener("keydown", (event) => {
    const [down, right] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key] ?? [];
    const cell = cellOf(event);
    if (down === undefined || !cell) return;
    event.preventDefault();
    focusCell(table, cell, table.tBodies[0].rows[cell.parentElement.sectionRowIndex + down]?.cells[cell.cellIndex + right]);
  });
}

function focusCell(table, from, to) {
  if (to?.tagName !== "TD") return;
  from.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
  tell(to);
}
