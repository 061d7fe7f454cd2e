#!/usr/bin/env python3
"""Checks that llama.cpp reads what `fewron convert` writes, and makes the same of it.

    python3 -m venv venv && venv/bin/pip install llama-cpp-python==0.3.36
    cargo build --release -p fewron
    venv/bin/python scripts/check_llama_cpp.py [DIR|FILE...]

Each Hugging Face directory (default: the tiny trained models but OPT, which GGUF has no architecture
for) is converted to several types. For texts of every script and spelling llama.cpp on the file and
fewron on the directory must cut as many tokens and find each as probable, and both must continue
prompts with the same text, greedily. A quantised GGUF file, such as one that `fewron convert --plan`
has written, is taken as it is.

With quantised weights both round the inputs of products to 8 bits, in another order, and neither is
right. There both are compared with llama.cpp on the same weights in F32: fewron may be no further off
than llama.cpp is, and with those weights both must write the same text.

Building llama-cpp-python takes minutes: `scripts/test` leaves this out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
# Largest difference of log-probabilities with float weights. llama.cpp takes GELU from a table of F16,
# and rounds the inputs of F16 and BF16 products to these types.
TOLERANCES = {"f32": 0.02, "f16": 0.05, "bf16": 0.5}
# How much further off than llama.cpp fewron may be with quantised weights.
NOISE_RATIO = 1.25
PROMPTS = [
    "Question: What is the sun?\nAnswer:",
    "Question: Why do cats sleep so much?\nAnswer:",
    "Once upon a time",
]
NEW_TOKENS = 32
# The type of a file that is there.
OWN = "own"
CONTEXT = 512


class LlamaCpp:
    def __init__(self, path):
        self.model = llama_cpp.Llama(
            str(path), n_ctx=CONTEXT, logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0
        )
        self.vocab = llama_cpp.llama_model_get_vocab(self.model.model)
        self.context = min(CONTEXT, llama_cpp.llama_model_n_ctx_train(self.model.model))

    def tokens(self, text):
        # BOS where the file asks for it; control tokens in the text are text.
        add_bos = llama_cpp.llama_vocab_get_add_bos(self.vocab)
        return self.model.tokenize(text.encode(), add_bos=add_bos, special=False)

    def logits(self, tokens):
        self.model.reset()
        self.model.eval(tokens)
        return self.model.scores[: len(tokens)]

    def logprobs(self, tokens):
        logits = self.logits(tokens[:-1]).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        norm = np.log(np.exp(logits).sum(axis=1))
        return logits[np.arange(len(tokens) - 1), tokens[1:]] - norm

    def greedy(self, prompt):
        tokens = self.tokens(prompt)
        logits = self.logits(tokens)[-1]
        text = b""
        for _ in range(NEW_TOKENS):
            token = int(logits.argmax())
            if llama_cpp.llama_vocab_is_eog(self.vocab, token):
                break
            tokens.append(token)
            text += self.piece(token)
            self.model.eval([token])
            logits = self.model.scores[len(tokens) - 1]
        return text.decode(errors="replace")

    def piece(self, token):
        room = 256
        buffer = (llama_cpp.ctypes.c_char * room)()
        length = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, room, 0, False)
        return bytes(buffer[:length])


class Fewron:
    def __init__(self, program):
        self.program = program

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], capture_output=True, check=False)
        if done.returncode != 0:
            sys.exit(f"fewron {' '.join(arguments)}\n{done.stderr.decode()}")
        return done.stdout.decode()

    def logprobs(self, model, text):
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            scores = self.run("score", model, "--text-file", file.name, "--kv-type", "f32", "--json")
        return np.array(json.loads(scores)["logprobs"])

    def greedy(self, model, prompt):
        count = str(NEW_TOKENS)
        return self.run("generate", model, "--raw", "-p", prompt, "-n", count, "--kv-type", "f32")


class Check:
    """One directory in one type, or a quantised file."""

    def __init__(self, fewron, given, dtype, folder):
        self.fewron, self.given, self.dtype = fewron, given, dtype
        self.wrong = []
        self.file, self.exact = str(folder / "model.gguf"), str(folder / "exact.gguf")
        if dtype == OWN:
            self.file = str(given)
        else:
            fewron.run("convert", str(given), self.file, "--type", dtype)
        self.llama = LlamaCpp(self.file)
        self.is_float = dtype in TOLERANCES
        if self.is_float:
            # The same numbers, unless the type holds fewer than the weights given.
            self.model = str(given if dtype in ("f32", "f16") else self.file)
            self.exact_llama, self.exact_model = self.llama, self.model
        else:
            fewron.run("quantize", self.file, self.exact, "--type", "f32")
            self.model, self.exact_model = self.file, self.exact
            self.exact_llama = LlamaCpp(self.exact)

    def texts(self, texts):
        """Compares tokens and log-probabilities; says how far off they are."""
        ours_off, theirs_off = [], []
        for text in texts:
            tokens = self.llama.tokens(text)
            if not 2 <= len(tokens) <= self.llama.context:
                continue
            exact = self.exact_llama.logprobs(tokens)
            ours = self.fewron.logprobs(self.model, text)
            if len(ours) != len(exact):
                self.wrong.append(f"{text!r}: {len(exact)} tokens in llama.cpp, {len(ours)} in fewron")
                continue
            ours_off.append(ours - exact)
            theirs_off.append(self.llama.logprobs(tokens) - exact)
        ours, theirs = np.concatenate(ours_off), np.concatenate(theirs_off)
        if self.is_float:
            largest = np.abs(ours).max()
            if largest > TOLERANCES[self.dtype]:
                self.wrong.append("log-probabilities differ too much")
            return f"{len(ours)} log-probabilities within {largest:.1e}"
        ours, theirs = (float(np.sqrt(np.mean(x**2))) for x in (ours, theirs))
        if ours > NOISE_RATIO * theirs:
            self.wrong.append("fewron is further from the exact result than llama.cpp")
        return f"{len(np.concatenate(ours_off))} log-probabilities, off by {ours:.3f} (llama.cpp {theirs:.3f})"

    def continuations(self):
        for prompt in PROMPTS:
            theirs = self.exact_llama.greedy(prompt)
            ours = self.fewron.greedy(self.exact_model, prompt)
            if theirs.strip() != ours.strip():
                self.wrong.append(f"{prompt!r}: llama.cpp writes {theirs!r}, fewron {ours!r}")
        return f"{len(PROMPTS)} continuations of {NEW_TOKENS} tokens"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path, help="directories, or quantised .gguf files")
    parser.add_argument("--fewron", default=ROOT / "target/release/fewron", type=Path)
    parser.add_argument("--types", default="f32,f16,q8_0", type=lambda text: text.split(","))
    arguments = parser.parse_args()
    tiny = [path for path in sorted(ROOT.glob("models/tiny/tiny-*")) if path.name != "tiny-opt"]
    corpus = json.loads((ROOT / "fixtures/tokenizer/corpus.json").read_text(encoding="utf-8"))
    fewron = Fewron(arguments.fewron)
    failed = False
    print(f"llama-cpp-python {llama_cpp.__version__}")
    for model in arguments.models or tiny:
        for dtype in [OWN] if model.suffix == ".gguf" else arguments.types:
            with tempfile.TemporaryDirectory() as folder:
                check = Check(fewron, model, dtype, Path(folder))
                found = [check.texts(corpus["texts"]), check.continuations()]
            verdict = "FAILED" if check.wrong else "ok"
            print(f"{model.name:15} {dtype:5} {', '.join(found)}: {verdict}", flush=True)
            print("".join(f"    {line}\n" for line in check.wrong), end="", flush=True)
            failed = failed or bool(check.wrong)
    sys.exit(failed)


if __name__ == "__main__":
    main()
