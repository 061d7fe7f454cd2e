"""Which neurons run: the scores and cuts of a plan, as the engine has them (fewron-sparsity, `plan.rs`)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewron_recover.grid import straight_through

SAMPLED_TOKENS = 64
"""Tokens of a batch whose scores tell where a share of them lies."""


@dataclass(frozen=True)
class LowRank:
    """`y = second · (first · x) + bias`: `[rank, inputs]`, `[outputs, rank]`, `[outputs]`."""

    first: Tensor
    second: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Of rows x."""
        reduced = torch.nn.functional.linear(x, self.first)
        return torch.nn.functional.linear(reduced, self.second, self.bias)


@dataclass(frozen=True)
class LayerMask:
    """A layer's part of a plan: see docs/plans.md.

    `best` neurons with the highest scores stay, or else those that score at least `above`; with neither all do.
    Of the outputs that are then computed, the down projection reads those with `|o|·down_norms ≥ down_above`.
    With a `temperature` scores get a gradient. With `shares`, which are the shares of all neurons that are off
    after the first and after both stages, the forward pass tells where its own scores would have to be cut.
    """

    policy: str
    best: int | None = None
    above: Tensor | None = None
    weights: Tensor | None = None
    negative: Tensor | None = None
    down_above: Tensor | None = None
    down_norms: Tensor | None = None
    heads: Tensor | None = None
    predictor: LowRank | None = None
    compensation: LowRank | None = None
    temperature: float | None = None
    shares: Tensor | None = None

    @property
    def cuts(self) -> bool:
        """Whether neurons can be off."""
        return self.best is not None or self.above is not None

    def with_cut(self, best: int | None, above: Tensor | None, down_above: Tensor | None) -> "LayerMask":
        """The same with other limits."""
        return replace(self, best=best, above=above, down_above=down_above)


def neuron_scores(mask: LayerMask, act: Tensor, outputs: Tensor, x: Tensor) -> Tensor:
    """Scores `[…, neurons]` f32 from act(gate), the neurons' outputs, and the MLP's input."""
    if mask.policy == "predict":
        assert mask.predictor is not None
        return mask.predictor(x).float()
    values = (act if mask.policy == "gate" else outputs).float()
    if mask.weights is None:
        return values.abs()
    if mask.policy == "gate" and mask.negative is not None:
        return values.abs() * torch.where(values > 0, mask.weights, mask.negative)
    return values.abs() * mask.weights


def keep_best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where the `count` highest scores lie, and the least of them; ties go to the lower index (`top_k`)."""
    least = scores.topk(count, -1, sorted=False).values.amin(-1, keepdim=True)
    above, ties = scores > least, scores == least
    room = count - above.sum(-1, keepdim=True)
    return above | (ties & (ties.cumsum(-1) <= room)), least


def kept(mask: LayerMask, scores: Tensor) -> Tensor:
    """1.0 for neurons that run, else 0.0, like `scores`.

    With a temperature the gradient is that of a logistic function around the cut (soft threshold of Learned Token
    Pruning, arXiv 2107.00910, eq. 6, used as a straight-through estimator, arXiv 1308.3432).
    """
    hard_scores = scores.detach()
    if mask.best is not None:
        if mask.best == 0:
            return torch.zeros_like(scores)
        if mask.best >= scores.shape[-1]:
            return torch.ones_like(scores)
        keep, least = keep_best(hard_scores, mask.best)
    else:
        assert mask.above is not None
        keep, least = hard_scores >= mask.above, mask.above
    if mask.temperature is None:
        return keep.to(scores.dtype)
    width = mask.temperature * hard_scores.abs().mean(-1, keepdim=True)
    return straight_through(keep.to(scores.dtype), torch.sigmoid((scores - least) / width))


@torch.no_grad()
def quantile_of_sample(scores: Tensor, share: Tensor) -> Tensor:
    """The value that a share of the scores `[batch, time, neurons]` lies under, from some late tokens."""
    batch, time, _ = scores.shape
    rows = min(batch, 8)
    step = max(1, (time // 2) * rows // SAMPLED_TOKENS)
    ordered = scores[:: max(1, batch // rows), time - time // 2 :: step].flatten().sort().values
    place = (share * ordered.numel()).round().long().clamp(0, ordered.numel() - 1)
    return ordered.gather(0, place.reshape(1)).squeeze(0)
