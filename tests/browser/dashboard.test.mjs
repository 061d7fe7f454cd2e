// The dashboard in a real browser: on a server from a script, or on the one at FEWRON_SERVER.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { folder, launch, open, views } from "./browser.mjs";
import { empty, startMock } from "./mock_server.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const server = process.env.FEWRON_SERVER;
const skip = process.env.FEWRON_REPORT && "FEWRON_REPORT names another page";
const skipMock = skip || (server && "FEWRON_SERVER is the server");
// What Chromium says of an answer that is an error or breaks off, which some tests are about.
const NETWORK = /Failed to load resource|net::ERR_/;

let browser;
before(async () => { if (!skip) browser = await launch(); });
after(async () => { await browser?.close(); });

// The dashboard at `hash`, with its first status; `elsewhere` are requests to other servers.
async function openDashboard(url, view, hash = "", { waits = true } = {}) {
  const opened = await open(browser, url + hash, view);
  opened.page.setDefaultTimeout(10_000);
  const elsewhere = () => opened.requests.filter((one) => !one.startsWith(url));
  if (waits) await opened.page.locator("#connection[data-state=live]").waitFor();
  return { ...opened, elsewhere };
}

// Closes the page, which must have been quiet, and its server.
async function close({ context, errors, elsewhere }, mock, allowed) {
  await context.close();
  await mock?.close();
  assert.deepEqual(errors.filter((error) => !allowed?.test(error)), []);
  assert.deepEqual(elsewhere(), []);
}

async function shoot(page, name) {
  if (folder) await page.screenshot({ path: join(folder, `dashboard-${name}.png`), fullPage: true });
}

async function assertAccessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
  const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
  const told = serious.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + "\n    " + node.failureSummary).join("\n  ")}`);
  assert.deepEqual(told, []);
}

async function assertFits(page, width) {
  const widest = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(widest <= width, `${widest} px on a screen of ${width}`);
}

async function assertFigures(page) {
  for (const figure of await page.locator("figure").all()) {
    assert.match(await figure.locator("h3").textContent(), /\?$/);
    const drawn = await figure.evaluate((one) => {
      const box = one.getBoundingClientRect();
      return [box.width, box.height, one.querySelectorAll("polyline, .mark, .rail, td, dd, i, .empty:not([hidden])").length];
    });
    assert.ok(drawn[0] > 100 && drawn[1] > 60 && drawn[2] > 0, `${await figure.getAttribute("id")}: ${drawn}`);
  }
}

async function ask(page, prompt) {
  await page.locator("#prompt").fill(prompt);
  await page.locator("#prompt").press("Enter");
}

async function askWhole(page, prompt) {
  await ask(page, prompt);
  await page.locator("#comparison").waitFor();
}

// The text of an answer, less what is said of it to those who do not see the bar.
const written = (page, which) => answer(page, which).evaluate((one) => {
  const copy = one.cloneNode(true);
  copy.querySelector(".part")?.remove();
  return copy.textContent.replaceAll("↵", "");
});
const answer = (page, which) => page.locator(`#${which}-answer .text`);
const marks = (page) => page.locator("#sparse-answer .token").evaluateAll((all) => all.map((one) => one.textContent));

for (const view of views) {
  describe(`dashboard ${view.name}`, { skip: skipMock }, () => {
    let mock, opened, page;
    before(async () => {
      mock = await startMock({ tick_ms: 100 });
      opened = await openDashboard(mock.url, view);
      page = opened.page;
    });
    after(async () => {
      await close(opened, mock);
    });

    it("fits the screen and follows its theme", async () => {
      await page.locator("[data-history=decode_tok_s] polyline").waitFor({ state: "attached" });
      await assertFits(page, view.width);
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      assert.equal(background.match(/\d+/g).slice(0, 3).every((part) => Number(part) > 128), !view.dark);
      await shoot(page, view.name);
    });

    it("answers a question with every figure", () => assertFigures(page));

    it("has no accessibility violation that matters", () => assertAccessible(page));

    it("keeps the words of its figures inside them", async () => {
      const outside = await page.locator("svg[role=img]").evaluateAll((all) => all.flatMap((svg) => {
        const frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].filter((text) => {
          const box = text.getBoundingClientRect();
          return box.left < frame.left - 3 || box.right > frame.right + 3;
        }).map((text) => text.textContent);
      }));
      assert.deepEqual(outside, []);
    });

    it("chats in both columns and marks what dense would not have written", async () => {
      await page.locator("nav a", { hasText: "Chat" }).click();
      await askWhole(page, "Why is the sky");
      assert.equal(await written(page, "dense"), "The sky is blue because air scatters blue light most.");
      assert.deepEqual(await marks(page), [" since", " bends", ".↵\n"]);
      assert.equal(await page.locator("#agreement").textContent(), "75.0%");
      assert.equal(await page.locator("#parting").textContent(), "Token 5");
      for (const which of ["dense", "sparse"]) {
        assert.match(await page.locator(`#${which}-answer .speed`).textContent(), /^12 tokens · [\d.]+ tok\/s$/);
        assert.equal(await page.locator(`#${which}-answer .same`).evaluateAll((all) => all.map((one) => one.textContent).join("")), "The sky is blue");
        assert.equal(await page.locator(`#${which}-answer .part`).count(), 1);
      }
      await assertFits(page, view.width);
      const beyond = await page.locator("#ask").evaluate((form) => [...form.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > form.getBoundingClientRect().right + 1).map((one) => one.id || one.tagName));
      assert.deepEqual(beyond, []);
      await assertAccessible(page);
      await shoot(page, `chat-${view.name}`);
    });
  });
}

describe("dashboard, live", { skip: skipMock }, () => {
  let mock, opened, page;
  before(async () => {
    mock = await startMock({ tick_ms: 50 });
    opened = await openDashboard(mock.url, views[0]);
    page = opened.page;
  });
  after(async () => {
    await close(opened, mock);
  });

  it("moves with the server", async () => {
    const seen = () => page.evaluate(() => [document.getElementById("decode").textContent, document.querySelector("[data-history] polyline").getAttribute("points").length, document.getElementById("totals").textContent]);
    const first = await seen();
    await page.waitForFunction((before) => document.querySelector("[data-history] polyline").getAttribute("points").length > before, first[1] + 40);
    const later = await seen();
    assert.notEqual(later[0], first[0]);
    assert.notEqual(later[2], first[2]);
  });

  it("shows the numbers of the status", async () => {
    const row = page.locator("table.variants tbody tr", { has: page.locator("th", { hasText: "plan" }) });
    const cells = await row.locator("th, td").allTextContents();
    assert.deepEqual(cells.slice(1, 5), ["served", "50%", "1098,130", "81.71.40 × dense"]);
    assert.deepEqual(cells.slice(5, 7), ["317 ms507 ms · 983 ms", "12.2 ms19.6 ms · 37.9 ms"]);
    assert.equal(cells[8], "98.1%[96.7%, 99.4%]");
    assert.equal(await page.locator("table.heat tbody tr").count(), 6);
    assert.equal(await page.locator("table.heat tbody tr").first().locator("td").count(), 30);
    assert.equal(await page.locator("table.requests tbody tr").count(), 50);
    assert.equal(await page.locator("#log li").count(), 2);
    assert.equal(await page.locator("#log b").count(), 0);
  });

  it("keeps rows and focus while it moves", async () => {
    const region = page.locator("#figure-variants .scroll");
    await region.focus();
    await region.evaluate((one) => { one.querySelector("tbody tr").marked = true; });
    await page.waitForTimeout(200);
    assert.ok(await region.evaluate((one) => one.querySelector("tbody tr").marked && document.activeElement === one));
  });

  it("reads the heat map by pointer and arrow keys", async () => {
    const cell = page.locator("table.heat tbody tr").nth(1).locator("td").nth(4);
    await cell.hover();
    assert.equal(await page.locator("#tip strong").textContent(), "plan, layer 4");
    await page.mouse.move(2, 300);
    await page.locator("#tip").waitFor({ state: "hidden" });
    await page.locator("table.heat td[tabindex='0']").focus();
    for (const key of ["ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft"]) await page.keyboard.press(key);
    assert.equal(await page.locator("#tip strong").textContent(), "plan, layer 1");
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#tip").isHidden());
  });

  it("reads the curves by pointer and arrow keys", async () => {
    const chart = page.locator("[data-history=decode_tok_s]");
    await chart.hover();
    const told = await page.locator("#tip").textContent();
    assert.match(told, /^\d\d:\d\d:\d\dAnswer tokens[\d.]+ tok\/s/);
    await page.mouse.move(2, 300);
    await chart.focus();
    await page.keyboard.press("ArrowLeft");
    assert.match(await page.locator("#tip").textContent(), /tok\/s/);
  });

  it("names its pictures and tables, and has headings in order", async () => {
    const names = await page.locator("[role=img]:visible").evaluateAll((all) => all.map((one) => one.getAttribute("aria-label") ?? ""));
    assert.ok(names.length > 10 && names.every((name) => name.length > 10), names.join("\n"));
    for (const table of await page.locator("table").all()) {
      assert.ok((await table.locator("caption").textContent()).length > 5);
      assert.equal(await table.locator("tbody th[scope=row]").count(), await table.locator("tbody tr").count());
    }
    const levels = await page.locator("h1:visible, h2:visible, h3:visible, h4:visible").evaluateAll((all) => all.map((one) => Number(one.tagName[1])));
    assert.equal(levels.filter((level) => level === 1).length, 1);
    levels.forEach((level, at) => assert.ok(at === 0 ? level === 1 : level <= levels[at - 1] + 1, `heading ${at + 1} of ${levels}`));
  });

  it("reaches every control by Tab, with a focus that shows", async () => {
    const wanted = await page.evaluate(() => {
      const all = [...document.querySelectorAll("a[href], button, select, input, textarea, summary, [tabindex='0']")].filter((one) => one.checkVisibility());
      all.forEach((one, at) => { one.dataset.stop = at; });
      document.activeElement.blur();
      scrollTo(0, 0);
      return all.length;
    });
    const reached = new Set();
    for (let press = 0; press < wanted + 8; press++) {
      await page.keyboard.press("Tab");
      const [stop, outlined] = await page.evaluate(() => [document.activeElement.dataset.stop, getComputedStyle(document.activeElement).outlineStyle !== "none"]);
      if (stop === undefined) continue;
      assert.ok(outlined, `stop ${stop} shows no focus`);
      reached.add(stop);
    }
    assert.equal(reached.size, wanted);
  });

  it("switches the theme and remembers it", async () => {
    const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const first = await colour();
    await page.locator("#theme").click();
    assert.notEqual(await colour(), first);
    assert.equal(await page.evaluate(() => localStorage.getItem("fewron-theme")), "dark");
    await page.locator("#theme").click();
    assert.equal(await colour(), first);
  });
});

describe("dashboard, empty", { skip: skipMock }, () => {
  for (const view of [views[0], views[3]]) {
    it(`says what to do, ${view.name}`, async (test) => {
      const mock = await startMock({ status: empty });
      test.after(() => mock.close());
      const opened = await openDashboard(mock.url, view);
      const { page } = opened;
      assert.equal(await page.locator("#headline").textContent(), "Ready: no request has come yet.");
      assert.match(await page.locator("#example").textContent(), /^curl http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions/);
      for (const id of ["no-requests", "no-log", "no-guards"]) assert.ok(await page.locator(`#${id}`).isVisible());
      assert.equal(await page.locator("#first-token").textContent(), "–");
      assert.ok(!/NaN|undefined|Infinity|null/.test(await page.locator("body").innerText()));
      await assertFits(page, view.width);
      await assertAccessible(page);
      await page.goto(`${mock.url}#chat`);
      assert.equal(await page.locator("#sparse").inputValue(), "");
      assert.ok(await page.locator("#policy").isVisible());
      await shoot(page, `empty-${view.name}`);
      await close(opened, mock);
    });
  }

  it("bears what is not known: intervals without ends, layers without shares", async (test) => {
    const mock = await startMock();
    test.after(() => mock.close());
    const busy = mock.status;
    mock.status = (...now) => {
      const status = busy(...now);
      const one = status.variants[1];
      one.active_by_layer = [];
      one.quality.answers = 1;
      Object.assign(one.quality.agreement, { low: null, high: null });
      Object.assign(one.quality.kl, { low: null, high: null });
      return status;
    };
    const opened = await openDashboard(mock.url, views[0]);
    assert.match(await opened.page.locator(".card").first().textContent(), /of 1 answer scored/);
    assert.ok(!/NaN|undefined|Infinity|null/.test(await opened.page.locator("body").innerText()));
    await close(opened, mock);
  });

  it("holds long names and many layers", async () => {
    const name = "a-model-whose-name-is-longer-than-any-screen-of-a-telephone-".repeat(3);
    const layers = 80;
    const mock = await startMock();
    const busy = mock.status;
    mock.status = (...now) => {
      const status = busy(...now);
      for (const one of status.variants) one.active_by_layer = Array(layers).fill(one.active);
      status.variants[1].name = name;
      return { ...status, model: name, layers };
    };
    const opened = await openDashboard(mock.url, views[2]);
    await assertFits(opened.page, 390);
    assert.equal(await opened.page.locator("table.heat tbody tr").first().locator("td").count(), layers);
    await opened.page.goto(`${mock.url}#chat`);
    await assertFits(opened.page, 390);
    await close(opened, mock);
  });
});

describe("dashboard, quality", { skip: skipMock }, () => {
  let mock, opened, page;
  before(async () => {
    mock = await startMock({ fallen: true, tick_ms: 100 });
    opened = await openDashboard(mock.url, views[0]);
    page = opened.page;
  });
  after(async () => {
    await close(opened, mock, NETWORK);
  });
  const card = () => page.locator(".card", { has: page.locator("h4", { hasText: "gate@0.7" }) });

  it("raises an alarm for a variant that fell back", async () => {
    assert.match(await page.locator("#alarm[role=alert]").textContent(), /^gate@0\.7 left its quality budget/);
    assert.equal(await page.locator("#headline").textContent(), "gate@0.7 left its quality budget and is served dense.");
    assert.equal(await card().locator(".badge").textContent(), "fallen back to dense");
    assert.equal(await card().locator("b.beyond").count(), 2);
    assert.equal(await page.locator(".card button:visible").count(), 1);
    await assertAccessible(page);
    await shoot(page, "fallen");
  });

  it("says of each variant how it stands", async () => {
    const badges = await page.locator(".card .badge").allTextContents();
    assert.deepEqual(badges, ["keeps its budget", "fallen back to dense", "keeps its budget", "not scored yet", "watched, no limit"]);
    assert.equal(await card().locator(".note").textContent(), "1,204 tokens of 31 answers scored; 220 tokens wait.");
  });

  it("asks before it re-arms, and tells when that fails", async () => {
    const rearmed = () => mock.asked.filter(({ path }) => path === "/fewron/rearm");
    await card().locator("button").click();
    await page.locator("#rearm button[value=cancel]").click();
    assert.equal(rearmed().length, 0);
    assert.ok(await page.locator("#rearm").isHidden());
    mock.errors = { "/fewron/rearm": [409, "gate@0.7 is busy"] };
    await card().locator("button").click();
    await assertAccessible(page);
    await page.locator("#rearm-go").click();
    await page.locator("#rearm-error", { hasText: "gate@0.7 is busy" }).waitFor();
    mock.errors = {};
    await page.locator("#rearm-go").click();
    await page.locator("#alarm > p").waitFor({ state: "detached" });
    assert.deepEqual(rearmed().at(-1).body, { variant: "gate@0.7" });
    assert.equal(await page.locator(".card button:visible").count(), 0);
  });
});

describe("dashboard, chat", { skip: skipMock }, () => {
  let mock, opened, page;
  before(async () => {
    mock = await startMock();
    opened = await openDashboard(mock.url, views[0], "#chat");
    page = opened.page;
  });
  after(async () => {
    await close(opened, mock, NETWORK);
  });
  const chats = () => mock.asked.filter(({ path }) => path === "/v1/chat/completions").map(({ body }) => body);

  it("streams both answers at once", async () => {
    mock.token_ms = 60;
    await ask(page, "Why is the sky");
    for (const which of ["dense", "sparse"]) await page.waitForFunction((id) => document.querySelector(`#${id}-answer .text`).textContent.startsWith("The sky"), which);
    const both = await page.locator(".answer.writing").count();
    assert.equal(both, 2);
    await page.locator("#comparison").waitFor();
    assert.equal(await page.locator(".answer.writing").count(), 0);
    mock.token_ms = 5;
  });

  it("asks the dense model for the prompt's and the answer's tokens", async () => {
    const { body } = mock.asked.findLast(({ path }) => path === "/v1/completions");
    const { prompt, ...rest } = body;
    assert.deepEqual(rest, { model: "smollm2-135m-instruct:dense", echo: true, logprobs: 1, max_tokens: 0 });
    assert.ok(prompt.length > 12 && prompt.every(Number.isInteger));
    const [messages, text] = mock.asked.filter(({ path }) => path === "/tokenize").map((one) => one.body);
    assert.deepEqual(messages, { messages: [{ role: "user", content: "Why is the sky" }], add_generation_prompt: true });
    assert.deepEqual(text, { prompt: "The sky is blue since air bends light.\nThat’s all.", add_special_tokens: false });
  });

  it("tells of each mark what dense would have written", async () => {
    const mark = page.locator("#sparse-answer .token").first();
    await mark.hover();
    assert.equal(await page.locator("#tip").textContent(), "Written: “ since”dense would write “ because”67.0%and gives “ since”30.1%");
    await page.mouse.move(2, 2);
    await mark.focus();
    await page.keyboard.press("ArrowRight");
    assert.match(await page.locator("#tip strong").textContent(), /bends/);
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "“ bends”: dense would write “ scat”, 67.0%");
  });

  it("finds nothing to mark in equal answers", async () => {
    await askWhole(page, "the same");
    assert.deepEqual(await marks(page), []);
    assert.equal(await page.locator("#agreement").textContent(), "100.0%");
    assert.equal(await page.locator("#parting").textContent(), "Nowhere");
    assert.equal(await page.locator(".part").count(), 0);
  });

  it("never takes what is written for HTML", async () => {
    await askWhole(page, "<img src=x onerror=alert(1)> html");
    assert.equal(await page.locator("#answers img, #answers script, #answers b, #tip img").count(), 0);
    assert.match(await written(page, "sparse"), /^<img src=x onerror="document\.title = 'hacked'"><b>bold<\/b>$/);
    await page.locator("#sparse-answer .token").last().focus();
    assert.match(await page.locator("#tip").textContent(), /“<img src=\/stolen>”/);
    assert.match(await page.title(), /^smollm2/);
  });

  it("shows characters of several tokens whole, with a mark for their tokens", async () => {
    await askWhole(page, "a fox");
    assert.equal(await written(page, "sparse"), "A 🦊!");
    assert.deepEqual(await marks(page), [" ", "!"]);
    assert.equal(await page.locator("#agreement").textContent(), "60.0%");
  });

  it("uses the ids of tokens where the server tells them", async () => {
    mock.ids = true;
    const before = mock.asked.length;
    await askWhole(page, "Why is the sky");
    mock.ids = false;
    assert.equal(mock.asked.slice(before).filter(({ path, body }) => path === "/tokenize" && body.prompt).length, 0);
    assert.equal(await page.locator("#agreement").textContent(), "75.0%");
  });

  it("says so when a text is cut into other tokens than it was written in", async () => {
    mock.recut = true;
    await askWhole(page, "Why is the sky");
    mock.recut = false;
    assert.match(await page.locator("#agreement-note").textContent(), /cut into tokens again/);
    assert.equal(await written(page, "sparse"), "The sky is blue since air bends light.\nThat’s all.");
  });

  it("bears an empty answer", async () => {
    await askWhole(page, "empty");
    assert.equal(await page.locator("#agreement").textContent(), "–");
    assert.match(await page.locator("#sparse-answer .end").textContent(), /empty/);
  });

  it("sends what the settings say", async () => {
    await page.locator("summary").click();
    await page.locator("#temperature").fill("0.7");
    await page.locator("#max-tokens").fill("3");
    await page.locator("#seed").fill("42");
    await page.locator("#system").fill("Be brief.");
    await page.locator("#in-turn").check();
    await page.locator("#sparse").selectOption("");
    await page.locator("#ratio").fill("0.6");
    await askWhole(page, "Why is the sky");
    const [dense, sparse] = chats().slice(-2);
    const both = {
      messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Why is the sky" }],
      temperature: 0.7, max_tokens: 3, seed: 42, stream: true, logprobs: true, stream_options: { include_usage: true },
    };
    assert.deepEqual(dense, { model: "smollm2-135m-instruct:dense", ...both });
    assert.deepEqual(sparse, { model: "smollm2-135m-instruct", fewron: { policy: "gate", sparsity: 0.6 }, ...both });
    assert.match(await page.locator("#sparse-answer .end").textContent(), /^Cut at/);
    assert.equal(await page.locator("#speedup").textContent(), "–");
    assert.match(await page.locator("#agreement-note").textContent(), /by chance/);
    assert.equal(await page.locator("#sparse-answer h2").textContent(), "gate at 60%");
    await assertAccessible(page);
    await shoot(page, "chat-settings");
    await page.locator("#temperature").fill("0");
    await page.locator("#max-tokens").fill("400");
    await page.locator("#in-turn").uncheck();
  });

  it("opens the settings for one that is out of range", async () => {
    await page.locator("#max-tokens").fill("0");
    await page.locator("summary").click();
    const before = chats().length;
    await ask(page, "Why is the sky");
    assert.ok(await page.locator("#max-tokens").isVisible());
    assert.equal(chats().length, before);
    await page.locator("#max-tokens").fill("400");
  });

  it("stops", async () => {
    mock.token_ms = 50;
    await ask(page, "something long");
    await page.waitForFunction(() => document.querySelector("#sparse-answer .text").textContent.includes("word2"));
    await page.locator("#stop").click();
    await page.locator("#send:enabled").waitFor();
    mock.token_ms = 5;
    assert.equal(await page.locator("#chat-status").textContent(), "Stopped.");
    assert.equal(await page.locator("#sparse-answer .end").textContent(), "Stopped.");
    assert.ok(await page.locator("#comparison").isHidden());
  });

  it("tells what went wrong", async () => {
    mock.errors = { "/v1/chat/completions": [429, "256 requests are waiting already", { "retry-after": "7" }] };
    await ask(page, "Why is the sky");
    await page.locator("#sparse-answer .end.wrong").waitFor();
    assert.equal(await page.locator("#sparse-answer .end").textContent(), "256 requests are waiting already. Try again in 7 s.");
    mock.errors = {};
    mock.breakAfter = 4;
    await ask(page, "Why is the sky");
    await page.locator("#dense-answer .end", { hasText: "The rest is missing" }).waitFor();
    assert.match(await answer(page, "dense").textContent(), /^The sky/);
    mock.errorInStream = true;
    await ask(page, "Why is the sky");
    await page.locator("#dense-answer .end", { hasText: "took longer than 600 s" }).waitFor();
    mock.breakAfter = Infinity;
    mock.errors = { "/v1/completions": [400, "no <b>echo</b>"] };
    await ask(page, "Why is the sky");
    await page.locator("#chat-status", { hasText: "The answers were not compared: no <b>echo</b>." }).waitFor();
    mock.errors = {};
    await askWhole(page, "Why is the sky");
  });
});

describe("dashboard, connection", { skip: skipMock }, () => {
  it("asks for the key, refuses a wrong one, keeps the right one in the tab", async (test) => {
    const mock = await startMock({ key: "right", tick_ms: 100 });
    test.after(() => mock.close());
    const opened = await openDashboard(mock.url, views[2], "", { waits: false });
    const { page } = opened;
    await page.locator("#key-form").waitFor();
    assert.ok(await page.locator("#monitor").isHidden());
    assert.equal(await page.locator("#key-error").textContent(), "");
    await assertFits(page, 390);
    await assertAccessible(page);
    await shoot(page, "key");
    await page.locator("#key").fill("wröng");
    await page.keyboard.press("Enter");
    await page.locator("#key-error", { hasText: "letters, digits" }).waitFor();
    await page.locator("#key").fill("wrong");
    await page.keyboard.press("Enter");
    await page.locator("#key-error", { hasText: "did not accept" }).waitFor();
    await page.locator("#key").fill("right");
    await page.keyboard.press("Enter");
    await page.locator("#monitor").waitFor();
    assert.ok(await page.locator("#key-form").isHidden());
    assert.equal(await page.locator("#key").inputValue(), "");
    await page.reload();
    await page.locator("#monitor").waitFor();
    assert.ok(await page.locator("#key-form").isHidden());
    assert.equal(await page.evaluate(() => localStorage.getItem("fewron-key")), null);
    await page.goto(`${mock.url}#chat`);
    await askWhole(page, "Why is the sky");
    await close(opened, mock, NETWORK);
  });

  it("asks for the key again when it is no longer good", async (test) => {
    const mock = await startMock({ tick_ms: 100 });
    test.after(() => mock.close());
    const opened = await openDashboard(mock.url, views[0], "#chat");
    const { page } = opened;
    mock.key = "new";
    await ask(page, "Why is the sky");
    await page.locator("#key-form").waitFor();
    await page.waitForTimeout(300);
    await page.locator("#key").fill("new");
    await page.keyboard.press("Enter");
    await page.locator("#chat").waitFor();
    assert.equal(await page.locator("#sparse-answer .end").textContent(), "the server asks for an API key.");
    await askWhole(page, "Why is the sky");
    await close(opened, mock, NETWORK);
  });

  it("shows that what it shows is old, and comes back", async (test) => {
    const mock = await startMock({ tick_ms: 100 });
    test.after(() => mock.close());
    const opened = await openDashboard(mock.url, views[0]);
    const { page } = opened;
    mock.errors = { "/fewron/status": [503, "starting"] };
    mock.drop();
    await page.locator("#connection[data-state=lost]").waitFor();
    assert.match(await page.locator("#stale").innerText(), /Not connected to the server\. What you see is of \d\d:\d\d:\d\d/);
    await assertAccessible(page);
    await shoot(page, "stale");
    mock.errors = {};
    await page.locator("#retry").click();
    await page.locator("#connection[data-state=live]").waitFor();
    assert.ok(await page.locator("#stale").isHidden());
    mock.drop();
    await page.locator("#connection[data-state=lost]").waitFor();
    await page.locator("#connection[data-state=live]").waitFor();
    await close(opened, mock, NETWORK);
  });

  it("gives up a connection that is silent", async (test) => {
    const mock = await startMock({ tick_ms: 100 });
    test.after(() => mock.close());
    const opened = await openDashboard(mock.url, views[0]);
    mock.silent = true;
    await opened.page.locator("#connection[data-state=lost]").waitFor();
    mock.silent = false;
    await opened.page.locator("#connection[data-state=live]").waitFor();
    await close(opened, mock, NETWORK);
  });
});

describe("dashboard of a real server", { skip: skip || (!server && "no FEWRON_SERVER") }, () => {
  for (const view of views) {
    it(`shows its status and chats, ${view.name}`, { timeout: 300_000 }, async () => {
      const url = new URL("/", server).href;
      const opened = await openDashboard(url, view);
      const { page } = opened;
      const length = () => page.locator("[data-history=decode_tok_s] polyline").first().getAttribute("points").then((points) => points.length);
      const first = await length();
      while (await length() <= first) await page.waitForTimeout(200);
      assert.ok(!/NaN|undefined|Infinity/.test(await page.locator("#monitor").innerText()));
      await assertFigures(page);
      await assertFits(page, view.width);
      await assertAccessible(page);
      await shoot(page, `server-${view.name}`);
      await page.goto(`${url}#chat`);
      await page.locator("summary").click();
      await page.locator("#max-tokens").fill("24");
      await ask(page, "Why is the sky blue?");
      await page.locator("#comparison").waitFor({ timeout: 120_000 });
      for (const which of ["dense", "sparse"]) {
        assert.ok((await answer(page, which).textContent()).length > 0);
        assert.match(await page.locator(`#${which}-answer .speed`).textContent(), /^\d+ tokens?/);
        assert.equal(await page.locator(`#${which}-answer .end.wrong`).count(), 0);
      }
      assert.match(await page.locator("#agreement").textContent(), /^\d+\.\d%$/);
      assert.match(await page.locator("#agreement-note").textContent(), /of \d+ tokens?/);
      await assertFits(page, view.width);
      await shoot(page, `server-chat-${view.name}`);
      await close(opened);
    });
  }
});
