// What the dense model would have written in place of each token of an answer.
import { post } from "./api.js";

// Scores `answer` (a `Completion`) to `messages` by the variant `model`. Returns `tokens`, each with `text`,
// `agrees`, its probability, and the model's choice with its probability; and whether the tokens are those that
// were written (`exact`), or the same text cut in another way.
export async function score(model, messages, answer, signal) {
  const prompt = await tokenize({ messages, add_generation_prompt: true }, signal);
  const ids = await answerIds(answer, signal);
  if (!ids.length) return { tokens: [], exact: true };
  const body = { model, prompt: [...prompt, ...ids], echo: true, logprobs: 1, max_tokens: 0 };
  const { choices: [{ logprobs }] } = await (await post("/v1/completions", body, signal)).json();
  const places = ids.map((_, at) => prompt.length + at);
  const echoed = places.map((place) => logprobs.tokens[place]);
  const exact = sameTokens(answer.tokens, echoed);
  const texts = pieces(exact && answer.tokens.length ? answer.tokens : echoed.map((token) => ({ token })));
  return { exact, tokens: places.map((place, at) => ({ text: texts[at], ...judge(logprobs, place) })) };
}

async function tokenize(body, signal) {
  const { tokens } = await (await post("/tokenize", body, signal)).json();
  return tokens;
}

async function answerIds({ tokens, text }, signal) {
  if (tokens.length && tokens.every(({ id }) => Number.isInteger(id))) return tokens.map(({ id }) => id);
  return text ? tokenize({ prompt: text, add_special_tokens: false }, signal) : [];
}

function judge({ tokens, token_logprobs, top_logprobs }, place) {
  const [choice, best] = Object.entries(top_logprobs[place]).reduce((a, b) => b[1] > a[1] ? b : a);
  const own = token_logprobs[place];
  const agrees = tokens[place] === choice || own >= best;
  return { agrees, probability: Math.exp(own), choice, choice_probability: Math.exp(best) };
}

// Parts of characters have no text of their own to be told apart by.
const partOfCharacter = (text) => text.includes("\ufffd") || text.startsWith("bytes:");

function sameTokens(written, echoed) {
  if (!written.length) return true;
  if (written.length !== echoed.length) return false;
  return written.every(({ token }, at) => token === echoed[at] || partOfCharacter(token) || partOfCharacter(echoed[at]));
}

// The texts of tokens; a character of several tokens goes to the last of them.
export function pieces(tokens) {
  const decoder = new TextDecoder();
  return tokens.map(({ token, bytes }) => bytes ? decoder.decode(Uint8Array.from(bytes), { stream: true }) : token);
}

// The first token where two answers differ; none if they are the same.
export function parting(one, other) {
  const key = ({ id, token, bytes }) => id ?? (bytes ? bytes.join() : token);
  const most = Math.max(one.length, other.length);
  for (let at = 0; at < most; at++) {
    if (at >= one.length || at >= other.length || key(one[at]) !== key(other[at])) return at;
  }
  return undefined;
}
