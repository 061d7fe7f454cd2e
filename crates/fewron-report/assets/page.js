"use strict";
// Data, tooltip, theme, selectors, sortable table, copy button. Figures follow.
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const percent = (share, digits = 1) => share === null ? "–" : (share * 100).toFixed(digits) + "%";
const ratioText = (ratio) => Number((ratio * 100).toFixed(1)) + "%";

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function svgElement(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Tooltip: a title and rows of [name, value, aside], placed beside a point of the window.
const tip = byId("tip");

function showTip(x, y, title, rows) {
  const pairs = element("div", undefined, "pairs");
  for (const [name, value, aside, slot] of rows) {
    const label = element("span", name, slot === undefined ? "" : "swatch s" + slot);
    pairs.append(label, element("span", value), element("span", aside || ""));
  }
  tip.replaceChildren(element("strong", title), pairs);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 18 + box.width > innerWidth - 8 ? x - 18 - box.width : x + 18;
  tip.style.left = Math.max(8, Math.min(left, innerWidth - box.width - 8)) + "px";
  tip.style.top = Math.max(8, Math.min(y - box.height / 2, innerHeight - box.height - 8)) + "px";
}

function hideTip() {
  tip.hidden = true;
}
addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
addEventListener("scroll", hideTip, { passive: true });

// Choices: a group of buttons with one pressed; `onChoice(name, f)` hears of changes. Panels of a choice
// show while it has their value. Without scripts all of them show, or those that were not hidden.
const choices = {};
const listeners = {};
const onChoice = (name, listener) => (listeners[name] ||= []).push(listener);

function showPanels(name) {
  for (const panel of all(`[data-panel="${name}"]`)) {
    const on = panel.dataset.value === choices[name];
    if (panel instanceof SVGElement) panel.setAttribute("visibility", on ? "visible" : "hidden");
    else panel.hidden = !on;
  }
}

for (const group of all("[data-selector]")) {
  const buttons = all("button", group);
  const name = group.dataset.selector;
  choices[name] = buttons.find((b) => b.getAttribute("aria-pressed") === "true")?.dataset.value;
  showPanels(name);
  group.addEventListener("click", (event) => {
    const chosen = event.target.closest("button");
    if (!chosen) return;
    for (const button of buttons) button.setAttribute("aria-pressed", button === chosen);
    choices[name] = chosen.dataset.value;
    showPanels(name);
    for (const listener of listeners[name] || []) listener(chosen.dataset.value);
  });
}

// Theme: the system's until the reader chooses; remembered where the browser allows it.
const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const themeListeners = [];
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;

function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  byId("theme").setAttribute("aria-pressed", isDark());
  for (const listener of themeListeners) listener();
}

function storedTheme(value) {
  try {
    if (value) localStorage.setItem("fewron-theme", value);
    const theme = localStorage.getItem("fewron-theme");
    return theme === "dark" || theme === "light" ? theme : undefined;
  } catch {
    return undefined;
  }
}
byId("theme").addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  storedTheme(theme);
  setTheme(theme);
});
systemDark.addEventListener("change", () => setTheme(root.dataset.theme));
setTheme(storedTheme());

// Paper is light whatever the screen is.
let screenTheme;
addEventListener("beforeprint", () => { screenTheme = root.dataset.theme; setTheme("light"); });
addEventListener("afterprint", () => setTheme(screenTheme));

// Table: numbers sort by their unrounded value, the largest first; a second press turns the order round.
// What has no value goes last.
function sortBy(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const rows = [...table.tBodies[0].rows];
  const key = (row) => row.cells[column].dataset.v ?? "";
  const numbers = rows.every((row) => Number.isFinite(Number(key(row))));
  const state = head.getAttribute("aria-sort");
  const falling = state === "none" ? numbers : state === "ascending";
  for (const cell of table.tHead.rows[0].cells) if (cell.hasAttribute("aria-sort")) cell.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const compare = (a, b) => numbers ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b));
  rows.sort((a, b) => (key(a) === "") - (key(b) === "") || (falling ? compare(b, a) : compare(a, b)));
  table.tBodies[0].append(...rows);
}

for (const table of all("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const cell = event.target.closest("th");
    if (cell && event.target.closest("button")) sortBy(table, cell.cellIndex);
  });
}

for (const button of all("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
}
