// A page of neuron analytics in a real browser: nothing fetched, nothing wider than the screen, every control works.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";

import { launch, open } from "./browser.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const report = process.env.FEWRON_NEURONS;
const folder = process.env.FEWRON_SCREENSHOTS;
const url = report && pathToFileURL(resolve(report)).href;
if (folder) mkdirSync(folder, { recursive: true });

const views = [
  { name: "neurons-1280-light", width: 1280, height: 900 },
  { name: "neurons-1280-dark", width: 1280, height: 900, dark: true },
  { name: "neurons-390-light", width: 390, height: 844, touch: true },
  { name: "neurons-390-dark", width: 390, height: 844, dark: true, touch: true },
];

describe("neurons", { skip: !report && "no FEWRON_NEURONS" }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(async () => { await browser?.close(); });

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

      it("has no accessibility violation that matters", async () => {
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
        const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
        assert.deepEqual(serious.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`), []);
      });

      it("has tables with captions and heads", async () => {
        for (const table of await page.locator("table").all()) {
          assert.ok((await table.locator("caption").textContent({ timeout: 2000 })).length > 5);
          assert.equal(await table.locator("tbody th[scope=row]").count(), await table.locator("tbody tr").count());
        }
      });

      it("names its pictures for those who do not see them", async () => {
        const pictures = await page.locator("svg[role=img], canvas[role=img]").all();
        assert.ok(pictures.length > 5);
        for (const picture of pictures) assert.ok((await picture.getAttribute("aria-label")).length > 10);
      });

      it("asks a question above every figure and has its numbers", async () => {
        const figures = await page.locator("figure").all();
        assert.ok(figures.length > 5);
        for (const figure of figures) {
          assert.match(await figure.locator("h3").first().textContent(), /\?$/);
          assert.equal(await figure.locator("[data-csv]").count(), 1);
        }
      });

      it("reads lines under the pointer", async () => {
        const chart = page.locator("svg[data-lines=attribution]:visible");
        await chart.scrollIntoViewIfNeeded();
        const box = await chart.boundingBox();
        await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
        assert.match(await page.locator("#tip strong").textContent(), /^Layer \d+$/);
        await page.mouse.move(2, 2);
        assert.ok(await page.locator("#tip").isHidden());
      });

      it("shows one mask at a time", async () => {
        const buttons = page.locator("[data-selector=metric] button");
        const panels = (name) => page.locator(`[data-mask="${name}"]`);
        const [first, second] = await buttons.evaluateAll((all) => all.map((b) => b.dataset.value));
        assert.ok(await panels(first).first().isVisible());
        await buttons.nth(1).click();
        assert.equal(await buttons.nth(1).getAttribute("aria-pressed"), "true");
        assert.ok(await panels(second).first().isVisible() && await panels(first).first().isHidden());
        await buttons.nth(0).click();
        assert.ok(await panels(first).first().isVisible());
      });

      it("takes a picture of each chapter", { skip: !folder }, async () => {
        for (const section of await page.locator("main section[id]").all()) {
          const id = await section.getAttribute("id");
          await section.screenshot({ path: join(folder, `${view.name}-${id}.png`) });
        }
      });
    });
  }

  describe("numbers", () => {
    let page, context, errors;
    before(async () => { ({ page, context, errors } = await open(browser, url, views[0])); });
    after(async () => {
      await context.close();
      assert.deepEqual(errors, []);
    });

    it("are saved as CSV for every figure", async () => {
      for (const [at, button] of (await page.locator("[data-csv]").all()).entries()) {
        // Chromium lets a page save ten files, then holds one back.
        if (at % 5 === 4) await page.reload();
        const id = await button.getAttribute("data-csv");
        const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
        assert.equal(download.suggestedFilename(), `${id}.csv`);
        const lines = readFileSync(await download.path(), "utf8").trimEnd().split("\r\n");
        assert.ok(lines.length > 1, id);
        if (id !== "contexts") assert.ok(lines[0].split(",").length > 3, lines[0]);
      }
    });

    it("are what the tables on the page say", async () => {
      const figure = page.locator("#figure-stability");
      const [download] = await Promise.all([page.waitForEvent("download"), figure.locator("[data-csv]").click()]);
      const lines = readFileSync(await download.path(), "utf8").trimEnd().split("\r\n");
      await figure.locator("summary").click();
      assert.equal(await figure.locator("details tbody tr:visible").count(), lines.length - 1);
      const cells = await figure.locator("details tbody tr").first().locator("th, td").allTextContents();
      const fields = lines[1].split(",");
      assert.equal(cells[0], fields[0]);
      assert.equal(Number(cells[2]), Number(fields[2]));
    });

    it("of the map change with its order", async () => {
      const canvas = page.locator("#activity-map");
      const first = await canvas.screenshot();
      await page.locator("[data-value=natural]").click();
      assert.ok(!first.equals(await canvas.screenshot()));
    });

    it("are read from the keyboard", async () => {
      await page.locator("svg[data-lines=attribution]:visible").focus();
      await page.keyboard.press("ArrowRight");
      assert.equal(await page.locator("#tip strong").textContent(), "Layer 1");
      await page.keyboard.press("ArrowLeft");
      assert.equal(await page.locator("#tip strong").textContent(), "Layer 0");
      await page.keyboard.press("Escape");
      assert.ok(await page.locator("#tip").isHidden());
    });
  });

  it("tells the story without scripts and on paper", async () => {
    const { page, context, errors } = await open(browser, url, { ...views[2], javaScriptEnabled: false });
    assert.ok(await page.locator("h1").isVisible());
    assert.ok(await page.locator("svg[data-lines=attribution]:visible").first().isVisible());
    assert.ok(await page.locator("#figure-specific tbody tr").first().isVisible());
    await context.close();
    assert.deepEqual(errors, []);
    const printed = await open(browser, url, views[1]);
    await printed.page.emulateMedia({ media: "print" });
    assert.ok(await printed.page.locator(".save").first().isHidden());
    await printed.context.close();
  });
});
