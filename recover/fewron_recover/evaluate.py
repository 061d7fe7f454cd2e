"""What a plan costs: perplexity of a text as `fewron eval` has it, KL and agreement with the dense model."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewron_recover.loss import compare
from fewron_recover.mask import LayerMask
from fewron_recover.model import Block, Weights, block, forward
from fewron_recover.source import BaseModel

WINDOW, DENSE_TOKENS = 256, 32
"""Tokens of a window of text; of them dense and not scored (docs/tasks.md)."""


@dataclass(frozen=True)
class Batch:
    """Texts `[b, t]`, the tokens of each that run dense, and those that are there at all."""

    tokens: Tensor
    dense: Tensor
    lengths: Tensor

    @property
    def masked(self) -> Tensor:
        """Which tokens run under a mask, `[b, t]`."""
        places = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return (places >= self.dense[:, None]) & (places < self.lengths[:, None])


@dataclass(frozen=True)
class Variant:
    """Weights, and the masks under which they run, if any."""

    weights: Weights
    masks: list[LayerMask] | None = None


def text_windows(tokens: np.ndarray, bos: int | None, device: torch.device, batch: int = 16) -> Iterator[Batch]:
    """Windows that do not overlap, BOS first where there is one; the last may be shorter."""
    room = WINDOW - (bos is not None)
    rows = [tokens[start : start + room] for start in range(0, len(tokens), room)]
    rows = [row if bos is None else np.concatenate([[bos], row]) for row in rows]
    rows = [row for row in rows if len(row) > DENSE_TOKENS + 1]
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        padded = np.zeros((len(part), WINDOW), np.int64)
        for row, into in zip(part, padded, strict=True):
            into[: len(row)] = row
        lengths = torch.tensor([len(row) for row in part], device=device)
        yield Batch(torch.from_numpy(padded).to(device), torch.full_like(lengths, DENSE_TOKENS), lengths)


@torch.no_grad()
def measure(
    model: BaseModel,
    dense: Weights,
    variants: dict[str, Variant],
    batches: Iterable[Batch],
    dtype: torch.dtype,
    run: Block = block,
) -> dict[str, dict[str, float]]:
    """Per variant, over the masked tokens that predict one: tokens, perplexity, kl and agreement with `dense`."""
    device = dense.outer["embedding"].device
    head = dense.head.to(dtype)
    bias = dense.outer.get("head.bias")
    bias = None if bias is None else bias.to(dtype)
    sums: dict[str, dict[str, float]] = {name: {} for name in ("dense", *variants)}
    for batch in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            teacher = forward(model.config, dense, batch.tokens, run=run).states
            states = {
                name: forward(model.config, v.weights, batch.tokens, v.masks, batch.masked, run).states
                for name, v in variants.items()
            }
        counted = batch.masked[:, :-1] & batch.masked[:, 1:]
        labels = batch.tokens[:, 1:][counted]
        target = teacher[:, :-1][counted]
        for name, found in ({"dense": teacher} | states).items():
            values = compare(found[:, :-1][counted], target, labels, head, bias)
            total = sums[name]
            total["tokens"] = total.get("tokens", 0) + len(labels)
            for key in ("kl", "agreement", "nll"):
                total[key] = total.get(key, 0.0) + float(values[key].double().sum())
    return {name: _means(total) for name, total in sums.items()}


def _means(total: dict[str, float]) -> dict[str, float]:
    tokens = max(total.get("tokens", 0), 1)
    means = {key: total.get(key, 0.0) / tokens for key in ("kl", "agreement")}
    return {"tokens": total.get("tokens", 0), "perplexity": math.exp(total.get("nll", 0.0) / tokens)} | means
