// The dashboard: follows the server's status and shows it; chats; asks for a key where there must be one.
import { access, hasKey, setKey } from "./api.js";
import { startChat } from "./chat.js";
import { all, byId, setText } from "./dom.js";
import { clock } from "./format.js";
import { startHeatMap } from "./heat_map.js";
import { Feed } from "./live.js";
import { startOverview } from "./overview.js";
import { startQuality } from "./quality.js";
import { startRequests } from "./requests.js";
import { startTheme } from "./theme.js";
import { startVariants } from "./variants.js";

const WORDS = { connecting: "Connecting", live: "Live", lost: "Not connected", locked: "Key needed" };

let last;
let locked = false;
// Whether a key was given since, which a status will prove right.
let tried = false;

// One of two pages: what the server does, or the chat.
function route() {
  const target = location.hash.slice(1) || "overview";
  const chat = target === "chat";
  const open = last !== undefined && !locked;
  byId("monitor").hidden = !open || chat;
  byId("chat").hidden = !open || !chat;
  for (const link of all("nav a")) {
    if (link.hash === `#${target}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function navigate() {
  route();
  if (location.hash === "#chat" || location.hash === "#overview") scrollTo({ top: 0 });
  else document.getElementById(location.hash.slice(1))?.scrollIntoView();
  if (location.hash === "#chat") byId("prompt").focus({ preventScroll: true });
}

function showConnection({ detail: state }) {
  const chip = byId("connection");
  chip.dataset.state = state;
  setText(chip, WORDS[state]);
  const stale = state === "lost";
  document.body.classList.toggle("stale", stale);
  byId("stale").hidden = !stale;
  setText(byId("stale-time"), last ? clock(last.time_s) : "no time yet");
}

function askKey() {
  locked = true;
  tried = false;
  route();
  const form = byId("key-form");
  const again = !form.hidden || hasKey();
  byId("key-error").textContent = again ? "The server did not accept this key." : "";
  form.hidden = false;
  byId("key").focus();
}

function startKeyForm() {
  access.addEventListener("needed", askKey);
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = byId("key").value.trim();
    // HTTP headers hold visible ASCII alone.
    tried = /^[\x21-\x7e]+$/.test(key);
    if (tried) setKey(key);
    else byId("key-error").textContent = "An API key has letters, digits and signs alone.";
  });
}

function unlock() {
  if (!locked || !tried) return;
  locked = false;
  byId("key-form").hidden = true;
  byId("key").value = "";
}

function start() {
  startTheme();
  startKeyForm();
  const views = [startOverview(), startVariants(), startHeatMap(), startQuality(), startRequests(), startChat()];
  const feed = new Feed();
  feed.addEventListener("connection", showConnection);
  feed.addEventListener("status", ({ detail: status }) => {
    const first = last === undefined;
    last = status;
    document.title = `${status.model} · fewron`;
    unlock();
    for (const show of views) show(status);
    route();
    if (first) navigate();
  });
  byId("retry").addEventListener("click", () => feed.retryNow());
  addEventListener("hashchange", navigate);
  feed.start();
}

start();
