// A table that follows the status: rows keep their elements, cells change their texts.
import { element, keyed, setText } from "./dom.js";

// `columns` are `{ head, note?, className?, fill(cell, item) }`, the first of them heads the rows. Returns what
// takes the items of a new status.
export function liveTable(table, columns, keyOf) {
  const heads = columns.map(({ head, note, className }) => {
    const cell = element("th", { scope: "col", text: head, ...(className && { className }) });
    if (note) cell.append(element("small", { text: note }));
    return cell;
  });
  const body = element("tbody");
  table.append(element("thead", {}, element("tr", {}, ...heads)), body);
  const make = () => element("tr", {}, ...columns.map(cellOf));
  const update = (row, item) => columns.forEach(({ fill }, at) => fill(row.cells[at], item));
  return (items) => keyed(body, items, keyOf, make, update);
}

function cellOf({ className }, at) {
  const cell = at === 0 ? element("th", { scope: "row" }) : element("td");
  if (className) cell.className = className;
  return cell;
}

// A value, with a smaller one below it.
export function fillLines(cell, main, below = "") {
  if (!cell.firstChild) cell.append(element("span"), element("small"));
  setText(cell.firstChild, main);
  setText(cell.lastChild, below);
}
