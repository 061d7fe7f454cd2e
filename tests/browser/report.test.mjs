// What a page of a sweep has beyond every page: curves, maps, answers.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { folder, kind, launch, open, url, views } from "./browser.mjs";

const skip = kind !== "sweep";

let browser;
before(async () => { if (!skip) browser = await launch(); });
after(async () => { await browser?.close(); });

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
  describe(view.name, { skip }, () => {
    let page, context, errors, requests;
    before(async () => { ({ page, context, errors, requests } = await open(browser, url, view)); });
    after(async () => {
      await context.close();
      assert.deepEqual(errors, []);
      assert.deepEqual(requests, []);
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
  });
}

describe("controls", { skip }, () => {
  let page, context, errors;
  before(async () => { ({ page, context, errors } = await open(browser, url, views[0])); });
  after(async () => {
    await context.close();
    assert.deepEqual(errors, []);
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
    assert.ok(await page.locator("[data-panel=axis][data-value=linear]").isVisible());
    assert.ok(await page.locator("[data-panel=axis][data-value=log]").isHidden());
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

describe("without scripts", { skip }, () => {
  it("draws the curves", async () => {
    const { page, context } = await open(browser, url, { ...views[2], javaScriptEnabled: false });
    assert.ok(await page.locator("#curves svg.chart[data-quantity=agreement] g.series:visible").first().isVisible());
    assert.ok(await page.locator("#points tbody tr").first().isVisible());
    await context.close();
  });
});
