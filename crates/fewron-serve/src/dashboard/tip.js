// The tooltip: a title and rows of [name, value], beside a point of the window.
import { byId, element } from "./dom.js";

const tip = byId("tip");
let owner;

export function showTip(node, x, y, title, rows) {
  owner = node;
  const pairs = element("div", { className: "pairs" });
  for (const [name, value] of rows) pairs.append(element("span", { text: name }), element("span", { text: value }));
  tip.replaceChildren(element("strong", { text: title }), pairs);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 18 + box.width > innerWidth - 8 ? x - 18 - box.width : x + 18;
  tip.style.left = `${Math.max(8, Math.min(left, innerWidth - box.width - 8))}px`;
  tip.style.top = `${Math.max(8, Math.min(y - box.height / 2, innerHeight - box.height - 8))}px`;
}

export function hideTip() {
  owner = undefined;
  tip.hidden = true;
}

// The element that the tooltip tells about.
export const tipOwner = () => owner;

addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
addEventListener("scroll", hideTip, { passive: true });
