#!/usr/bin/env python3
"""Train one tiny model on the generated corpus and save it as a Hugging Face directory.

    python3 models/tiny/train.py --family phi [--corpus FILE] [--steps 4000] [--out models/tiny/tiny-phi]

A GPU is used if there is one. The weights are rounded to F16 and the losses in the model card are of the
rounded ones.
"""

import argparse
import copy
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from corpus import CHAT_TEMPLATE, read_documents, rows, train_tokenizer
from families import CONTEXT, FAMILIES, Family, Special, build
from generate import home
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures" / "goldens"))
import hf_directory  # noqa: E402

HERE = Path(__file__).resolve().parent
PEAK_RATE, LAST_RATE, WARMUP_STEPS = 3e-3, 0.02, 200
WEIGHT_DECAY = 0.05
SAMPLES = ("Question: What is the moon?\nAnswer:", "Question: Where do whales live?\nAnswer:", "Once upon a time,")


@dataclass
class Result:
    """What the model card says."""

    steps: int
    tokens: int
    seconds: float
    device: str
    train_loss: float
    held_out_loss: float
    documents: int
    corpus_sha256: str
    samples: list[str]


def optimiser(model: nn.Module) -> torch.optim.AdamW:
    """AdamW; norms and biases do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95), fused=parameters[0].is_cuda)


def rate(step: int, done: float) -> float:
    """Share of the peak rate: a linear warm-up, then a cosine down to `LAST_RATE` as `done` goes to 1."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return min(1.0, (step + 1) / WARMUP_STEPS) * (LAST_RATE + (1 - LAST_RATE) * cosine)


def batches(data: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Rows in a new random order each epoch, for ever."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(data), generator=generator).to(data.device)
        for start in range(0, max(1, len(data) - size + 1), size):
            yield data[order[start : start + size]].long()


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    """Mean cross-entropy over every position of `batch` [rows, CONTEXT + 1]."""
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())


@torch.no_grad()
def mean_loss(model: nn.Module, data: Tensor, size: int) -> float:
    """Mean loss over all rows in single precision."""
    losses = [loss_of(model, part.long()) * len(part) for part in data.split(size)]
    return (sum(losses) / len(data)).item()


def train(model: nn.Module, data: Tensor, options: argparse.Namespace) -> tuple[int, float]:
    """Steps taken and seconds: until `--steps`, or until `--seconds` if that is sooner."""
    device = data.device.type
    torch.manual_seed(options.seed)
    optim = optimiser(model)
    stepped = torch.compile(model) if options.compile else model
    start, step = time.monotonic(), 0
    for batch in batches(data, options.batch, options.seed):
        passed = time.monotonic() - start if step else 0.0
        done = max(step / options.steps, passed / options.seconds)
        if done >= 1.0:
            break
        for group in optim.param_groups:
            group["lr"] = PEAK_RATE * rate(step, done)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = loss_of(stepped, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        optim.zero_grad(set_to_none=True)
        if step == 2:  # compiled by now
            start = time.monotonic()
        step += 1
        if step % 100 == 0 or step == 5:
            print(f"{options.family}: step {step}, loss {loss.item():.3f}, {passed:.0f} s", flush=True)
    return step, time.monotonic() - start


@torch.no_grad()
def sample(model: nn.Module, tokenizer: Tokenizer, special: Special, prompt: str, length: int = 90) -> str:
    """The prompt and a text at temperature 0.5 after it."""
    torch.manual_seed(0)
    ids = tokenizer.encode(prompt).ids
    for _ in range(length):
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        chosen = torch.multinomial(torch.softmax(logits / 0.5, dim=-1), 1).item()
        if chosen == special.eos:
            break
        ids.append(chosen)
    return tokenizer.decode(ids)


def save_weights(model: nn.Module, family: Family, folder: Path) -> None:
    """`config.json` and `model.safetensors` in F16; a shared MLP is stored once."""
    rounded = copy.deepcopy(model).half()
    if family.shared_mlp:
        hf_directory.save_shared(rounded, folder, repeated=False)
    else:
        rounded.save_pretrained(folder)
    changes = {"torch_dtype": "float16", "transformers_version": transformers.__version__}
    hf_directory.edit_config(folder, older=True, changes=changes | family.changes)


def save_tokenizer(tokenizer: Tokenizer, special: Special, folder: Path) -> None:
    """`tokenizer.json`, `tokenizer_config.json` with the chat template, `generation_config.json`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "add_bos_token": special.add_bos,
        "added_tokens_decoder": {str(i): {"content": token} | flags for i, token in enumerate(special.tokens)},
        "bos_token": special.tokens[special.bos],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": special.tokens[special.eos],
        "model_max_length": CONTEXT,
        "pad_token": special.tokens[special.pad],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    hf_directory.write_json(folder / "tokenizer_config.json", config)
    ids = {"bos_token_id": special.bos, "eos_token_id": special.eos, "pad_token_id": special.pad}
    hf_directory.write_json(folder / "generation_config.json", ids)


def model_card(name: str, family: Family, model: nn.Module, result: Result) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    data = (
        f"{result.documents:,} short texts written by SmolLM2-135M-Instruct (Apache-2.0), "
        f"`models/tiny/generate.py`; sha256 of the file {result.corpus_sha256}"
    )
    training = (
        f"{result.steps:,} steps of {result.tokens // max(result.steps, 1):,} tokens "
        f"({result.tokens / 1e6:.0f} million in all), AdamW, cosine schedule from {PEAK_RATE}, bf16 autocast, "
        f"{result.seconds:.0f} s on {result.device}"
    )
    samples = "\n\n".join(f"```\n{text}\n```" for text in result.samples)
    return f"""---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# {name}

{family.title} with {parameters / 1e6:.2f} million parameters, small enough to be kept beside the code: for tests of
this family's arithmetic on trained weights and for trying fewron offline. It answers simple questions and tells
short stories; what it says is often wrong. It is good for nothing else.

| | |
|---|---|
| data | {data} |
| training | {training} |
| loss, training texts | {result.train_loss:.4f} nats per token |
| loss, held-out texts | {result.held_out_loss:.4f} nats per token |
| weights | F16; both losses are of these, in f32 arithmetic |
| context | {CONTEXT} tokens |
| licence | Apache-2.0 |

Questions are asked as `Question: …`, a line break and `Answer:`; so does the chat template. Made by

```
python3 models/tiny/generate.py
python3 models/tiny/train.py --family {name.removeprefix("tiny-")} --steps {result.steps}
```

## Samples

At temperature 0.5:

{samples}
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", required=True, choices=FAMILIES)
    parser.add_argument("--corpus", type=Path, default=home() / "tiny-corpus.jsonl", help="made by generate.py")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end the schedule after this time")
    parser.add_argument("--batch", type=int, default=128, help=f"rows of {CONTEXT} tokens a step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    parser.add_argument("--out", type=Path, help="default: models/tiny/tiny-FAMILY")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_float32_matmul_precision("high")
    family, name = FAMILIES[options.family], f"tiny-{options.family}"
    folder = options.out or HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    texts, held_out = read_documents(options.corpus)
    tokenizer = train_tokenizer(texts, family.special)
    data = rows(texts, tokenizer, family.special).to(device)
    test = rows(held_out, tokenizer, family.special).to(device)
    print(f"{name}: {len(texts)} texts, {data.numel() / 1e6:.1f} million tokens", flush=True)
    torch.manual_seed(options.seed)
    model = build(family).to(device).train()
    steps, seconds = train(model, data, options)
    model.eval().requires_grad_(False)
    save_weights(model, family, folder)
    save_tokenizer(tokenizer, family.special, folder)
    torch.set_float32_matmul_precision("highest")
    rounded = copy.deepcopy(model).half().float()
    result = Result(
        steps=steps,
        tokens=steps * min(options.batch, len(data)) * CONTEXT,
        seconds=seconds,
        device=torch.cuda.get_device_name() if device == "cuda" else "a CPU",
        train_loss=mean_loss(rounded, data[: len(test)], 64),
        held_out_loss=mean_loss(rounded, test, 64),
        documents=len(texts) + len(held_out),
        corpus_sha256=hashlib.sha256(options.corpus.read_bytes()).hexdigest(),
        samples=[sample(rounded.cpu(), tokenizer, family.special, prompt) for prompt in SAMPLES],
    )
    (folder / "README.md").write_text(model_card(name, family, model, result))
    print(json.dumps({"name": name} | result.__dict__, indent=1))


if __name__ == "__main__":
    main()
