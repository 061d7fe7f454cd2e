"""How many neurons run: each layer's share, kept while the scores move under training.

A threshold that stays where it was would let training make the model dense again, by larger scores. So thresholds
follow the scores: each step tells where its own tokens would have to be cut, and limits are running means of that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewron_recover.mask import LayerMask


@dataclass
class Budget:
    """Per layer: the shares of neurons off after the first and after both stages, and limits, all `[layers, 2]`."""

    shares: Tensor
    limits: Tensor
    neurons: int

    def masks(self, masks: Sequence[LayerMask], progress: float | Tensor) -> list[LayerMask]:
        """The masks at a part of the shares, 0 to 1, under the present limits."""
        return [self._mask(index, mask, progress) for index, mask in enumerate(masks)]

    def _mask(self, index: int, mask: LayerMask, progress: float | Tensor) -> LayerMask:
        shares = self.shares[index] * progress
        best = mask.best
        if best is not None:
            best = self.neurons - round(self.shares_cpu[index] * float(progress) * self.neurons)
        above = None if mask.above is None else self.limits[index, 0]
        down = None if mask.down_above is None else self.limits[index, 1]
        return replace(mask.with_cut(best, above, down), shares=shares)

    @property
    def shares_cpu(self) -> list[float]:
        """Shares of the first stage."""
        if not hasattr(self, "_shares_cpu"):
            self._shares_cpu = [float(share) for share in self.shares[:, 0]]
        return self._shares_cpu

    def follow(self, cuts: list[Tensor | None], rate: float) -> None:
        """Moves the limits towards what a pass saw, by a rate."""
        seen = [
            limit if cut is None else _padded(cut[:, 0], limit) for cut, limit in zip(cuts, self.limits, strict=True)
        ]
        self.limits += rate * (torch.stack(seen) - self.limits)


def _padded(limits: Tensor, old: Tensor) -> Tensor:
    """Limits of the stages there are, and the old ones of the others."""
    return limits if len(limits) == len(old) else torch.cat([limits, old[len(limits) :]])


def share_off(cuts: list[Tensor | None]) -> float:
    """The share of neurons that was off in a pass: the mean of both stages, as plans count it, over layers."""
    return float(torch.stack([torch.zeros(()) if cut is None else cut[:, 1].mean().cpu() for cut in cuts]).mean())


def first_budget(
    masks: Sequence[LayerMask], passes: list[list[Tensor | None]], sparsity: float, neurons: int
) -> Budget:
    """A plan's own shares, as passes under it saw them, scaled so that their mean is the plan's sparsity."""
    device = next(cut.device for cut in passes[0] if cut is not None)
    shares, limits = torch.zeros(len(masks), 2, device=device), torch.zeros(len(masks), 2, device=device)
    for index, mask in enumerate(masks):
        seen = [cuts[index] for cuts in passes if cuts[index] is not None]
        if seen:
            off = torch.stack([cut[:, 1] for cut in seen if cut is not None]).mean(0)
            shares[index, : len(off)], shares[index, len(off) :] = off, off[-1]
        for stage, limit in enumerate((mask.above, mask.down_above)):
            if limit is not None:
                limits[index, stage] = limit
    if (mean := float(shares.mean())) < 1:
        shares = (1 - (1 - shares) * (1 - sparsity) / (1 - mean)).clamp(min=0.0)
    if all(mask.above is None for mask in masks):
        exact = [0.0 if mask.best is None else 1 - mask.best / neurons for mask in masks]
        shares[:, 0] = torch.tensor(exact, device=device)
    return Budget(shares, limits, neurons)
