"""Edits of codes as bit streams: the places Rice-coded, a sign, a size; one list or several. FORMAT.md, "Edits".

Rice: "Some practical universal noiseless coding techniques", JPL 79-22 (1979): a number's high bits in unary, its
k low bits as they are.
"""

import math
import struct

import numpy as np
from numpy.typing import NDArray

from fewron_recover.errors import RecoverError

Steps = NDArray[np.int8]
Bytes = NDArray[np.uint8]

MAX_RICE, MAX_STEP, MAX_GROUPS, MAX_SIDE = 24, 7, 16, 1 << 20
_HEAD, _SIDES = struct.Struct("<IBBBB"), struct.Struct("<II")
"""Count, k or groups of rows, limit, form, groups of columns; rows and columns."""
LIST, GROUPED = 0, 1
COUNT_BITS, RICE_BITS = 32, 5
GROUPINGS = ((1, 6), (3, 6))
"""Groups of rows and of columns that the writer tries."""


def encode(steps: Steps) -> Bytes:
    """The stream of the steps of a matrix's codes, `[rows, cols]`; at least one is not zero."""
    limit = int(np.abs(steps.astype(np.int64)).max())
    if limit > MAX_STEP:
        raise ValueError(f"a code moves by {limit} steps; the format has up to {MAX_STEP}")
    count = int(np.count_nonzero(steps))
    k, bits = _list(steps, limit)
    found = [_tensor(_HEAD.pack(count, k, limit, LIST, 0), bits)]
    for groups in GROUPINGS if max(steps.shape) <= MAX_SIDE else ():
        head = _HEAD.pack(count, groups[0], limit, GROUPED, groups[1]) + _SIDES.pack(*steps.shape)
        found.append(_tensor(head, _grouped(steps, limit, groups)))
    return min(found, key=len)


def _tensor(head: bytes, bits: Bytes) -> Bytes:
    return np.concatenate([np.frombuffer(head, np.uint8), np.packbits(bits, bitorder="little")])


def _grouped(steps: Steps, limit: int, groups: tuple[int, int]) -> Bytes:
    """The bits of all groups, which are those of alike density."""
    edited = steps != 0
    sides = [_classes(edited.mean(axis), count) for axis, count in zip((1, 0), groups, strict=True)]
    bits = [_numbers(classes, _width(count)) for classes, count in zip(sides, groups, strict=True)]
    for row in range(groups[0]):
        for col in range(groups[1]):
            part = steps[np.ix_(sides[0] == row, sides[1] == col)]
            k, own = _list(part, limit)
            count = np.array([np.count_nonzero(part)])
            bits += [_numbers(count, COUNT_BITS), _numbers(np.array([k]), RICE_BITS), own]
    return np.concatenate(bits)


def _classes(densities: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Classes 0 to `count` − 1 of rows or columns: one for each factor of two around the mean."""
    octaves = np.floor(np.log2(np.maximum(densities, 1e-9) / densities.mean()) + 0.5).astype(np.int64)
    found: NDArray[np.int64] = np.clip(octaves + count // 2, 0, count - 1)
    return found


def _width(groups: int) -> int:
    """Bits of a group's number."""
    return (groups - 1).bit_length()


def _numbers(values: NDArray[np.int64], width: int) -> Bytes:
    """Numbers as bits, each of a width, the least significant first."""
    bits: Bytes = (values[:, None] >> np.arange(width) & 1).astype(np.uint8).reshape(-1)
    return bits


def _list(steps: Steps, limit: int) -> tuple[int, Bytes]:
    """The Rice parameter and the bits of the edits of a matrix or a part of one, which may have none."""
    flat = steps.reshape(-1)
    places = np.flatnonzero(flat)
    if len(places) == 0:
        return 0, np.zeros(0, np.uint8)
    sizes = np.abs(flat[places].astype(np.int64))
    gaps = np.diff(places, prepend=-1) - 1
    k = min(range(MAX_RICE + 1), key=lambda k: int((gaps >> k).sum()) + k * len(gaps))
    return k, _stream(gaps, flat[places] < 0, sizes, k, limit)


def _stream(gaps: NDArray[np.int64], smaller: NDArray[np.bool], sizes: NDArray[np.int64], k: int, limit: int) -> Bytes:
    quotients = gaps >> k
    lengths = quotients + k + 2 + (sizes - 1) + (sizes < limit)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    low, sign = starts + quotients + 1, starts + quotients + 1 + k
    # Runs of ones as where they begin and end: the running sum is the bits.
    edges = np.zeros(int(ends[-1]) + 1, np.int8)
    edges[starts] += 1
    edges[starts + quotients] -= 1
    bits = np.cumsum(edges[:-1], dtype=np.int8).view(np.uint8)
    for bit in range(k):
        bits[low + bit] = gaps >> bit & 1
    bits[sign] = smaller
    for one in range(1, limit):
        bits[sign[sizes > one] + one] = 1
    return bits


def decode(data: Bytes, shape: tuple[int, int], name: str) -> Steps:
    """The steps of a matrix's codes, `[rows, cols]`, from a stream; `name` is for errors."""
    try:
        return _decode(data, shape)
    except _DamageError as error:
        raise RecoverError(f"tensor {name} of the plan is damaged: {error}") from None


class _DamageError(Exception):
    """Why a stream is none."""


def _decode(data: Bytes, shape: tuple[int, int]) -> Steps:
    total = shape[0] * shape[1]
    if data.dtype != np.uint8 or data.ndim != 1 or len(data) < _HEAD.size:
        raise _DamageError("it is no stream of edits")
    count, k, limit, form, groups = _HEAD.unpack(data[: _HEAD.size].tobytes())
    if not 0 < count <= total or not 1 <= limit <= MAX_STEP or form > GROUPED or (form == LIST and groups):
        raise _DamageError(f"{count} edits of {total} codes, limit {limit}, form {form}, groups {groups}")
    steps = np.zeros(shape, np.int8)
    if form == LIST:
        reader = _Reader(data[_HEAD.size :], limit)
        reader.edits(steps, count, k)
    else:
        reader = _groups(data[_HEAD.size :], steps, (k, groups), limit)
        if (found := np.count_nonzero(steps)) != count:
            raise _DamageError(f"its groups have {found} edits, not {count}")
    reader.end()
    return steps


def _groups(data: Bytes, steps: Steps, groups: tuple[int, int], limit: int) -> "_Reader":
    """Reads all groups into the steps."""
    if len(data) < _SIDES.size or _SIDES.unpack(data[: _SIDES.size].tobytes()) != steps.shape:
        raise _DamageError(f"it is not for a matrix of {steps.shape}")
    if not all(1 <= count <= MAX_GROUPS for count in groups):
        raise _DamageError(f"it has {groups[0]} groups of rows and {groups[1]} of columns")
    reader = _Reader(data[_SIDES.size :], limit)
    sides = [reader.numbers(size, _width(count)) for size, count in zip(steps.shape, groups, strict=True)]
    if any((side >= count).any() for side, count in zip(sides, groups, strict=True)):
        raise _DamageError("it has a row or column of a group that there is not")
    for row in range(groups[0]):
        for col in range(groups[1]):
            place = np.ix_(sides[0] == row, sides[1] == col)
            part = np.zeros_like(steps[place])
            count, k = int(reader.numbers(1, COUNT_BITS)[0]), int(reader.numbers(1, RICE_BITS)[0])
            reader.edits(part, count, k)
            steps[place] = part
    return reader


class _Reader:
    """Bits from the first to the last."""

    def __init__(self, data: Bytes, limit: int) -> None:
        self.bits, self.limit, self.at = np.unpackbits(data, bitorder="little"), limit, 0
        total = len(self.bits)
        # Of each place the next zero bit; beyond the bits there is none, so nothing that is cut off ends in time.
        self.room = total + MAX_RICE + 4
        zeros = np.full(self.room, self.room - 1)
        zeros[:total] = np.where(self.bits == 0, np.arange(total), self.room - 1)
        self.next_zero = np.minimum.accumulate(zeros[::-1])[::-1]
        self.zeros: list[int] = self.next_zero.tolist()

    def numbers(self, count: int, width: int) -> NDArray[np.int64]:
        """Numbers of a width."""
        bits = self.bits[self.at : self.at + count * width]
        if len(bits) < count * width:
            raise _DamageError("its length is not that of its edits")
        self.at += count * width
        found: NDArray[np.int64] = (bits.reshape(count, width).astype(np.int64) << np.arange(width)).sum(1)
        return found

    def edits(self, steps: Steps, count: int, k: int) -> None:
        """Reads a list into the steps of a matrix or a part of one."""
        if count > steps.size or k > MAX_RICE:
            raise _DamageError(f"{count} edits of {steps.size} codes, Rice parameter {k}")
        if count == 0:
            return
        starts = self._starts(count, k)
        low = self.next_zero[starts] + 1
        gaps = self.next_zero[starts] - starts << k
        for bit in range(k):
            gaps |= self.bits[low + bit].astype(np.int64) << bit
        places = np.cumsum(gaps + 1) - 1
        if places[-1] >= steps.size:
            raise _DamageError(f"it changes a code beyond the {steps.size} of its matrix or group")
        sign = low + k
        sizes = np.minimum(self.next_zero[sign + 1] - sign, self.limit)
        steps.reshape(-1)[places] = np.where(self.bits[sign] == 1, -sizes, sizes)

    def _starts(self, count: int, k: int) -> NDArray[np.int64]:
        """Where edits begin; goes behind the last one."""
        zeros, place, last, more, starts = self.zeros, self.at, self.room - 1, self.limit - 1, []
        for _ in range(count):
            starts.append(place)
            place = min(zeros[place] + k + 2, last)
            if more:
                place = min(place + more, zeros[place] + 1, last)
        if place > len(self.bits):
            raise _DamageError("its length is not that of its edits")
        self.at = place
        return np.array(starts)

    def end(self) -> None:
        """Nothing but the zeros of the last byte is left."""
        if len(self.bits) - self.at > 7 or self.bits[self.at :].any():
            raise _DamageError("its length is not that of its edits")


def expected_bytes(codes: int, share: float) -> int:
    """Bytes of the edits of a share of the codes, by one step each, wherever they lie.

    Gaps are then geometric, and (gap >> k) + 1 has the mean 1 / (1 − (1 − share)^(2^k)).
    """
    if share <= 0:
        return 0
    none = math.log1p(-min(share, 1 - 1e-12))
    place = min(k - 1 / math.expm1(none * 2**k) for k in range(MAX_RICE + 1))
    return math.ceil(codes * share * (place + 1) / 8)
