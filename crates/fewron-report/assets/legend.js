// Legend: buttons that show and hide a series in all charts.
const shown = new Set(all("[data-toggle]").map((button) => button.dataset.toggle));
const shownListeners = [];

const partsOf = (label) => all("[data-series]").filter((part) => part.dataset.series === label && part.closest(".chart"));

for (const button of all("[data-toggle]")) {
  const label = button.dataset.toggle;
  button.addEventListener("click", () => {
    const on = !shown.has(label);
    if (on) shown.add(label);
    else shown.delete(label);
    button.setAttribute("aria-pressed", on);
    for (const part of partsOf(label)) part.classList.toggle("off", !on);
    for (const listener of shownListeners) listener();
  });
  const dim = (on) => {
    for (const part of all(".chart [data-series]")) part.classList.toggle("dim", on && part.dataset.series !== label);
  };
  button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") dim(true); });
  button.addEventListener("pointerleave", () => dim(false));
}
