// What pages of evaluations, comparisons and histories have beyond every page.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { download, kind, launch, open, url, views } from "./browser.mjs";

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });

const opened = (view, test) => async () => {
  const { page, context, errors } = await open(browser, url, view);
  await test(page);
  await context.close();
  assert.deepEqual(errors, []);
};
const wide = views[0];

describe("evaluation", { skip: kind !== "evaluation" }, () => {
  it("draws every variant on every metric", opened(wide, async (page) => {
    const figures = page.locator("#tasks figure");
    assert.ok(await figures.count() > 0);
    for (const figure of await figures.all()) {
      const rows = await figure.locator("svg.wide g.row .name").allTextContents();
      const { rows: [columns, ...lines] } = await download(page, figure.locator(".csv"));
      assert.deepEqual(rows, lines.map((line) => line[columns.indexOf("variant")]));
    }
  }));

  it("places marks by their values", opened(wide, async (page) => {
    const places = await page.locator("#tasks figure").first().locator("svg.wide g.row").evaluateAll((rows) => rows.map((row) => {
      const box = row.querySelector(".mark").getBoundingClientRect();
      return [Number(row.dataset.value), box.left + box.width / 2];
    }));
    const [[v0, x0], [v1, x1]] = [places[0], places.find(([value]) => Math.abs(value - places[0][0]) > 1e-6)];
    const scale = (x1 - x0) / (v1 - v0);
    assert.ok(scale > 0);
    for (const [value, x] of places) assert.ok(Math.abs(x - x0 - scale * (value - v0)) < 1.5);
  }));

  it("shows the samples of the chosen variant", opened(wide, async (page) => {
    const buttons = page.locator("[data-selector=variant] button");
    if (await buttons.count() === 0) return;
    for (const button of await buttons.all()) {
      await button.click();
      const name = await button.getAttribute("data-value");
      const shown = await page.locator("#changed [data-panel]:visible").evaluateAll((all) => all.map((one) => one.dataset.value));
      assert.deepEqual(shown, [name]);
    }
  }));

  it("shows the samples of all variants without scripts", opened({ ...wide, javaScriptEnabled: false }, async (page) => {
    for (const panel of await page.locator("#changed [data-panel]").all()) assert.ok(await panel.isVisible());
    assert.ok(await page.locator("[data-selector=variant]").count() === 0 || await page.locator("[data-selector=variant]").isHidden());
  }));
});

describe("comparison", { skip: kind !== "comparison" }, () => {
  it("says on which side worse and better lie", opened(wide, async (page) => {
    const svg = page.locator("#effects svg.wide").first();
    const words = await svg.locator("text.tick").allTextContents();
    assert.ok(words.some((word) => word.startsWith("← ") && word.endsWith("worse")));
    assert.ok(words.some((word) => word.endsWith("better →")));
    // Marks of what is worse lie left of the line, of what is better right of it.
    const [line, marks] = await svg.evaluate((one) => [
      one.querySelector(".reference").getBoundingClientRect().left,
      [...one.querySelectorAll("g.row")].filter((row) => row.querySelector(".mark")).map((row) => [row.dataset.tip, row.querySelector(".mark").getBoundingClientRect()]),
    ]);
    for (const [tip, box] of marks) {
      if (/verdict\tworse/.test(tip)) assert.ok(box.x + box.width / 2 < line, tip);
      if (/verdict\tbetter/.test(tip)) assert.ok(box.x + box.width / 2 > line, tip);
    }
    assert.ok(marks.length > 0);
  }));

  it("draws every category with its samples", opened(wide, async (page) => {
    const figure = page.locator("#effects figure", { hasText: "Effect by category" }).first();
    const { rows: [columns, ...lines] } = await download(page, figure.locator(".csv"));
    const named = lines.map((line) => `${line[columns.indexOf("category")]} (${line[columns.indexOf("samples")]})`);
    assert.deepEqual(await figure.locator("svg.wide g.row .name").allTextContents(), named);
    assert.ok(named.some((name) => name.startsWith("Earth & <space>")));
    assert.match(await figure.locator(".note").textContent(), /Holm/);
  }));

  it("marks where answers part, on both sides", opened(views[2], async (page) => {
    for (const pair of await page.locator("#changed article").all()) {
      const marks = await pair.locator("mark").allTextContents();
      assert.ok(marks.length === 2 && marks[0] !== marks[1] && marks.every((mark) => mark.trim()), marks.join());
    }
  }));
});

describe("history", { skip: kind !== "history" }, () => {
  const figures = (page) => page.locator("figure:visible").evaluateAll((all) => all.map((one) => [one.dataset.model, one.dataset.task]));

  it("filters by model and task", opened(wide, async (page) => {
    const all = await figures(page);
    for (const name of ["model", "task"]) {
      const select = page.locator(`select[name=${name}]`);
      const value = await select.locator("option").last().getAttribute("value");
      await select.selectOption(value);
      const left = await figures(page);
      assert.deepEqual(left, all.filter((one) => one[name === "model" ? 0 : 1] === value));
      const rows = await page.locator("#numbers tbody tr:visible").evaluateAll((rows, key) => rows.map((row) => row.dataset[key]), name);
      assert.ok(rows.length > 0 && rows.every((one) => one === value));
      assert.match(await page.locator("#found").textContent(), new RegExp(`^${left.length} of ${all.length} figures, ${rows.length} values$`));
      await select.selectOption("");
    }
    assert.deepEqual(await figures(page), all);
  }));

  it("hides and shows a variant", opened(wide, async (page) => {
    const button = page.locator("[data-toggle]").first();
    const label = await button.getAttribute("data-toggle");
    const drawn = () => page.locator("g.series:visible").evaluateAll((all, name) => all.filter((one) => one.dataset.series === name).length, label);
    const rows = () => page.locator("#numbers tbody tr:visible").evaluateAll((all, name) => all.filter((one) => one.dataset.series === name).length, label);
    const before = [await drawn(), await rows()];
    assert.ok(before[0] > 0 && before[1] > 0);
    await button.click();
    assert.deepEqual([await drawn(), await rows()], [0, 0]);
    await button.click();
    assert.deepEqual([await drawn(), await rows()], before);
  }));

  it("stands in order or by time, and lines go through their dots", opened(wide, async (page) => {
    const places = () => page.locator("figure").first().locator("g.series").first().evaluate((series) => ({
      dots: [...series.querySelectorAll(".dot")].map((dot) => dot.getAttribute("transform").match(/[\d.]+/g).join()),
      line: series.querySelector(".line").getAttribute("points").split(" "),
    }));
    const order = await places();
    assert.deepEqual(order.line, order.dots);
    const gaps = (dots) => dots.slice(1).map((dot, at) => parseFloat(dot) - parseFloat(dots[at]));
    assert.ok(Math.max(...gaps(order.dots)) - Math.min(...gaps(order.dots)) < 0.1, "even steps in order");
    await page.locator("[data-selector=across] [data-value=time]").click();
    const time = await places();
    assert.deepEqual(time.line, time.dots);
    assert.ok(Math.max(...gaps(time.dots)) > 2 * Math.min(...gaps(time.dots)), "uneven steps by time");
    const ticks = page.locator("figure").first().locator("[data-panel=across][data-value=time] text").first();
    assert.equal(await ticks.evaluate((one) => getComputedStyle(one).visibility), "visible");
    await page.locator("[data-selector=across] [data-value=order]").click();
    assert.deepEqual(await places(), order);
  }));

  it("tells run and commit of a dot", opened(views[2], async (page) => {
    const svg = page.locator("svg.told:visible").first();
    await svg.scrollIntoViewIfNeeded();
    await svg.focus();
    await page.keyboard.press("ArrowLeft");
    const tip = await page.locator("#tip").textContent();
    assert.match(tip, /run/);
    assert.match(tip, /commit[0-9a-f]{7,}/);
  }));

  it("never joins speeds of two processors", opened(wide, async (page) => {
    for (const figure of await page.locator("figure[data-task=speed]").all()) {
      const { rows: [columns, ...rows] } = await download(page, figure.locator(".csv"));
      assert.equal(new Set(rows.map((row) => row[columns.indexOf("cpu")])).size, 1);
    }
  }));
});
