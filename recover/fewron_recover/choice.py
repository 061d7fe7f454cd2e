"""Which latents stay: those that moved furthest, over all matrices at once."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Sizes = Mapping[str, Callable[[], Tensor]]
"""How far each element of a matrix moved, f32 and not negative, made when it is asked for."""


@torch.no_grad()
def largest(sizes: Sizes, count: int) -> dict[str, Tensor]:
    """Where the `count` largest elements lie, as booleans of each matrix's shape; ties go to the first places."""
    least, above = _least(sizes, count)
    room = count - above
    kept = {}
    for name, make in sizes.items():
        bits = _bits(make())
        ties = bits == least
        taken = ties & (ties.flatten().cumsum(0).view(ties.shape) <= room)
        room -= int(taken.sum())
        kept[name] = (bits > least) | taken
    return kept


def _bits(sizes: Tensor) -> Tensor:
    """Numbers that are ordered as the sizes are: the bits of floats that are not negative."""
    return sizes.float().nan_to_num(0.0).abs().contiguous().view(torch.int32)


def _least(sizes: Sizes, count: int) -> tuple[int, int]:
    """The bits of the size of rank `count`, and how many sizes are larger: two histograms, of 16 bits each."""
    high = sum(torch.bincount(_bits(make()).flatten() >> 16, minlength=1 << 16) for make in sizes.values())
    assert isinstance(high, Tensor)
    first, above = _rank(high, count)

    def low(bits: Tensor) -> Tensor:
        return torch.bincount(bits[bits >> 16 == first] & 0xFFFF, minlength=1 << 16)

    lows = sum(low(_bits(make())) for make in sizes.values())
    assert isinstance(lows, Tensor)
    second, more = _rank(lows, count - above)
    return first << 16 | second, above + more


def _rank(histogram: Tensor, count: int) -> tuple[int, int]:
    """The bin of the `count`-th largest element, and how many lie in larger bins."""
    counts = histogram.cpu().numpy()[::-1]
    totals = np.cumsum(counts)
    place = int(np.searchsorted(totals, count))
    return len(counts) - 1 - place, int(totals[place] - counts[place])


def pack(kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """Booleans as bits, for a checkpoint."""
    return {name: torch.from_numpy(np.packbits(keep.cpu().numpy())) for name, keep in kept.items()}


def unpack(packed: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> dict[str, Tensor]:
    """Booleans of their shapes again."""
    kept = {}
    for name, bits in packed.items():
        flat = np.unpackbits(bits.cpu().numpy(), count=int(np.prod(shapes[name])))
        kept[name] = torch.from_numpy(flat.astype(bool).reshape(shapes[name])).to(device)
    return kept
