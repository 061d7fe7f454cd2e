"""The stream of edits: by hand, against the golden file, and there and back; and the choice of the largest."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewron_recover import edits
from fewron_recover.choice import largest, pack, unpack
from fewron_recover.errors import RecoverError

GOLDEN = json.loads((Path(__file__).parent / "golden/edits.json").read_text())


def test_bytes_by_hand() -> None:
    steps = np.zeros((2, 8), np.int8)
    steps[0, 1], steps[0, 6], steps[1, 3] = 1, -2, 1
    # Gaps 1, 4, 4: quotients, zeros and low bits take 12 bits with k = 0, 10 with 1, 11 with 2. The limit is 2.
    bits = "0" + "1" + "0" + "0" + "110" + "0" + "1" + "1" + "110" + "0" + "0" + "0"
    assert bits == "01001100" + "11110000"
    # The first bit of a byte is its lowest.
    assert edits.encode(steps).tobytes() == bytes([3, 0, 0, 0, 1, 2, 0, 0, 0x32, 0x0F])


@pytest.mark.parametrize("case", GOLDEN, ids=["k = 0", "k > 0", "limit 3", "groups of columns", "groups of both"])
def test_golden(case: dict[str, Any]) -> None:
    steps = np.zeros(case["shape"], np.int8)
    for place, step in case["edits"]:
        steps.flat[place] = step
    if case["form"] == edits.LIST:
        assert edits.encode(steps).tobytes().hex() == case["hex"]
    shape = (steps.shape[0], steps.shape[1])
    data = np.frombuffer(bytes.fromhex(case["hex"]), np.uint8)
    assert np.array_equal(edits.decode(data, shape, "m"), steps)


def random_steps(random: np.random.Generator) -> edits.Steps:
    shape = (int(random.integers(1, 40)), int(random.integers(1, 70)))
    limit, share = int(random.integers(1, 8)), 10 ** random.uniform(-3, 0)
    sizes = random.integers(1, limit + 1, shape) * random.choice([-1, 1], shape)
    steps = np.where(random.random(shape) < share, sizes, 0).astype(np.int8)
    steps.flat[int(random.integers(steps.size))] = limit
    return steps


def uneven_steps(random: np.random.Generator, rows: int, cols: int) -> edits.Steps:
    """Some rows and columns have far more than others."""
    shares = np.exp(random.normal(0, 1, (rows, 1)) + random.normal(0, 1.5, cols) - 5)
    return np.where(random.random((rows, cols)) < shares, random.choice([-1, 1], (rows, cols)), 0).astype(np.int8)


def test_groups_are_shorter_where_edits_are_uneven() -> None:
    random = np.random.default_rng(3)
    steps = uneven_steps(random, 300, 500)
    data = edits.encode(steps)
    assert data[6] == edits.GROUPED
    _, bits = edits._list(steps, 1)
    assert len(data) < 0.85 * len(bits) / 8
    assert np.array_equal(edits.decode(data, (300, 500), "m"), steps)
    with pytest.raises(RecoverError, match="not for a matrix of"):
        edits.decode(data, (500, 300), "m")
    for cut in (8, 15, 16, 60, len(data) - 1):
        with pytest.raises(RecoverError, match="tensor m of the plan is damaged"):
            edits.decode(data[:cut], (300, 500), "m")
    with pytest.raises(RecoverError, match="its length"):
        edits.decode(np.append(data, np.uint8(0)), (300, 500), "m")
    for at, value in ((4, 0), (4, 17), (6, 2), (7, 0), (0, data[0] ^ 1), (8, 9)):
        wrong = data.copy()
        wrong[at] = value
        with pytest.raises(RecoverError, match="is damaged"):
            edits.decode(wrong, (300, 500), "m")


def test_damaged_groups_are_an_error_or_another_matrix() -> None:
    random = np.random.default_rng(4)
    steps = uneven_steps(random, 200, 300)
    whole = edits.encode(steps)
    assert whole[6] == edits.GROUPED
    for _ in range(300):
        data = whole.copy()
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        with suppress(RecoverError):
            assert edits.decode(data, (200, 300), "m").shape == (200, 300)


@pytest.mark.parametrize("seed", range(8))
def test_there_and_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(50):
        steps = random_steps(random)
        data = edits.encode(steps)
        shape = (steps.shape[0], steps.shape[1])
        assert np.array_equal(edits.decode(data, shape, "m"), steps)
        assert data[5] == np.abs(steps).max()


def test_damage_is_an_error_or_another_matrix() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        steps = random_steps(random)
        shape, data = (steps.shape[0], steps.shape[1]), edits.encode(steps)
        for cut in (0, 7, 8, len(data) - 1):
            with pytest.raises(RecoverError, match="tensor m of the plan is damaged"):
                edits.decode(data[:cut], shape, "m")
        with pytest.raises(RecoverError, match="its length"):
            edits.decode(np.append(data, np.uint8(0)), shape, "m")
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        with suppress(RecoverError):
            assert edits.decode(data, shape, "m").shape == shape


def test_the_head_is_checked() -> None:
    data = edits.encode(np.array([[0, 1, 0, -1]], np.int8))
    for at, value in ((0, 5), (0, 0), (4, 25), (5, 0), (5, 8), (6, 1), (7, 1)):
        wrong = data.copy()
        wrong[at] = value
        with pytest.raises(RecoverError, match="is damaged"):
            edits.decode(wrong, (1, 4), "m")
    with pytest.raises(RecoverError, match="beyond"):
        edits.decode(data, (1, 3), "m")


@pytest.mark.parametrize("share", [0.004, 0.034, 0.3])
def test_the_size_is_as_expected(share: float) -> None:
    random = np.random.default_rng(1)
    steps = np.where(random.random((600, 500)) < share, random.choice([-1, 1], (600, 500)), 0).astype(np.int8)
    assert len(edits.encode(steps)) == pytest.approx(edits.expected_bytes(steps.size, share), rel=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_the_largest_are_chosen_and_ties_by_place(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    made = {name: torch.rand(shape, generator=random) for name, shape in (("b", (7, 9)), ("a", (30, 4)), ("c", (1, 5)))}
    made = {name: (value * 20).floor() / 7 * (value > 0.2) for name, value in made.items()}
    everything = torch.cat([value.flatten() for value in made.values()])
    order = everything.sort(descending=True, stable=True).indices
    for count in (1, 17, 100, 187, 188):
        expected = torch.zeros(188, dtype=torch.bool)
        expected[order[:count]] = True
        found = largest({name: lambda value=value: value for name, value in made.items()}, count)  # type: ignore[misc]
        assert torch.equal(torch.cat([keep.flatten() for keep in found.values()]), expected)
        shapes = {name: tuple(value.shape) for name, value in made.items()}
        again = unpack(pack(found), shapes, torch.device("cpu"))
        assert all(torch.equal(again[name], found[name]) for name in made)
