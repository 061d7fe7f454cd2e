// A column of the chat: an answer as it is written, then with its marks.
import { all, element, setText, swatch } from "./dom.js";
import { percent, plural, rate } from "./format.js";
import { hideTip, showTip, tipOwner } from "./tip.js";

const ENDINGS = { length: "Cut at the most tokens asked for.", stopped: "Stopped." };

export class AnswerColumn {
  #root;
  #head = element("h2");
  #speed = element("span", { className: "speed" });
  #text = element("p", { className: "text" });
  #end = element("p", { className: "end" });

  constructor(root) {
    this.#root = root;
    root.append(element("header", {}, this.#head, this.#speed), this.#text, this.#end);
    root.addEventListener("keydown", (event) => this.#walk(event));
    for (const type of ["pointerover", "focusin", "click"]) {
      root.addEventListener(type, (event) => { if (event.target.closest(".token")) tell(event.target.closest(".token")); });
    }
    for (const type of ["pointerout", "focusout"]) {
      root.addEventListener(type, () => { if (root.contains(tipOwner())) hideTip(); });
    }
  }

  name(name, slot) {
    this.#root.className = `answer s${slot}`;
    this.#head.replaceChildren(swatch(name, slot));
    this.#root.setAttribute("aria-label", `Answer of ${name}`);
  }

  begin() {
    this.#text.replaceChildren();
    this.#speed.textContent = "";
    this.#say("", false);
    this.#root.classList.add("writing");
  }

  add(text, completion) {
    if (text) this.#text.append(text);
    this.#text.normalize();
    this.#tellSpeed(completion);
  }

  // `finish` is the server's, or `stopped`.
  end(finish, completion) {
    this.#root.classList.remove("writing");
    this.#tellSpeed(completion);
    const empty = completion.text ? "" : "The answer is empty.";
    this.#say(ENDINGS[finish] ?? empty, false);
  }

  fail(message) {
    this.#root.classList.remove("writing");
    this.#say(message, true);
  }

  // Shows `tokens` (`{ text, agrees?, … }`) with a bar before the one at `part`; those before it step back.
  mark(tokens, part) {
    const shown = tokens.map((token, at) => token.agrees === false ? tokenMark(token) : plain(token.text, at, part));
    if (part !== undefined) shown.splice(part, 0, partMark());
    this.#text.replaceChildren(...shown);
    this.#text.querySelector(".token")?.setAttribute("tabindex", 0);
  }

  #tellSpeed({ length, tok_s }) {
    if (length) setText(this.#speed, `${plural(length, "token")}${tok_s ? ` · ${rate(tok_s)} tok/s` : ""}`);
  }

  #say(text, wrong) {
    this.#end.textContent = text;
    this.#end.classList.toggle("wrong", wrong);
  }

  // The arrow keys go from mark to mark.
  #walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const marks = all(".token", this.#text);
    const next = marks[marks.indexOf(event.target) + step];
    if (!step || !marks.includes(event.target)) return;
    event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

const isSame = (at, part) => part !== undefined && at < part;

function plain(text, at, part) {
  return isSame(at, part) ? element("span", { className: "same", text }) : text;
}

function partMark() {
  return element("span", { className: "part" }, element("span", { className: "unseen", text: " (here the answers part) " }));
}

// What cannot be seen is drawn.
const visible = (text) => text.replace(/\n/g, "↵\n");
const quoted = (text) => `“${text.replace(/\n/g, "↵")}”`;

function tokenMark(token) {
  const { text, choice, choice_probability } = token;
  const words = `${quoted(text)}: dense would write ${quoted(choice)}, ${percent(choice_probability)}`;
  const mark = element("span", { className: "token", role: "button", tabindex: -1, "aria-label": words, text: visible(text) || "·" });
  mark.told = token;
  return mark;
}

function tell(mark) {
  const box = mark.getClientRects()[0];
  const { text, probability, choice, choice_probability } = mark.told;
  const rows = [
    [`dense would write ${quoted(choice)}`, percent(choice_probability)],
    [`and gives ${quoted(text)}`, percent(probability)],
  ];
  showTip(mark, box.right, box.top - 34, `Written: ${quoted(text)}`, rows);
}
