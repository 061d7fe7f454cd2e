// A report in a real browser: nothing fetched, nothing wider than the screen, every control works.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";

import { launch, open } from "./browser.mjs";

const report = process.env.FEWRON_REPORT;
const folder = process.env.FEWRON_SCREENSHOTS;
if (!report) throw new Error("set FEWRON_REPORT to a report, see README.md");
const url = pathToFileURL(resolve(report)).href;
if (folder) mkdirSync(folder, { recursive: true });

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });

const views = [
  { name: "1280-light", width: 1280, height: 900 },
  { name: "1280-dark", width: 1280, height: 900, dark: true },
  { name: "390-light", width: 390, height: 844, touch: true },
  { name: "390-dark", width: 390, height: 844, dark: true, touch: true },
];

const text = (page, selector) => page.locator(selector).allTextContents();
const shownBy = (page, legend) => page.locator(`${legend} [data-toggle]`).evaluateAll((all) => all.map((button) => button.dataset.toggle));
const drawnBy = (chart) => chart.locator("g.series").evaluateAll((all) => all.map((g) => g.dataset.series));

// Whether two screenshots of the same element differ at all.
const differs = async (locator, act) => {
  const first = await locator.screenshot();
  await act();
  return !first.equals(await locator.screenshot());
};

for (const view of views) {
  describe(view.name, () => {
    let page, context, errors, requests;
    before(async () => { ({ page, context, errors, requests } = await open(browser, url, view)); });
    after(async () => {
      await context.close();
      assert.deepEqual(errors, []);
      assert.deepEqual(requests, []);
    });

    it("fits the screen", async () => {
      const widest = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(widest <= view.width, `${widest} px on a screen of ${view.width}`);
      if (folder) await page.screenshot({ path: join(folder, `${view.name}.png`), fullPage: true });
    });

    it("follows the system's theme", async () => {
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = background.match(/\d+/g).slice(0, 3).every((part) => Number(part) > 128);
      assert.equal(light, !view.dark);
    });

    it("draws every series in every chart", async () => {
      const labels = await shownBy(page, "#curves");
      const charts = page.locator("#curves svg.chart[data-quantity]:visible");
      assert.equal(await charts.count(), 3);
      for (const chart of await charts.all()) {
        assert.deepEqual((await drawnBy(chart)).sort(), [...labels].sort());
      }
    });

    it("draws both protocols beside each other", async (test) => {
      const labels = await shownBy(page, "#oracle-gap");
      if (!labels.length) return test.skip("a report of one run");
      const chart = page.locator("#oracle-gap svg.chart:visible");
      assert.deepEqual((await drawnBy(chart)).sort(), [...labels].sort());
      for (const protocol of ["oracle", "runtime"]) assert.ok(labels.some((label) => label.endsWith(protocol)));
      await chart.scrollIntoViewIfNeeded();
      const box = await chart.boundingBox();
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
      assert.match(await page.locator("#tip").textContent(), / · (oracle|runtime)/);
      await page.mouse.move(2, 2);
    });

    it("names its charts for those who do not see them", async () => {
      for (const svg of await page.locator("svg[role=img], canvas[role=img]").all()) {
        assert.ok((await svg.getAttribute("aria-label"))?.length > 10);
      }
    });

    it("switches the theme", async () => {
      const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const first = await colour();
      await page.locator("#theme").click();
      assert.notEqual(await colour(), first);
      await page.locator("#theme").click();
      assert.equal(await colour(), first);
    });

    it("reads the curves under the pointer", async () => {
      const chart = page.locator("#curves svg.chart[data-quantity=agreement]:visible");
      await chart.scrollIntoViewIfNeeded();
      const box = await chart.boundingBox();
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
      assert.match(await page.locator("#tip strong").textContent(), /^At [\d.]+% sparsity$/);
      if (folder) await page.screenshot({ path: join(folder, `${view.name}-tip.png`) });
      await page.mouse.move(2, 2);
      assert.ok(await page.locator("#tip").isHidden());
    });

    it("has maps that follow the selector", async () => {
      const kept = page.locator("#kept-map");
      const canvas = page.locator("#activity-map");
      const second = page.locator("[data-selector=metric] button").nth(1);
      const classes = () => kept.locator("rect.cell").evaluateAll((all) => all.map((r) => r.getAttribute("class")).join());
      const before = await classes();
      assert.ok(await differs(canvas, () => second.click()), "the neuron map did not change");
      assert.notEqual(await classes(), before);
      assert.equal(await second.getAttribute("aria-pressed"), "true");
      await page.locator("[data-selector=metric] button").first().click();
      assert.equal(await classes(), before);
    });

    it("takes a picture of each chapter", { skip: !folder }, async () => {
      for (const section of await page.locator("main section[id]").all()) {
        const id = await section.getAttribute("id");
        await section.screenshot({ path: join(folder, `${view.name}-${id}.png`) });
      }
    });
  });
}

describe("controls", () => {
  let page, context, errors;
  before(async () => { ({ page, context, errors } = await open(browser, url, views[0])); });
  after(async () => {
    await context.close();
    assert.deepEqual(errors, []);
  });

  it("sorts the table both ways", async () => {
    const column = page.locator("#points thead th", { hasText: "KL" });
    const values = () => page.locator("#points tbody tr td:nth-last-child(2)").evaluateAll((all) => all.map((td) => Number(td.dataset.v)));
    const before = await values();
    await column.locator("button").click();
    const falling = await values();
    assert.equal(await column.getAttribute("aria-sort"), "descending");
    assert.deepEqual(falling, [...before].sort((a, b) => b - a));
    await column.locator("button").click();
    assert.equal(await column.getAttribute("aria-sort"), "ascending");
    assert.deepEqual(await values(), [...before].sort((a, b) => a - b));
  });

  it("hides and shows a series", async () => {
    const button = page.locator("#curves [data-toggle]").first();
    const label = await button.getAttribute("data-toggle");
    const drawn = () => page.locator("#curves svg.chart[data-quantity]:visible g.series:visible").evaluateAll((all, name) => all.filter((g) => g.dataset.series === name).length, label);
    assert.equal(await drawn(), 3);
    await button.click();
    assert.equal(await drawn(), 0);
    assert.equal(await button.getAttribute("aria-pressed"), "false");
    await button.click();
    assert.equal(await drawn(), 3);
  });

  it("changes the axis of the KL", async () => {
    await page.locator("[data-selector=axis] [data-value=linear]").click();
    assert.ok(await page.locator("[data-axis=linear]").isVisible());
    assert.ok(await page.locator("[data-axis=log]").isHidden());
  });

  it("changes order and scale of the maps", async () => {
    const canvas = page.locator("#activity-map");
    assert.ok(await differs(canvas, () => page.locator("[data-value=natural]").click()));
    const kept = page.locator("#kept-map");
    assert.ok(await differs(kept, () => page.locator("[data-value=relative]").click()));
    await page.locator("[data-selector=kind] [data-value=heads]").click();
    assert.match(await kept.locator("title").textContent(), /heads/);
  });

  it("keeps the summary of the neuron map level with its rows", async () => {
    const canvas = await page.locator("#activity-map").boundingBox();
    const summary = await page.locator("#activity-summary svg").boundingBox();
    assert.ok(Math.abs(canvas.y - summary.y) < 1 && Math.abs(canvas.height - summary.height) < 2);
  });

  it("works from the keyboard", async () => {
    await page.locator("#curves svg.chart[data-quantity=agreement]:visible").focus();
    await page.keyboard.press("ArrowLeft");
    const first = await page.locator("#tip strong").textContent();
    await page.keyboard.press("ArrowLeft");
    assert.notEqual(await page.locator("#tip strong").textContent(), first);
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#tip").isHidden());
    await page.locator("#kept-map svg").focus();
    await page.keyboard.press("ArrowRight");
    assert.match(await page.locator("#tip strong").textContent(), /^Layer 0 at/);
  });

  it("marks where answers part", async () => {
    const marks = await text(page, "#answers article mark");
    assert.ok(marks.length > 0 && marks.every((mark) => mark.trim().length > 0));
  });
});

describe("without scripts", () => {
  it("still tells the story", async () => {
    const { page, context, errors } = await open(browser, url, { ...views[2], javaScriptEnabled: false });
    assert.ok(await page.locator("h1").isVisible());
    assert.ok(await page.locator("#curves svg.chart[data-quantity=agreement] g.series:visible").first().isVisible());
    assert.ok(await page.locator("#points tbody tr").first().isVisible());
    await context.close();
    assert.deepEqual(errors, []);
  });
});

describe("on paper", () => {
  it("prints light, without controls, from a dark screen", async () => {
    const { page, context } = await open(browser, url, views[1]);
    const pdf = folder ? { path: join(folder, "print.pdf") } : {};
    assert.ok((await page.pdf({ format: "A4", ...pdf })).length > 20_000);
    await page.emulateMedia({ media: "print" });
    assert.ok(await page.locator("#theme").isHidden());
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)");
    await context.close();
  });
});
