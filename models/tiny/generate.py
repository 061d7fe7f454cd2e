#!/usr/bin/env python3
"""Write the training corpus with SmolLM2-135M-Instruct: simple stories, questions and answers.

    python3 models/tiny/generate.py [--requests 400000] [--out ~/.cache/fewron/tiny-corpus.jsonl]

One JSON object a line: {"question": text or null, "text": text}. An existing file is left as it is.
The GGUF file is taken from FEWRON_SMOLLM2 or the cache, else fetched (fixtures/goldens/real_files.py).
"""

import argparse
import hashlib
import json
import os
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from prompts import ANSWER_TOKENS, Request, requests
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures" / "goldens"))
import real_files  # noqa: E402

TEMPERATURE = 0.8
REPETITION_PENALTY = 1.1
MIN_P = 0.06  # tokens less likely than this share of the likeliest one are never taken
COMPACT_BELOW = 0.6  # finished texts are taken out of the batch once fewer than this share go on
UNWANTED = re.compile(
    r"[^\x20-\x7e\n]|\*\*|[#_`<>{}\[\]|\\]|\bAI\b|SmolLM|assistant|language model|paragraph|https?:", re.I
)
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
SENTENCES = {True: (1, 3), False: (3, 8)}  # fewest and most, of an answer and of a story
DISTINCT_TRIGRAMS = 0.85  # texts that repeat themselves more than this are dropped
SENTENCE_END = re.compile(r"[.!?][\"')]*(?=\s|$)")
PLAIN = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-"})


@dataclass
class Batch:
    """Requests whose prompts have the same number of tokens, so that no padding is needed."""

    requests: list[Request]
    tokens: Tensor  # [requests, positions]


def home() -> Path:
    return Path(os.environ.get("FEWRON_HOME") or Path.home() / ".cache" / "fewron")


def smollm2_path() -> Path:
    """The GGUF file, also where `fewron pull smollm2` keeps it."""
    pulled = home() / "models" / real_files.SMOLLM2.file_name
    if "FEWRON_SMOLLM2" not in os.environ and pulled.exists():
        os.environ["FEWRON_SMOLLM2"] = str(pulled)
    return real_files.fetch(real_files.SMOLLM2)


def load_writer(device: str) -> PreTrainedModel:
    path = smollm2_path()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    return model.eval().requires_grad_(False).to(device)


def rendered(request: Request) -> str:
    """SmolLM2's chat format, with the first words of the answer already there."""
    asked = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{request.prompt}<|im_end|>\n"
    return f"{asked}<|im_start|>assistant\n{request.start}"


def batches(wanted: list[Request], tokenizer: PreTrainedTokenizerBase, size: int) -> Iterator[Batch]:
    """Requests grouped by answer length and prompt length, at most `size` at a time."""
    prompts = tokenizer([rendered(request) for request in wanted], add_special_tokens=False)["input_ids"]
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (request, prompt) in enumerate(zip(wanted, prompts, strict=True)):
        groups[request.max_tokens, len(prompt)].append(index)
    for indices in groups.values():
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            yield Batch([wanted[i] for i in chosen], torch.tensor([prompts[i] for i in chosen]))


def largest_first(todo: Iterable[Batch], seed: int) -> list[Batch]:
    """Full batches in a random order, then the rests: if time runs out, little is lost and nothing is one-sided."""
    shuffled = list(todo)
    random.Random(seed).shuffle(shuffled)
    return sorted(shuffled, key=lambda batch: -len(batch.requests))


def sample(logits: Tensor, seen: Tensor, generator: torch.Generator) -> Tensor:
    """One token for each row of `logits` [rows, vocab], with repetition penalty, temperature and min-p.

    `seen` [rows, vocab] tells which tokens the text has already.
    """
    logits = logits.float()
    penalised = torch.where(logits > 0, logits / REPETITION_PENALTY, logits * REPETITION_PENALTY)
    probabilities = torch.softmax(torch.where(seen, penalised, logits) / TEMPERATURE, dim=-1)
    floor = MIN_P * probabilities.amax(dim=-1, keepdim=True)
    noise = torch.empty_like(probabilities).exponential_(generator=generator)
    return (probabilities.where(probabilities >= floor, 0.0) / noise).argmax(dim=-1)


@torch.no_grad()
def write(model: PreTrainedModel, batch: Batch, end: int, generator: torch.Generator) -> list[list[int]]:
    """The tokens that follow each prompt; the end token is the last one of texts that came to an end."""
    tokens = batch.tokens.to(model.device)
    cache = DynamicCache(config=model.config)
    going = torch.arange(len(tokens), device=tokens.device)  # rows of the batch that go on
    steps: list[tuple[Tensor, Tensor]] = []  # rows of the batch and their next tokens
    done = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    seen = torch.zeros(len(tokens), model.config.vocab_size, dtype=torch.bool, device=tokens.device)
    for step in range(batch.requests[0].max_tokens):
        logits = model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        chosen = sample(logits, seen, generator)
        seen.scatter_(1, chosen[:, None], True)
        steps.append((going, chosen))
        done = done | (chosen == end)
        tokens = chosen[:, None]
        if step % 8 == 7 and (~done).float().mean().item() < COMPACT_BELOW:
            rest = (~done).nonzero()[:, 0]
            if len(rest) == 0:
                break
            cache.batch_select_indices(rest)
            going, tokens, done, seen = going[rest], tokens[rest], done[rest], seen[rest]
    return collect(steps, len(batch.requests), end)


def collect(steps: list[tuple[Tensor, Tensor]], rows: int, end: int) -> list[list[int]]:
    """The tokens of every row up to its end token."""
    texts: list[list[int]] = [[] for _ in range(rows)]
    for going, chosen in steps:
        for row, token in zip(going.tolist(), chosen.tolist(), strict=True):
            if not texts[row] or texts[row][-1] != end:
                texts[row].append(token)
    return texts


def repeats_itself(text: str) -> bool:
    words = re.findall(r"[a-z']+", text.lower())
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) < DISTINCT_TRIGRAMS * len(trigrams)


def cleaned(request: Request, continuation: str) -> str | None:
    """The whole text, cut after a sentence; None where it should not be learnt."""
    text = (request.start + continuation).translate(PLAIN)
    text = re.sub(r"\s*\n\s*", "\n", text).strip()
    fewest, most = SENTENCES[request.max_tokens == ANSWER_TOKENS]
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    if len(ends) < fewest:
        return None
    text = text[: ends[:most][-1]]
    too_short = len(text) < len(request.start) + 15
    return None if too_short or UNWANTED.search(text) or repeats_itself(text) else text


def document(request: Request, text: str) -> str:
    return json.dumps({"question": request.question, "text": text})


def generate(count: int, seed: int, batch_size: int, seconds: float, device: str) -> Iterator[str]:
    """Documents without duplicates; stops after `seconds` even if requests are left."""
    model, tokenizer = load_writer(device), real_files.load_tokenizer(real_files.SMOLLM2)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    generator = torch.Generator(device).manual_seed(seed)
    seen: set[str] = set()
    start, asked, tokens = time.monotonic(), 0, 0
    for batch in largest_first(batches(requests(count, seed), tokenizer, batch_size), seed):
        texts = write(model, batch, end, generator)
        asked, tokens = asked + len(texts), tokens + sum(map(len, texts))
        decoded = tokenizer.batch_decode(texts, skip_special_tokens=True)
        for request, continuation in zip(batch.requests, decoded, strict=True):
            text = cleaned(request, continuation)
            if text is not None and text not in seen:
                seen.add(text)
                yield document(request, text)
        passed = time.monotonic() - start
        print(f"{asked}/{count} asked, {len(seen)} kept, {tokens / passed:.0f} tokens/s", file=sys.stderr, flush=True)
        if passed > seconds:
            break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=0, help="texts at a time; 0: 4096 on a GPU, 16 on a CPU")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--out", type=Path, default=home() / "tiny-corpus.jsonl")
    options = parser.parse_args()
    if options.out.exists():
        sys.exit(f"{options.out} is there already; delete it to write it anew")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = options.batch or (4096 if device == "cuda" else 16)
    lines = list(generate(options.requests, options.seed, batch, options.seconds, device))
    data = "".join(f"{line}\n" for line in lines).encode()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(data)
    print(f"{options.out}: {len(lines)} texts, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
