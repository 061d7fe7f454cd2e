// What holds for every page: nothing fetched, nothing wider than the screen, nothing missing, everything
// reached from the keyboard and named for those who do not see it, every figure's numbers to take away.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { download, folder, kind, launch, open, url, views } from "./browser.mjs";

if (!url) throw new Error("set FEWRON_REPORT to a page, see README.md");
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });

for (const view of views) {
  describe(`${kind} ${view.name}`, () => {
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

    it("draws every figure", async () => {
      const figures = await page.locator("figure:visible").all();
      assert.ok(figures.length > 0);
      for (const figure of figures) {
        const [title, size, marks] = await figure.evaluate((one) => {
          const drawing = [...one.querySelectorAll("svg[role=img], canvas, table")].find((part) => part.getBoundingClientRect().width > 0);
          const box = drawing?.getBoundingClientRect();
          const marks = drawing?.tagName === "CANVAS" ? drawing.width : drawing?.querySelectorAll(".mark, .beam, .cell, td").length;
          return [one.textContent.slice(0, 40), [box?.width ?? 0, box?.height ?? 0], marks ?? 0];
        });
        assert.ok(size[0] > 100 && size[1] > 40, `${title}: ${size}`);
        assert.ok(marks > 0, `${title} is empty`);
      }
    });

    it("keeps the words of a figure inside it", async () => {
      const outside = await page.locator("svg[role=img]:visible").evaluateAll((all) => all.flatMap((svg) => {
        const frame = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent && !text.closest("[visibility=hidden]"));
        return texts.filter((text) => {
          const box = text.getBoundingClientRect();
          return box.left < frame.left - 3 || box.right > frame.right + 3;
        }).map((text) => text.textContent);
      }));
      assert.deepEqual(outside, []);
    });

    it("names its drawings for those who do not see them", async () => {
      const names = await page.locator("svg[role=img], canvas[role=img]").evaluateAll((all) => all.map((one) => one.getAttribute("aria-label") || ""));
      assert.ok(names.length > 0 && names.every((name) => name.length > 10), names.join("\n"));
    });

    it("has headings in order", async () => {
      const levels = await page.locator("h1, h2, h3, h4, h5, h6").evaluateAll((all) => all.map((one) => Number(one.tagName[1])));
      assert.equal(levels.filter((level) => level === 1).length, 1);
      levels.forEach((level, at) => assert.ok(at === 0 ? level === 1 : level <= levels[at - 1] + 1, `heading ${at + 1} of ${levels}`));
    });

    it("has tables with captions and heads", async () => {
      for (const table of await page.locator("table").all()) {
        assert.ok((await table.locator("caption").textContent()).length > 5);
        assert.ok(await table.locator("thead th[scope=col]").count() > 1);
        const rows = await table.locator("tbody tr").count();
        assert.equal(await table.locator("tbody th[scope=row]").count(), rows);
      }
    });

    it("has no accessibility violation that matters", async () => {
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
      const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
      const told = serious.map((one) => `${one.id}: ${one.nodes.slice(0, 4).map((node) => node.html.slice(0, 160) + "\n    " + node.failureSummary).join("\n  ")}`);
      assert.deepEqual(told, []);
    });

    it("switches the theme", async () => {
      const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const first = await colour();
      await page.locator("#theme").click();
      assert.notEqual(await colour(), first);
      await page.locator("#theme").click();
      assert.equal(await colour(), first);
    });

    it("explains its marks under the pointer", async () => {
      for (const svg of (await page.locator("svg.told:visible").all()).slice(0, 3)) {
        await svg.scrollIntoViewIfNeeded();
        const box = await svg.boundingBox();
        await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2, { steps: 3 });
        await page.locator("#tip").waitFor({ timeout: 5000 });
        assert.ok((await page.locator("#tip strong").textContent()).length > 0);
        const tip = await page.locator("#tip").boundingBox();
        assert.ok(tip.x >= 0 && tip.x + tip.width <= view.width, "the tooltip leaves the screen");
        await page.mouse.move(2, 2);
        assert.ok(await page.locator("#tip").isHidden());
      }
    });

    it("takes a picture of each chapter", { skip: !folder }, async () => {
      for (const section of await page.locator("main section:visible").all()) {
        const id = await section.getAttribute("id") || "hero";
        await section.screenshot({ path: join(folder, `${view.name}-${id}.png`) });
      }
    });
  });
}

describe(`${kind} controls`, () => {
  let page, context, errors;
  before(async () => { ({ page, context, errors } = await open(browser, url, views[0])); });
  after(async () => {
    await context.close();
    assert.deepEqual(errors, []);
  });

  it("reaches every control by Tab, with a focus that shows", async () => {
    const wanted = await page.evaluate(() => {
      const all = [...document.querySelectorAll("a[href], button, select, input, [tabindex='0']")];
      const visible = all.filter((one) => one.checkVisibility());
      visible.forEach((one, at) => { one.dataset.stop = at; });
      return visible.length;
    });
    const reached = new Set();
    for (let press = 0; press < wanted + 5 && reached.size < wanted; press++) {
      await page.keyboard.press("Tab");
      const [stop, outlined] = await page.evaluate(() => {
        const focused = document.activeElement;
        const style = getComputedStyle(focused);
        return [focused.dataset.stop, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1];
      });
      if (stop === undefined) continue;
      assert.ok(outlined, `stop ${stop} shows no focus`);
      reached.add(stop);
    }
    assert.equal(reached.size, wanted);
  });

  it("explains its marks from the keyboard", async () => {
    for (const svg of (await page.locator("svg.told:visible").all()).slice(0, 3)) {
      await svg.focus();
      await page.keyboard.press("ArrowRight");
      const first = await page.locator("#tip").textContent();
      await page.keyboard.press("ArrowRight");
      const marks = await svg.locator("[data-tip]").count();
      if (marks > 1) assert.notEqual(await page.locator("#tip").textContent(), first);
      await page.keyboard.press("Escape");
      assert.ok(await page.locator("#tip").isHidden());
    }
  });

  it("sorts each table both ways", async () => {
    for (const table of await page.locator("table.sortable:visible").all()) {
      const heads = await table.locator("thead th[aria-sort]").count();
      const column = table.locator("thead th[aria-sort]").nth(Math.min(heads - 1, 4));
      const index = await column.evaluate((cell) => cell.cellIndex);
      const keys = () => table.locator("tbody tr").evaluateAll((rows, at) => rows.map((row) => row.cells[at].dataset.v ?? ""), index);
      const before = await keys();
      const numbers = before.every((key) => Number.isFinite(Number(key)));
      const sorted = (sign) => [...before].sort((a, b) => (a === "") - (b === "") || sign * (numbers ? a - b : a.localeCompare(b)));
      const expected = { ascending: sorted(1), descending: sorted(-1) };
      const seen = new Set();
      for (let press = 0; press < 2; press++) {
        await column.locator("button").click();
        const order = await column.getAttribute("aria-sort");
        seen.add(order);
        assert.deepEqual(await keys(), expected[order]);
      }
      assert.equal(seen.size, 2);
    }
  });

  it("saves the numbers that each figure draws", async () => {
    const names = new Set();
    await page.reload();
    for (const [at, figure] of (await page.locator("figure:visible").all()).entries()) {
      // Chromium lets a page save ten files, then holds one back.
      if (at % 5 === 4) await page.reload();
      const link = figure.locator(".csv");
      assert.equal(await link.count(), 1, await figure.textContent());
      const { name, rows: [columns, ...rows] } = await download(page, link);
      assert.ok(name.endsWith(".csv") && !names.has(name), `${name} again`);
      names.add(name);
      assert.ok(rows.length > 0 && rows.every((row) => row.length === columns.length), name);
      const drawn = await figure.evaluate((one) => {
        const shows = (part) => part.checkVisibility();
        const svg = [...one.querySelectorAll("svg[role=img]")].find(shows);
        const count = (selector) => svg?.querySelectorAll(selector).length ?? 0;
        const values = [...(svg?.querySelectorAll("[data-tip][data-value]") ?? [])].map((mark) => Number(mark.dataset.value));
        const cells = [...one.querySelectorAll(".matrix td[title]")].length / 2;
        return { values, marks: count("g.series .mark") + count("g.row .mark") / 2, rows: count("g.row"), cells: count(".cell") || cells, canvas: [...one.querySelectorAll("canvas")].some(shows) };
      });
      const sorted = (values) => values.map(Number).sort((a, b) => a - b);
      if (drawn.values.length) {
        const same = columns.some((_, at) => JSON.stringify(sorted(rows.map((row) => row[at]))) === JSON.stringify(sorted(drawn.values)));
        assert.ok(same, `${name}: no column is ${sorted(drawn.values)}`);
      } else if (!drawn.canvas) {
        assert.ok([drawn.marks, drawn.rows, drawn.cells].includes(rows.length), `${name}: ${rows.length} rows, ${JSON.stringify(drawn)}`);
      }
    }
  });
});

describe(`${kind} without scripts`, () => {
  it("still tells the story, and saves what is drawn", async () => {
    const { page, context, errors } = await open(browser, url, { ...views[2], javaScriptEnabled: false });
    assert.ok(await page.locator("h1").isVisible());
    assert.ok(await page.locator("figure svg[role=img]:visible").first().isVisible());
    for (const table of await page.locator("table").all()) assert.ok(await table.locator("tbody tr").first().isVisible());
    const { rows } = await download(page, page.locator("a.csv:visible").first());
    assert.ok(rows.length > 1);
    await context.close();
    assert.deepEqual(errors, []);
  });
});

describe(`${kind} on paper`, () => {
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
