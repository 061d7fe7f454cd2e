// A vocabulary that grows, and the longest match over it; a token is a string of bytes.
const toBytes = (text) => Buffer.from(text).toString("latin1");
const toText = (bytes) => Buffer.from(bytes, "latin1").toString();

export class Tokenizer {
  #vocabulary = [];

  // The ids of tokens, given as texts or as arrays of bytes.
  ids(tokens) {
    return tokens.map((token) => this.#id(Array.isArray(token) ? Buffer.from(token).toString("latin1") : toBytes(token)));
  }

  encode(text) {
    let rest = toBytes(text);
    const ids = [];
    while (rest) {
      const known = this.#vocabulary.filter((token) => rest.startsWith(token));
      const token = known.reduce((best, one) => one.length > best.length ? one : best, rest[0]);
      ids.push(this.#id(token));
      rest = rest.slice(token.length);
    }
    return ids;
  }

  text(id) {
    return toText(this.#vocabulary[id]);
  }

  bytes(id) {
    return [...Buffer.from(this.#vocabulary[id], "latin1")];
  }

  #id(token) {
    const at = this.#vocabulary.indexOf(token);
    return at < 0 ? this.#vocabulary.push(token) - 1 : at;
  }
}
