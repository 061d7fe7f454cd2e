"""The merging rule, and the gradients that pass it."""

import numpy as np
import pytest
import torch

from fewron_recover.blocks import FORMATS
from fewron_recover.coding import block_length, coded_bytes, decode, encode, rounded
from fewron_recover.grid import Grid, round_half_away, rows_of, stacked
from tests.conftest import random_grid
from tests.test_blocks import random_blocks


def grid_of(kind: int) -> Grid:
    form = FORMATS[kind]
    blocks = form.decode(random_blocks(kind, 8))
    shape = (4, 2 * form.elements)
    scales = (4, shape[1] // form.span)
    minimum = None if blocks.minimum is None else torch.from_numpy(blocks.minimum.reshape(scales))
    codes, scale = torch.from_numpy(blocks.codes.reshape(shape)), torch.from_numpy(blocks.scale.reshape(scales))
    return Grid(codes, scale, minimum, form.low, form.high)


def test_halves_go_away_from_zero() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -2.5, 0.49999997, -0.49999997, 3.2])
    assert round_half_away(x).tolist() == [1, 2, 3, -1, -3, 0, 0, 3]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_zero_delta_changes_nothing(kind: int) -> None:
    grid = grid_of(kind)
    codes, _ = grid.moved(torch.zeros(grid.shape))
    assert torch.equal(codes, grid.codes.float())
    assert torch.equal(grid.merged(torch.zeros(grid.shape)), grid.dense())


@pytest.mark.parametrize("kind", FORMATS)
def test_merged_weights_are_the_nearest_on_the_grid(kind: int) -> None:
    grid = grid_of(kind)
    delta = torch.randn(grid.shape, generator=torch.Generator().manual_seed(0)) * grid.dense().std() / 3
    merged = grid.merged(delta)
    scale, minimum = grid.scale.unsqueeze(-1), 0.0 if grid.minimum is None else grid.minimum.unsqueeze(-1)
    blocked = (4, grid.scale.shape[1], -1)
    codes = torch.where(scale == 0, 0.0, (merged.reshape(blocked) - minimum) / torch.where(scale == 0, 1.0, scale))
    assert (codes - codes.round()).abs().max() < 1e-2
    changed = (merged != grid.dense()).reshape(blocked)
    assert codes[changed].min() > grid.low - 0.01
    assert codes.max() < grid.high + 0.01
    target = ((grid.dense() + delta).reshape(blocked) - minimum) / torch.where(scale == 0, 1.0, scale)
    off = (codes - target.clamp(grid.low, grid.high)).abs()
    in_range = (grid.codes >= grid.low).reshape(blocked)
    assert off[(scale != 0) & in_range].max() < 0.51


def test_blocks_without_a_scale_stay() -> None:
    grid = random_grid((4, 64), torch.Generator().manual_seed(0))
    grid.scale[1] = 0
    delta = torch.ones(4, 64, requires_grad=True)
    merged = grid.merged(delta)
    assert torch.equal(merged[1], grid.dense()[1])
    merged.sum().backward()  # type: ignore[no-untyped-call]
    assert delta.grad is not None
    assert delta.grad[1].abs().sum() == 0


def test_gradients_are_those_without_rounding() -> None:
    """Finite differences of the function that only clamps, which rounding stands in for."""
    grid = random_grid((3, 32), torch.Generator().manual_seed(1))
    target = torch.randn(3, 32, generator=torch.Generator().manual_seed(2))
    delta = (0.3 * target).requires_grad_()
    (grid.merged(delta) * target).sum().backward()  # type: ignore[no-untyped-call]

    def unrounded(delta: torch.Tensor) -> torch.Tensor:
        scale, codes = grid.scale.double(), grid.codes.double()
        return ((codes + delta.double() / scale).clamp(grid.low, grid.high) * scale * target).sum()

    step, assured = 1e-4, 0
    for at in range(0, 96, 5):
        shift = torch.zeros(96)
        shift[at] = step
        high, low = (unrounded(delta.detach() + sign * shift.view(3, 32)) for sign in (1, -1))
        moved = (grid.codes.view(-1)[at] + delta.detach().view(-1)[at] / grid.scale[at // 32, 0]).item()
        if min(abs(moved - grid.low), abs(moved - grid.high)) > 0.51:
            assert delta.grad is not None
            assert delta.grad.view(-1)[at].item() == pytest.approx(float((high - low) / (2 * step)), abs=1e-2)
            assured += 1
    assert assured > 8


@pytest.mark.parametrize("limit", [1, 2])
def test_no_code_moves_further_than_the_limit(limit: int) -> None:
    grid = random_grid((4, 64), torch.Generator().manual_seed(4))
    steps = torch.linspace(-3.4, 3.4, 256).view(4, 64)
    delta = (steps.view(4, 2, 32) * grid.scale.unsqueeze(-1)).view(4, 64).requires_grad_()
    codes, _ = grid.moved(delta.detach(), limit)
    whole = round_half_away(steps)
    expected = (grid.codes + whole.clamp(-limit, limit)).clamp(grid.low, grid.high)
    assert torch.equal(codes, expected)
    grid.merged(delta, limit).sum().backward()  # type: ignore[no-untyped-call]
    assert delta.grad is not None
    free = (whole.abs() <= limit) & (grid.codes + whole == expected)
    assert torch.equal(delta.grad, free.float())


def test_a_code_of_minus_128_stays_or_moves_into_the_range() -> None:
    codes = torch.tensor([[-128, -128, -128, -127] + [0] * 28], dtype=torch.int8)
    grid = Grid(codes, torch.ones(1, 1), None, FORMATS[8].low, FORMATS[8].high)
    delta = torch.tensor([[0.0, 1.0, -1.0, -1.0] + [0.0] * 28])
    assert grid.moved(delta)[0][0, :4].tolist() == [-128, -127, -127, -127]


def test_stacks_are_their_parts() -> None:
    random = torch.Generator().manual_seed(3)
    parts = [random_grid((4, 64), random) for _ in range(3)]
    whole = stacked(parts)
    assert torch.equal(whole.dense(), torch.cat([part.dense() for part in parts]))
    assert torch.equal(rows_of(whole, 4, 4).dense(), parts[1].dense())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("cols", [64, 16, 8, 5])
def test_codes_are_read_back(bits: int, cols: int) -> None:
    values = torch.randn(6, cols, generator=torch.Generator().manual_seed(cols))
    values[2] = 0
    tensors = encode("m", values, bits)
    read = decode(tensors, "m")
    assert torch.equal(read, rounded(values, bits))
    assert torch.equal(rounded(read, bits), read), "what is read back does not change again"
    assert sum(tensor.nbytes for tensor in tensors.values()) == coded_bytes(6, cols, bits)
    limit = 0 if block_length(cols, bits) is None else values.abs().max() / (6 if bits == 4 else 200)
    assert (read - values).abs().max() <= limit


def test_low_nibbles_come_first() -> None:
    packed = encode("m", torch.tensor([[-8.0, 7, 0, 1, 2, 3, 4, 5]]), 4)
    assert packed["m.q4"].tolist() == [[0 | 15 << 4, 8 | 9 << 4, 10 | 11 << 4, 12 | 13 << 4]]
    assert np.array_equal(packed["m.scale"], np.ones((1, 1), np.float16))
