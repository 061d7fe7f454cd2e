// Neuron analytics: one mask at a time, lines by layer under the pointer, numbers as CSV.
onChoice("metric", (name) => {
  for (const panel of all("[data-mask]")) panel.hidden = panel.dataset.mask !== name;
});

function readLines(chart) {
  const lines = data.lines[chart.dataset.lines];
  const [from, to] = chart.dataset.x.split(" ").map(Number);
  const last = Math.max(...lines.map((line) => line.values.length)) - 1;
  const cross = chart.querySelector(".cross");
  let layer = 0;
  const show = (y) => {
    const x = last ? from + layer / last * (to - from) : from;
    cross.setAttribute("x1", x);
    cross.setAttribute("x2", x);
    cross.setAttribute("visibility", "visible");
    const box = chart.getBoundingClientRect();
    const rows = lines
      .filter((line) => line.values[layer] !== null && line.values[layer] !== undefined)
      .map((line) => [line.label, percent(line.values[layer]), "", line.slot]);
    showTip(box.left + x * box.width / chart.viewBox.baseVal.width, y ?? box.top + box.height / 2, "Layer " + layer, rows);
  };
  const leave = () => { cross.setAttribute("visibility", "hidden"); hideTip(); };
  const move = (event) => {
    const box = chart.getBoundingClientRect();
    const x = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
    layer = Math.max(0, Math.min(last, Math.round((x - from) / (to - from) * last)));
    show(event.clientY);
  };
  chart.addEventListener("pointermove", move);
  chart.addEventListener("pointerdown", move);
  chart.addEventListener("pointerleave", leave);
  chart.addEventListener("blur", leave);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    layer = Math.max(0, Math.min(last, layer + step));
    show();
  });
}
for (const chart of all("[data-lines]")) readLines(chart);

for (const [id, { columns, rows }] of Object.entries(data.tables)) onCsv(id, () => [columns, ...rows]);

// The map's own numbers, 64 steps of how often each neuron that it draws is kept.
onCsv("activity", () => {
  const rows = [["mask", "layer", "neuron", "kept"]];
  for (const [name, { map, layers }] of Object.entries(data.activity)) {
    for (let i = 0; i < layers.length * data.shown; i++) {
      const kept = Number((levelOf[map.charCodeAt(i)] / 63).toFixed(3));
      rows.push([name, Math.floor(i / data.shown), i % data.shown * data.stride, kept]);
    }
  }
  return rows;
});
