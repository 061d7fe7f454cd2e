"""Weights as their file holds them, and the rule that merges edits into them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fewron_recover.blocks import FORMATS
from fewron_recover.gguf import Gguf


def round_half_away(x: Tensor) -> Tensor:
    """Rounds to the nearest whole number, halves away from zero, as Rust's `f32::round` does.

    The addend is the largest f32 below a half, so that the number below a half does not become 1.
    """
    return torch.trunc(x + torch.copysign(x.new_full((), 0.49999997), x))


def straight_through(value: Tensor, source: Tensor) -> Tensor:
    """`value` forward, the gradient of `source` backward (Bengio et al., arXiv 1308.3432)."""
    return value.detach() + (source - source.detach())


@dataclass(frozen=True)
class Grid:
    """A quantised matrix: codes i8 `[rows, cols]`, scales and minima f32 `[rows, blocks]`."""

    codes: Tensor
    scale: Tensor
    minimum: Tensor | None
    low: int
    high: int

    @property
    def format(self) -> tuple[object, ...]:
        """What matrices that can be stacked have in common."""
        return self.low, self.high, self.minimum is None, self.shape, self.scale.shape

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.codes.shape[0], self.codes.shape[1]

    def to(self, device: torch.device) -> "Grid":
        """The same on another device."""
        minimum = None if self.minimum is None else self.minimum.to(device)
        return replace(self, codes=self.codes.to(device), scale=self.scale.to(device), minimum=minimum)

    def _values(self, codes: Tensor) -> Tensor:
        """Of codes `[rows, blocks, span]`."""
        values = self.scale.unsqueeze(-1) * codes
        if self.minimum is not None:
            values = values + self.minimum.unsqueeze(-1)
        return values.reshape(self.shape)

    def _blocked(self, x: Tensor) -> Tensor:
        return x.reshape(*self.scale.shape, -1)

    def dense(self) -> Tensor:
        """The weights, f32 `[rows, cols]`."""
        return self._values(self._blocked(self.codes).float())

    def steps(self, delta: Tensor) -> Tensor:
        """A delta in steps of the grid, not rounded, f32 `[rows, blocks, span]`; 0 where the scale is 0."""
        scale = self.scale.unsqueeze(-1)
        return torch.where(scale == 0, 0.0, self._blocked(delta) / torch.where(scale == 0, 1.0, scale))

    def change(self, delta: Tensor, limit: int) -> Tensor:
        """The size of a delta of which `limit` steps at most can be had, `[rows, cols]`."""
        return self.sized(self.steps(delta).abs().clamp(max=limit)).abs()

    def sized(self, steps: Tensor) -> Tensor:
        """The delta of steps, `[rows, cols]`."""
        return (self._blocked(steps) * self.scale.unsqueeze(-1)).reshape(self.shape)

    def moved(self, delta: Tensor, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """The codes of W + delta, f32 `[rows, cols]`, and where neither range nor `limit` holds them back.

        `code + round(delta / scale)`: on the grid the same as `round((W + delta − minimum) / scale)`, but
        without the rounding errors of W. No code moves by more than `limit` steps; blocks whose scale is 0 stay.
        """
        whole = round_half_away(self.steps(delta))
        steps = whole if limit is None else whole.clamp(-limit, limit)
        old = self._blocked(self.codes).float()
        codes = (old + steps).clamp(self.low, self.high)
        inside = (codes == old + whole) & (self.scale != 0).unsqueeze(-1)
        # A file's own code stays as it is, also where it lies outside the range (−128 of Q8_0).
        return torch.where(steps == 0, old, codes).reshape(self.shape), inside.reshape(self.shape)

    def merged(self, delta: Tensor, limit: int | None = None) -> Tensor:
        """W + delta on the grid; the gradient passes to `delta` where its code is not held back."""
        with torch.no_grad():
            codes, inside = self.moved(delta, limit)
            values = self._values(self._blocked(codes))
        return straight_through(values, torch.where(inside, delta, delta.detach()))


@dataclass(frozen=True)
class Floats:
    """A matrix or vector of floats, f32."""

    values: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """As stored."""
        return tuple(self.values.shape)

    def to(self, device: torch.device) -> "Floats":
        """The same on another device."""
        return replace(self, values=self.values.to(device))

    def dense(self) -> Tensor:
        """The weights."""
        return self.values


Stored = Grid | Floats


def read_tensor(file: Gguf, name: str) -> Stored:
    """A tensor of a GGUF file."""
    info, raw = file.tensors[name], file.raw(name)
    if info.kind == 0:
        return Floats(torch.from_numpy(raw.view(np.float32).reshape(info.shape).copy()))
    if info.kind == 1:
        return Floats(torch.from_numpy(raw.view(np.float16).reshape(info.shape).astype(np.float32)))
    if info.kind == 30:
        bits = raw.view(np.uint16).astype(np.uint32) << 16
        return Floats(torch.from_numpy(bits.view(np.float32).reshape(info.shape)))
    form = FORMATS[info.kind]
    blocks = form.decode(raw.reshape(-1, form.bytes))
    rows, cols = int(np.prod(info.shape[:-1])), info.shape[-1]
    scales = (rows, cols // form.span)
    minimum = None if blocks.minimum is None else torch.from_numpy(blocks.minimum.reshape(scales))
    codes, scale = (
        torch.from_numpy(blocks.codes.reshape(rows, cols)),
        torch.from_numpy(blocks.scale.reshape(scales)),
    )
    return Grid(codes, scale, minimum, form.low, form.high)


def stacked(grids: Sequence[Grid]) -> Grid:
    """Matrices of one format and shape as one, row after row."""
    minima = [grid.minimum for grid in grids if grid.minimum is not None]
    codes, scale = torch.cat([grid.codes for grid in grids]), torch.cat([grid.scale for grid in grids])
    return Grid(codes, scale, torch.cat(minima) if minima else None, grids[0].low, grids[0].high)


def rows_of(stored: Stored, first: int, count: int) -> Stored:
    """Some rows of a matrix, or elements of a vector."""
    part = slice(first, first + count)
    if isinstance(stored, Floats):
        return Floats(stored.values[part])
    minimum = None if stored.minimum is None else stored.minimum[part]
    return Grid(stored.codes[part], stored.scale[part], minimum, stored.low, stored.high)
