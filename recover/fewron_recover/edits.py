"""Edits of codes as a bit stream: the places Rice-coded, a sign, a size. FORMAT.md, "Edits".

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

MAX_RICE, MAX_STEP = 24, 7
_HEAD = struct.Struct("<IBBH")
"""Count, k, limit, zero."""


def encode(steps: Steps) -> Bytes:
    """The stream of the steps of a matrix's codes, `[rows, cols]`; at least one is not zero."""
    flat = steps.reshape(-1)
    places = np.flatnonzero(flat)
    sizes = np.abs(flat[places].astype(np.int64))
    limit = int(sizes.max())
    if limit > MAX_STEP:
        raise ValueError(f"a code moves by {limit} steps; the format has up to {MAX_STEP}")
    gaps = np.diff(places, prepend=-1) - 1
    k = min(range(MAX_RICE + 1), key=lambda k: int((gaps >> k).sum()) + k * len(gaps))
    head = _HEAD.pack(len(places), k, limit, 0)
    return np.concatenate([np.frombuffer(head, np.uint8), _stream(gaps, flat[places] < 0, sizes, k, limit)])


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
    return np.packbits(bits, bitorder="little")


def decode(data: Bytes, shape: tuple[int, int], name: str) -> Steps:
    """The steps of a matrix's codes, `[rows, cols]`, from a stream; `name` is for errors."""

    def damaged(why: str) -> RecoverError:
        return RecoverError(f"tensor {name} of the plan is damaged: {why}")

    total = shape[0] * shape[1]
    if data.dtype != np.uint8 or data.ndim != 1 or len(data) < _HEAD.size:
        raise damaged("it is no stream of edits")
    count, k, limit, zero = _HEAD.unpack(data[: _HEAD.size].tobytes())
    if not 0 < count <= total or k > MAX_RICE or not 1 <= limit <= MAX_STEP or zero:
        raise damaged(f"{count} edits of {total} codes, Rice parameter {k}, limit {limit}")
    bits = np.unpackbits(data[_HEAD.size :], bitorder="little")
    starts, end, next_zero = _starts(bits, count, k, limit)
    if end > len(bits) or len(bits) - end > 7 or bits[end:].any():
        raise damaged("its length is not that of its edits")
    low = next_zero[starts] + 1
    gaps = next_zero[starts] - starts << k
    for bit in range(k):
        gaps |= bits[low + bit].astype(np.int64) << bit
    places = np.cumsum(gaps + 1) - 1
    if places[-1] >= total:
        raise damaged(f"it changes a code beyond the {total} of its matrix")
    sign = low + k
    sizes = np.minimum(next_zero[sign + 1] - sign, limit)
    steps = np.zeros(total, np.int8)
    steps[places] = np.where(bits[sign] == 1, -sizes, sizes)
    return steps.reshape(shape)


def _starts(bits: Bytes, count: int, k: int, limit: int) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    """Where edits begin, the end of the last one, and of each place the next zero bit.

    The end lies beyond the bits where they are too few. Where an edit that begins at a place would end is known for
    all places at once; the walk from edit to edit is left.
    """
    total = len(bits)
    # Places beyond the end have no zero: nothing that is cut off ends in time.
    room = total + k + 3
    places = np.arange(room)
    zeros = np.full(room, room - 1)
    zeros[:total] = np.where(bits == 0, places[:total], room - 1)
    next_zero = np.minimum.accumulate(zeros[::-1])[::-1]
    size = np.minimum(next_zero + k + 2, room - 1)
    ends = size if limit == 1 else np.minimum(size + limit - 1, next_zero[size] + 1)
    following, place, starts = np.minimum(ends, room - 1).tolist(), 0, []
    for _ in range(count):
        starts.append(place)
        place = following[place]
    return np.array(starts), place, next_zero


def expected_bytes(codes: int, share: float) -> int:
    """Bytes of the edits of a share of the codes, by one step each, wherever they lie.

    Gaps are then geometric, and (gap >> k) + 1 has the mean 1 / (1 − (1 − share)^(2^k)).
    """
    if share <= 0:
        return 0
    none = math.log1p(-min(share, 1 - 1e-12))
    place = min(k - 1 / math.expm1(none * 2**k) for k in range(MAX_RICE + 1))
    return math.ceil(codes * share * (place + 1) / 8)
