// History: which figures and rows show, and whether runs stand in order or by time.
const picked = { model: "", task: "" };

const matches = (part) => Object.entries(picked).every(([name, value]) => !value || part.dataset[name] === value);

function filter() {
  const figures = all("figure[data-model]");
  for (const figure of figures) figure.hidden = !matches(figure);
  for (const group of all("[data-group]")) group.hidden = all("figure", group).every((figure) => figure.hidden);
  for (const row of all("tr[data-model]")) row.hidden = !matches(row) || !shown.has(row.dataset.series);
  const left = figures.filter((figure) => !figure.hidden).length;
  byId("found").textContent = left + " of " + figures.length + " figures, " + all("tr[data-model]:not([hidden])").length + " values";
}

for (const select of all(".filters select")) {
  select.addEventListener("change", () => {
    picked[select.name] = select.value;
    filter();
  });
}
shownListeners.push(filter);

// Dots know both places; lines go through their dots.
function move(across) {
  for (const series of all(".many g.series")) {
    const places = all(".dot", series).map((dot) => {
      const x = dot.dataset.across.split(" ")[across === "time" ? 1 : 0];
      const y = dot.getAttribute("transform").split(" ")[1].replace(")", "");
      dot.setAttribute("transform", "translate(" + x + " " + y + ")");
      return x + "," + y;
    });
    series.querySelector(".line")?.setAttribute("points", places.join(" "));
  }
}
onChoice("across", move);
if (byId("found")) filter();
