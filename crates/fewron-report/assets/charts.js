// Curves: a cross line that reads all series at a ratio.
const formats = {
  agreement: (v) => percent(v),
  bleu: (v) => v === null ? "–" : v.toFixed(1),
  kl: (v) => v === null ? "–" : v < 0.1 ? v.toFixed(4) : v.toFixed(3),
};

// The series that a chart draws.
function seriesOf(chart) {
  const labels = new Set([...chart.querySelectorAll("[data-series]")].map((part) => part.dataset.series));
  return data.series.filter((one) => labels.has(one.label));
}

function readAt(chart, series, ratio) {
  const [first, last, from, to] = chart.dataset.x.split(" ").map(Number);
  const quantity = chart.dataset.quantity;
  const x = from + (ratio - first) / (last - first) * (to - from);
  const cross = chart.querySelector(".cross");
  cross.setAttribute("x1", x);
  cross.setAttribute("x2", x);
  cross.setAttribute("visibility", "visible");
  const better = quantity === "kl" ? 1 : -1;
  const rows = series
    .filter((one) => shown.has(one.label))
    .map((one) => [one, one.points.find((p) => p.ratio === ratio)])
    .filter(([, point]) => point && point[quantity][0] !== null)
    .sort(([, a], [, b]) => better * (a[quantity][0] - b[quantity][0]))
    .map(([one, point]) => {
      const [mean, low, high] = point[quantity].map(formats[quantity]);
      return [one.label, mean, "[" + low + ", " + high + "]", one.slot];
    });
  const box = chart.getBoundingClientRect();
  const scale = box.width / chart.viewBox.baseVal.width;
  return { rows, title: "At " + ratioText(ratio) + " sparsity", x: box.left + x * scale, y: box.top + box.height / 2 };
}

for (const chart of all(".chart[data-quantity]")) {
  const series = seriesOf(chart);
  const ratioList = [...new Set(series.flatMap((one) => one.points.map((p) => p.ratio)))].sort((a, b) => a - b);
  let index = ratioList.length - 1;
  const show = (y) => {
    const read = readAt(chart, series, ratioList[index]);
    if (read.rows.length) showTip(read.x, y ?? read.y, read.title, read.rows);
  };
  const leave = () => {
    chart.querySelector(".cross").setAttribute("visibility", "hidden");
    hideTip();
  };
  const move = (event) => {
    const box = chart.getBoundingClientRect();
    const [first, last, from, to] = chart.dataset.x.split(" ").map(Number);
    const x = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
    const ratio = first + (x - from) / (to - from) * (last - first);
    const distance = (i) => Math.abs(ratioList[i] - ratio);
    index = ratioList.reduce((best, _, i) => distance(i) < distance(best) ? i : best, 0);
    show(event.clientY);
  };
  if (!ratioList.length) continue;
  chart.addEventListener("pointermove", move);
  chart.addEventListener("pointerdown", move);
  chart.addEventListener("pointerleave", leave);
  chart.addEventListener("blur", leave);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    index = Math.max(0, Math.min(ratioList.length - 1, index + step));
    show();
  });
}
