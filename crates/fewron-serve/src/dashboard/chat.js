// The chat: one prompt, a dense and a sparse answer, and how far they agree.
import { hasKey } from "./api.js";
import { parting, pieces, score } from "./agreement.js";
import { AnswerColumn } from "./answer.js";
import { Completion } from "./completion.js";
import { byId, element } from "./dom.js";
import { NONE, percent, plural, shortPercent } from "./format.js";
import { slotsOf } from "./verdict.js";

const BY_POLICY = "";

// Returns what takes a new status.
export function startChat() {
  const dense = new AnswerColumn(byId("dense-answer"));
  const sparse = new AnswerColumn(byId("sparse-answer"));
  const state = { status: undefined, aborter: undefined };
  const rename = () => { if (!state.aborter) nameColumns(dense, sparse, state.status); };
  for (const id of ["sparse", "policy", "ratio"]) byId(id).addEventListener("input", rename);
  byId("stop").addEventListener("click", () => state.aborter?.abort());
  byId("prompt").addEventListener("keydown", sendOnEnter);
  byId("ask").addEventListener("invalid", (event) => event.target.closest("details")?.setAttribute("open", ""), true);
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!state.aborter) ask(state, dense, sparse);
  });
  return (status) => {
    const first = !state.status;
    state.status = status;
    byId("max-tokens").max = status.context;
    if (offerVariants(status.variants) || first) rename();
  };
}

function sendOnEnter(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("ask").requestSubmit();
}

// The sparse variants, and any policy. Says whether the choice changed.
function offerVariants(variants) {
  const select = byId("sparse");
  const names = variants.filter(({ policy }) => policy !== null).map(({ name }) => name);
  if (select.dataset.names === names.join("\n")) return false;
  select.dataset.names = names.join("\n");
  const chosen = select.options.length ? select.value : names[0];
  const options = names.map((name) => element("option", { value: name, text: name }));
  select.replaceChildren(...options, element("option", { value: BY_POLICY, text: "a policy and a ratio…" }));
  select.value = names.includes(chosen) ? chosen : BY_POLICY;
  return true;
}

function nameColumns(dense, sparse, status) {
  const name = byId("sparse").value;
  byId("by-policy").hidden = name !== BY_POLICY;
  dense.name("dense", "d");
  const variants = status?.variants ?? [];
  const fallen = variants.find((one) => one.name === name)?.fallen_back ? ", served dense now" : "";
  const asked = name || `${byId("policy").value} at ${shortPercent(Number(byId("ratio").value))}`;
  sparse.name(asked + fallen, slotsOf(variants).get(name) ?? 0);
}

// What the form asks of both models.
function readForm({ model }) {
  const number = (id) => Number(byId(id).value);
  const system = byId("system").value.trim();
  const messages = [{ role: "user", content: byId("prompt").value }];
  if (system) messages.unshift({ role: "system", content: system });
  const both = { messages, temperature: number("temperature"), max_tokens: number("max-tokens"), seed: number("seed") };
  const name = byId("sparse").value;
  const policy = { model, fewron: { policy: byId("policy").value, sparsity: number("ratio") } };
  return {
    messages, sampled: both.temperature > 0, inTurn: byId("in-turn").checked,
    dense: { model: `${model}:dense`, ...both },
    sparse: name === BY_POLICY ? { ...policy, ...both } : { model: `${model}:${name}`, ...both },
  };
}

async function ask(state, dense, sparse) {
  const asked = readForm(state.status);
  nameColumns(dense, sparse, state.status);
  state.aborter = new AbortController();
  const { signal } = state.aborter;
  busy(true);
  say("Both answers are being written.");
  try {
    const answers = await writeBoth(asked, dense, sparse, signal);
    await compare(asked, answers, dense, sparse, signal);
  } catch (error) {
    say(signal.aborted ? "Stopped." : `The answers were not compared: ${explain(error)}`);
  } finally {
    state.aborter = undefined;
    busy(false);
  }
}

function busy(on) {
  byId("stop").hidden = !on;
  byId("send").disabled = on;
  if (on) byId("comparison").hidden = true;
  else if (document.activeElement === document.body) byId("prompt").focus();
}

const say = (text) => { byId("chat-status").textContent = text; };

// Both answers; undefined in place of one that failed.
async function writeBoth(asked, dense, sparse, signal) {
  dense.begin();
  if (!asked.inTurn) sparse.begin();
  const first = write(asked.dense, dense, signal);
  if (asked.inTurn) await first;
  if (asked.inTurn) sparse.begin();
  return Promise.all([first, write(asked.sparse, sparse, signal)]);
}

async function write(body, column, signal) {
  const completion = new Completion();
  try {
    await completion.read(body, signal, (text) => column.add(text, completion));
    column.end(completion.finish, completion);
    return completion;
  } catch (error) {
    if (signal.aborted) column.end("stopped", completion);
    else column.fail(`${completion.text ? "The rest is missing: " : ""}${explain(error)}`);
    return undefined;
  }
}

function explain({ status, message, retry_after_s }) {
  if (status === 401) return hasKey() ? "the server does not accept the API key." : "the server asks for an API key.";
  const later = status === 429 && retry_after_s ? ` Try again in ${retry_after_s} s.` : "";
  return `${message.replace(/\.$/, "")}.${later}`;
}

async function compare(asked, [denseAnswer, sparseAnswer], dense, sparse, signal) {
  if (signal.aborted) return say("Stopped.");
  if (!sparseAnswer) return say("There is no whole sparse answer to compare.");
  say("The dense model scores the sparse answer.");
  const cut = denseAnswer?.tokens.length && sparseAnswer.tokens.length;
  const part = cut ? parting(denseAnswer.tokens, sparseAnswer.tokens) : undefined;
  if (cut) dense.mark(pieces(denseAnswer.tokens).map((text) => ({ text })), part);
  showParting(part, cut, sparseAnswer);
  showSpeed(denseAnswer, sparseAnswer, asked.inTurn);
  const scored = await score(asked.dense.model, asked.messages, sparseAnswer, signal);
  if (scored.tokens.length) sparse.mark(scored.tokens, scored.exact ? part : undefined);
  showAgreement(scored, asked.sampled);
  byId("comparison").hidden = false;
}

function showAgreement({ tokens, exact }, sampled) {
  const agreeing = tokens.filter(({ agrees }) => agrees).length;
  const share = tokens.length ? percent(agreeing / tokens.length) : NONE;
  byId("agreement").textContent = share;
  const notes = [`${agreeing} of ${plural(tokens.length, "token")} ${agreeing === 1 ? "is" : "are"} what the dense model would have written after the same words`];
  if (sampled) notes.push("answers are sampled, so some differ by chance");
  if (!exact) notes.push("the text was cut into tokens again, in another way than it was written");
  byId("agreement-note").textContent = tokens.length ? `${notes.join("; ")}.` : "The answer is empty.";
  const marked = agreeing < tokens.length ? " Marked tokens tell what it would have written instead." : "";
  say(tokens.length ? `${share} of the sparse answer’s tokens agree with the dense model.${marked}` : "There is nothing to compare.");
}

function showParting(part, cut, { tokens }) {
  byId("parting").textContent = !cut ? NONE : part === undefined ? "Nowhere" : `Token ${part + 1}`;
  byId("parting-note").textContent = cut ? partingWords(part, tokens.length) : "There are no two answers to compare.";
}

function partingWords(part, length) {
  if (part === undefined) return "Both answers are the same.";
  if (part === 0) return "They have no beginning in common.";
  return `The first ${part === 1 ? "token" : plural(part, "token")} of ${length} ${part === 1 ? "is" : "are"} common; then each goes its own way.`;
}

function showSpeed(dense, { tok_s }, inTurn) {
  const known = dense?.tok_s && tok_s;
  byId("speedup").textContent = known ? `${(tok_s / dense.tok_s).toFixed(2)} ×` : NONE;
  const how = inTurn ? "Of the dense one; each had the machine to itself." : "Of the dense one; both shared the machine and its batches.";
  byId("speedup-note").textContent = known ? how : "Too few tokens to tell.";
}
