// Heat maps: kept share by layer and ratio, neurons, heads. Redrawn on resize, theme and choice.
const heatClass = (share) => "q" + Math.round(Math.max(0, Math.min(1, share)) * 20);
const range = (count) => Array.from({ length: count }, (_, i) => i);

function setLegend(host, low, high) {
  const ends = all(".legend > span:not(.ramp)", host.closest("figure"));
  ends[0].textContent = low;
  ends[1].textContent = high;
}

function missing(host, text) {
  host.replaceChildren(element("p", text, "missing"));
}

// A grid of cells. `spec`: rows, columns (labels), share(r, c) in 0..1, tip(r, c), title, across.
function drawGrid(host, spec) {
  const width = Math.max(280, host.clientWidth);
  const left = 44;
  const cellWidth = (width - left) / spec.columns.length;
  const rowHeight = spec.rowHeight || 26;
  const bottom = spec.rows.length * rowHeight;
  const svg = svgElement("svg", {
    viewBox: "0 0 " + width + " " + (bottom + 40), role: "img", tabindex: 0, "aria-label": spec.title,
  });
  svg.append(svgElement("title", {}, spec.title));
  const every = Math.max(1, Math.ceil(spec.columns.length / Math.floor((width - left) / 34)));
  spec.rows.forEach((row, r) => {
    svg.append(svgElement("text", { x: left - 8, y: (r + 0.5) * rowHeight + 4, "text-anchor": "end" }, row));
    spec.columns.forEach((_, c) => svg.append(svgElement("rect", {
      x: left + c * cellWidth, y: r * rowHeight, width: Math.max(1, cellWidth - 1), height: rowHeight - 1,
      class: "cell " + heatClass(spec.share(r, c)), "data-r": r, "data-c": c,
    })));
  });
  spec.columns.forEach((column, c) => {
    if (c % every) return;
    svg.append(svgElement("text", { x: left + (c + 0.5) * cellWidth, y: bottom + 16, "text-anchor": "middle" }, column));
  });
  svg.append(svgElement("text", { x: left + (width - left) / 2, y: bottom + 36, "text-anchor": "middle" }, spec.across));
  const cursor = svgElement("rect", { class: "cursor", width: Math.max(1, cellWidth - 1), height: rowHeight - 1, visibility: "hidden" });
  svg.append(cursor);
  host.replaceChildren(svg);
  readGrid(svg, cursor, spec);
}

function readGrid(svg, cursor, spec) {
  let r = 0, c = -1;
  const show = (cell) => {
    const box = cell.getBoundingClientRect();
    const [title, rows] = spec.tip(Number(cell.dataset.r), Number(cell.dataset.c));
    showTip(box.right, box.top + box.height / 2, title, rows);
  };
  const point = (event) => {
    const cell = event.target.closest(".cell");
    if (cell) show(cell);
    else hideTip();
  };
  const leave = () => { cursor.setAttribute("visibility", "hidden"); hideTip(); };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    r = Math.max(0, Math.min(spec.rows.length - 1, r + step[0]));
    c = Math.max(0, Math.min(spec.columns.length - 1, c + step[1]));
    const cell = svg.querySelector(`[data-r="${r}"][data-c="${c}"]`);
    cursor.setAttribute("x", cell.getAttribute("x"));
    cursor.setAttribute("y", cell.getAttribute("y"));
    cursor.setAttribute("visibility", "visible");
    show(cell);
  });
}

function drawKept() {
  const host = byId("kept-map");
  if (!host) return;
  const rows = data.kept[choices.metric]?.[choices.kind];
  if (!rows) return missing(host, "No map of this kind was recorded for " + choices.metric + ".");
  const units = choices.kind === "heads" ? "heads" : "MLP neurons";
  const relative = choices.scale === "relative";
  const means = rows.map((row) => row.layers.reduce((sum, v) => sum + v, 0) / row.layers.length);
  setLegend(host, relative ? "0" : "none", relative ? "twice the mean of the ratio" : "all");
  drawGrid(host, {
    rows: rows.map((row) => ratioText(row.ratio)),
    columns: range(Math.max(...rows.map((row) => row.layers.length))),
    share: (r, c) => relative ? rows[r].layers[c] / means[r] / 2 : rows[r].layers[c] ?? 0,
    tip: (r, c) => ["Layer " + c + " at " + ratioText(rows[r].ratio), [
      ["kept", percent(rows[r].layers[c])],
      ["mean of all layers", percent(means[r])],
    ]],
    title: "Share of " + units + " kept by " + choices.metric + ", by layer and sparsity",
    across: "layer",
  });
}

function drawHeads() {
  const host = byId("head-map");
  if (!host) return;
  const layers = data.heads[choices.metric];
  if (!layers) return missing(host, "No head scores were recorded for " + choices.metric + ".");
  const most = Math.max(...layers.flat());
  setLegend(host, "0%", percent(most, 0));
  drawGrid(host, {
    rows: range(Math.max(...layers.map((heads) => heads.length))).map((head) => "h" + head),
    columns: range(layers.length),
    rowHeight: 22,
    share: (r, c) => (layers[c][r] ?? 0) / most,
    tip: (r, c) => ["Layer " + c + ", head " + r, [["share of the score", percent(layers[c][r] ?? null)]]],
    title: "Share of each layer’s head score by head, " + choices.metric,
    across: "layer",
  });
}

// Neurons: one character each, 64 levels, a row of the canvas per layer.
const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const levelOf = new Uint8Array(128);
for (let level = 0; level < 64; level++) levelOf[LEVELS.charCodeAt(level)] = level;
const TOP = 22, LEFT = 44, FOOT = 24;

function activityRows(name) {
  const text = data.activity[name].map;
  const count = data.activity[name].layers.length;
  return range(count).map((layer) => {
    const row = new Uint8Array(data.shown);
    for (let i = 0; i < data.shown; i++) row[i] = levelOf[text.charCodeAt(layer * data.shown + i)];
    return choices.order === "sorted" ? row.sort().reverse() : row;
  });
}

// The 64 colours of the scale, read from the style sheet so that they follow the theme.
function palette() {
  const probe = element("i");
  document.body.append(probe);
  const stops = range(21).map((step) => {
    probe.className = "q" + step;
    return getComputedStyle(probe).backgroundColor.match(/[\d.]+/g).slice(0, 3).map(Number);
  });
  const unit = getComputedStyle(probe).backgroundColor.startsWith("color(") ? 255 : 1;
  probe.remove();
  return range(64).map((level) => {
    const place = level / 63 * 20;
    const [a, b] = [stops[Math.floor(place)], stops[Math.ceil(place)]];
    return a.map((v, i) => (v + (b[i] - v) * (place % 1)) * unit);
  });
}

const pitch = (layers) => Math.max(6, Math.min(16, Math.round(480 / layers)));

function drawActivity() {
  const canvas = byId("activity-map");
  if (!canvas) return;
  const summary = byId("activity-summary");
  canvas.hidden = !data.activity[choices.metric];
  if (canvas.hidden) return missing(summary, "No neuron map was recorded for " + choices.metric + ".");
  const rows = activityRows(choices.metric);
  const scale = Math.max(1, devicePixelRatio || 1);
  const width = canvas.parentElement.clientWidth;
  const step = pitch(rows.length);
  const height = TOP + rows.length * step + FOOT;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = height + "px";
  const context = canvas.getContext("2d");
  paintRows(context, rows, Math.round(LEFT * scale), Math.round(TOP * scale), Math.round(step * scale));
  context.scale(scale, scale);
  context.fillStyle = getComputedStyle(byId("kept").querySelector(".note")).color;
  context.font = "12px " + getComputedStyle(document.body).fontFamily;
  const sorted = choices.order === "sorted";
  context.fillText(sorted ? "most often kept" : "neuron 0", LEFT, TOP - 8);
  context.textAlign = "right";
  context.fillText(sorted ? "least often kept" : "neuron " + (data.neurons - 1), width, TOP - 8);
  for (let layer = 0; layer < rows.length; layer += 5) context.fillText(layer, LEFT - 8, TOP + (layer + 0.5) * step + 4);
  drawSummary(summary, data.activity[choices.metric].layers, isStacked(summary, canvas) ? 7 : step);
}

// On a phone the summary stands below the map and need not keep level with it.
const isStacked = (summary, canvas) => summary.getBoundingClientRect().top > canvas.getBoundingClientRect().top + TOP;

function paintRows(context, rows, left, top, step) {
  const colours = palette();
  const columns = context.canvas.width - left;
  const image = context.createImageData(columns, 1);
  rows.forEach((row, layer) => {
    for (let x = 0; x < columns; x++) {
      const from = Math.floor(x * row.length / columns);
      const to = Math.max(from + 1, Math.floor((x + 1) * row.length / columns));
      let sum = 0;
      for (let i = from; i < to; i++) sum += row[i];
      const colour = colours[Math.round(sum / (to - from))];
      image.data.set([colour[0], colour[1], colour[2], 255], x * 4);
    }
    for (let y = 0; y < step - 1; y++) context.putImageData(image, left, top + layer * step + y);
  });
}

// Per layer: hot, sometimes, never; rows level with the canvas.
function drawSummary(host, layers, step) {
  const width = Math.max(160, host.clientWidth);
  const height = TOP + layers.length * step + FOOT;
  const title = "Per layer: neurons kept at nine tokens in ten, sometimes, and never";
  const svg = svgElement("svg", { viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": title });
  svg.append(svgElement("title", {}, title));
  svg.append(svgElement("text", { x: 0, y: TOP - 8 }, "hot"));
  svg.append(svgElement("text", { x: width / 2, y: TOP - 8, "text-anchor": "middle" }, "sometimes"));
  svg.append(svgElement("text", { x: width, y: TOP - 8, "text-anchor": "end" }, "never"));
  layers.forEach(([never, always, hot, mean], layer) => {
    let x = 0;
    for (const [name, share] of [["hot", hot], ["rest", 1 - hot - never], ["never", never]]) {
      svg.append(svgElement("rect", { class: name + " cell", x, y: TOP + layer * step, width: Math.max(0, share * width), height: step - 1 }));
      x += share * width;
    }
    const hit = svgElement("rect", { x: 0, y: TOP + layer * step, width, height: step, fill: "transparent" });
    hit.addEventListener("pointermove", (event) => showTip(event.clientX, event.clientY, "Layer " + layer, layerRows(never, always, hot, mean)));
    hit.addEventListener("pointerleave", hideTip);
    svg.append(hit);
  });
  const mean = (index) => layers.reduce((sum, row) => sum + row[index], 0) / layers.length;
  svg.append(svgElement("text", { x: 0, y: height - 6 }, "all: " + percent(mean(2), 0) + " hot, " + percent(mean(0), 0) + " never"));
  host.replaceChildren(svg);
}

const layerRows = (never, always, hot, mean) => [
  ["always kept", percent(always)], ["hot (≥ 90%)", percent(hot)], ["never kept", percent(never)], ["mean share", percent(mean)],
];

function readActivity(canvas) {
  let layer = -1;
  const show = (x, y) => {
    const layers = data.activity[choices.metric].layers;
    if (layer < 0 || layer >= layers.length) return hideTip();
    showTip(x, y, "Layer " + layer, layerRows(...layers[layer]));
  };
  canvas.addEventListener("pointermove", (event) => {
    const step = pitch(data.activity[choices.metric].layers.length);
    layer = Math.floor((event.offsetY - TOP) / step);
    show(event.clientX, event.clientY);
  });
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("blur", hideTip);
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const layers = data.activity[choices.metric].layers.length;
    layer = Math.max(0, Math.min(layers - 1, layer + move));
    const box = canvas.getBoundingClientRect();
    show(box.left + LEFT, box.top + TOP + (layer + 0.5) * pitch(layers));
  });
}

function markOverlap() {
  for (const head of all(".matrix th")) head.classList.toggle("chosen", head.textContent.replace("†", "") === choices.metric);
}

function drawMaps() {
  drawKept();
  drawActivity();
  drawHeads();
  markOverlap();
}
onChoice("metric", drawMaps);
onChoice("kind", drawKept);
onChoice("scale", drawKept);
onChoice("order", drawActivity);
themeListeners.push(drawActivity);
if (byId("activity-map")) readActivity(byId("activity-map"));
let resizing;
addEventListener("resize", () => { cancelAnimationFrame(resizing); resizing = requestAnimationFrame(drawMaps); });
drawMaps();

onCsv("kept-by-layer", () => [["name", "units", "ratio", "layer", "kept"]].concat(
  (data.kept[choices.metric]?.[choices.kind] || []).flatMap((row) =>
    row.layers.map((kept, layer) => [choices.metric, choices.kind, row.ratio, layer, kept])),
));
onCsv("neurons", () => [["name", "layer", choices.order === "sorted" ? "rank" : "neuron", "kept"]].concat(
  (data.activity[choices.metric] ? activityRows(choices.metric) : []).flatMap((row, layer) =>
    [...row].map((level, i) => [choices.metric, layer, choices.order === "sorted" ? i : i * data.stride, Number((level / 63).toFixed(3))])),
));
onCsv("heads", () => [["name", "layer", "head", "share"]].concat(
  (data.heads[choices.metric] || []).flatMap((heads, layer) =>
    heads.map((share, head) => [choices.metric, layer, head, share])),
));
