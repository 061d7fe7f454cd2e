// Marks of a figure that explain themselves, under the pointer and from the keyboard, and its numbers as a
// file. `data-tip` is a title line, then lines of name, value and aside, with tabs between them.
function tipOf(mark) {
  const [title, ...lines] = mark.dataset.tip.split("\n");
  return [title, lines.map((line) => line.split("\t"))];
}

const visibleMarks = (figure) => all("[data-tip]", figure).filter((mark) => !mark.closest(".off"));

function middle(mark) {
  const box = (mark.querySelector(".mark") || mark).getBoundingClientRect();
  return { x: box.left + box.width / 2, y: box.top + box.height / 2 };
}

// Rows are told apart by height alone, dots by their distance.
function nearest(figure, x, y) {
  const across = figure.classList.contains("rows") ? 0 : 1;
  let best, least = Infinity;
  for (const mark of visibleMarks(figure)) {
    const at = middle(mark);
    const distance = Math.hypot(across * (at.x - x), at.y - y);
    if (distance < least) [best, least] = [mark, distance];
  }
  return best;
}

for (const figure of all("svg.told")) {
  let current;
  const choose = (mark) => {
    current?.classList.remove("chosen");
    current = mark;
    if (!mark) return hideTip();
    mark.classList.add("chosen");
    const { x, y } = middle(mark);
    showTip(x, y, ...tipOf(mark));
  };
  const point = (event) => choose(nearest(figure, event.clientX, event.clientY));
  figure.addEventListener("pointermove", point);
  figure.addEventListener("pointerdown", point);
  figure.addEventListener("pointerleave", () => choose());
  figure.addEventListener("blur", () => choose());
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    const marks = visibleMarks(figure);
    if (!step || !marks.length) return;
    event.preventDefault();
    if (!figure.classList.contains("rows")) marks.sort((a, b) => middle(a).x - middle(b).x);
    const at = marks.indexOf(current);
    choose(marks[Math.max(0, Math.min(marks.length - 1, at < 0 && step < 0 ? marks.length - 1 : at + step))]);
  });
}

for (const part of all("[data-script]")) part.hidden = false;

// Numbers of figures that are drawn here; `onCsv(name, f)` gives the rows, column names first.
const csvOf = {};
const onCsv = (name, rows) => { csvOf[name] = rows; };

function csvField(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

for (const button of all("[data-csv]")) {
  button.addEventListener("click", () => {
    const name = button.dataset.csv;
    const text = csvOf[name]().map((row) => row.map(csvField).join(",") + "\r\n").join("");
    const link = element("a");
    link.download = name + ".csv";
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}
