// One headless Chromium that must not talk to anyone, and the page that it opens.
import { mkdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

const report = process.env.FEWRON_REPORT;
export const url = report && pathToFileURL(resolve(report)).href;
// `sweep`, `evaluation`, `comparison`, `history`, `bench`, …
export const kind = report && readFileSync(report, "utf8").match(/<html [^>]*data-page="(\w+)"/)[1];
export const folder = process.env.FEWRON_SCREENSHOTS;
if (folder) mkdirSync(folder, { recursive: true });

export const views = [
  { name: "1280-light", width: 1280, height: 900 },
  { name: "1280-dark", width: 1280, height: 900, dark: true },
  { name: "390-light", width: 390, height: 844, touch: true },
  { name: "390-dark", width: 390, height: 844, dark: true, touch: true },
];

export const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ARGUMENTS,
});

// Opens `url` and notes whatever goes wrong: `errors` of the console, `requests` that leave the file.
export async function open(browser, url, { width, height, dark = false, javaScriptEnabled = true, touch = false }) {
  const context = await browser.newContext({
    viewport: { width, height }, colorScheme: dark ? "dark" : "light", javaScriptEnabled, hasTouch: touch,
  });
  const page = await context.newPage();
  const errors = [];
  const requests = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => {
    if (request.url() !== url && !request.url().startsWith("data:")) requests.push(request.url());
  });
  await page.goto(url, { waitUntil: "load" });
  return { page, context, errors, requests };
}

// The rows of a CSV file (RFC 4180), column names first.
export function parseCsv(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,"\r\n]*))(,|\r\n|$)/gy)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\r\n") rows.push([]);
    if (end === "") break;
  }
  const last = rows.pop();
  if (last.length > 1 || last[0]) throw new Error("the last line does not end");
  return rows;
}

// Saves what `link` offers and reads it.
export async function download(page, link) {
  const [saved] = await Promise.all([page.waitForEvent("download", { timeout: 10_000 }), link.click()]);
  return { name: saved.suggestedFilename(), rows: parseCsv(readFileSync(await saved.path(), "utf8")) };
}
