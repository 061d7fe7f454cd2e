"""KL divergence between two models' next-token distributions, without holding their logits."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_LOGITS = 1 << 26
"""Logits that are held at once, of each model."""


def _chunks(head: Tensor, rows: int) -> range:
    """Starts of chunks; their size is a power of two, so that batches of such sizes have equal chunks."""
    return range(0, rows, 1 << max(0, (CHUNK_LOGITS // head.shape[0]).bit_length() - 1))


def _log_probabilities(states: Tensor, head: Tensor, bias: Tensor | None) -> Tensor:
    return F.log_softmax(F.linear(states, head, bias).float(), -1)


def chunk_kl(
    states: Tensor, teacher: Tensor, weight: Tensor, head: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Σ weight · KL(teacher‖student) over some rows `[rows, hidden]`, and its gradient of their states.

    ∂KL/∂logits = softmax(student) − softmax(teacher).
    """
    ours = _log_probabilities(states, head, bias)
    theirs = _log_probabilities(teacher, head, bias)
    target = theirs.exp()
    total = ((target * (theirs - ours)).sum(-1) * weight).sum()
    difference = (ours.exp() - target) * weight[:, None]
    return total, (difference.to(head.dtype) @ head).to(states.dtype)


ChunkKl = Callable[..., tuple[Tensor, Tensor]]
"""[`chunk_kl`], or a compiled form of it."""


class _ChunkedKl(torch.autograd.Function):
    """Σ weight · KL(teacher‖student) over rows.

    The head is frozen, so the gradient of the states can be had in the forward pass, chunk by chunk.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        teacher: Tensor,
        weight: Tensor,
        head: Tensor,
        bias: Tensor | None,
        chunk_of: ChunkKl,
    ) -> Tensor:
        """States `[rows, hidden]`, weights `[rows]`, head `[vocab, hidden]`."""
        total = states.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(states)
        chunk = _chunks(head, len(states)).step
        for start in _chunks(head, len(states)):
            rows = slice(start, start + chunk)
            part, gradient[rows] = chunk_of(states[rows], teacher[rows], weight[rows], head, bias)
            total += part
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        """Of the student's states."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None, None, None


def kl_loss(
    states: Tensor,
    teacher: Tensor,
    weight: Tensor,
    head: Tensor,
    bias: Tensor | None,
    chunk_of: ChunkKl = chunk_kl,
) -> Tensor:
    """Mean KL(teacher‖student) in nats over rows of final states, weighted; the head has its own type."""
    states, teacher = states.flatten(0, -2), teacher.flatten(0, -2)
    weight = weight.flatten()
    head_bias = None if bias is None else bias.to(head.dtype)
    with torch.autocast(states.device.type, enabled=False):
        cast = [x.to(head.dtype) for x in (states, teacher)]
        total: Tensor = _ChunkedKl.apply(cast[0], cast[1], weight.float(), head, head_bias, chunk_of)  # type: ignore[no-untyped-call]
    return total / weight.sum().clamp(min=1.0)


def hidden_loss(ours: list[Tensor], theirs: list[Tensor], weight: Tensor) -> Tensor:
    """Mean over layers of |x − x'|² / |x'|² of the residual streams behind them, weighted over tokens."""
    total = ours[0].new_zeros(())
    for x, target in zip(ours, theirs, strict=True):
        error = (x - target).float().pow(2).sum(-1) / target.float().pow(2).sum(-1).clamp(min=1e-12)
        total = total + (error * weight).sum() / weight.sum().clamp(min=1.0)
    return total / len(ours)


@torch.no_grad()
def compare(
    states: Tensor, teacher: Tensor, labels: Tensor | None, head: Tensor, bias: Tensor | None
) -> dict[str, Tensor]:
    """KL, agreement of the likeliest token, and negative log-likelihood of labels, each of `[rows]` states."""
    found: dict[str, list[Tensor]] = {"kl": [], "agreement": [], "nll": [], "teacher_nll": []}
    chunk = _chunks(head, len(states)).step
    for start in _chunks(head, len(states)):
        rows = slice(start, start + chunk)
        ours = _log_probabilities(states[rows].to(head.dtype), head, bias)
        theirs = _log_probabilities(teacher[rows].to(head.dtype), head, bias)
        found["kl"].append((theirs.exp() * (theirs - ours)).sum(-1).clamp(min=0))
        found["agreement"].append((ours.argmax(-1) == theirs.argmax(-1)).float())
        if labels is not None:
            for name, values in (("nll", ours), ("teacher_nll", theirs)):
                found[name].append(-values.gather(-1, labels[rows, None]).squeeze(-1))
    return {name: torch.cat(parts) for name, parts in found.items() if parts}
