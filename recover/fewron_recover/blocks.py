"""Block formats of GGUF: from bytes to codes on a grid.

Every quantised format is `w = scale · code + minimum` with whole-number codes, one scale (and minimum) for a
few neighbours of a row. Layouts: ggml `ggml-common.h`; arithmetic: `dequantize_row_*` of `ggml-quants.c`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Codes = NDArray[np.int8]

QUANTISED_BLOCK = 32
"""Elements of a block of the formats that are not K."""


@dataclass(frozen=True)
class Blocks:
    """Codes `[elements]`, with scales and minima of `[elements / span]`; no minima stand for zeros."""

    codes: Codes
    scale: Floats
    minimum: Floats | None


@dataclass(frozen=True)
class BlockFormat:
    """A quantised type: elements and bytes of a block, elements that share a scale, and the range of edited codes."""

    name: str
    elements: int
    bytes: int
    span: int
    low: int
    high: int
    decode: Callable[[Bytes], Blocks]


def _half(raw: Bytes, at: int) -> Floats:
    """The half-precision number at a byte of each block, `[blocks, 1]`."""
    return np.ascontiguousarray(raw[:, at : at + 2]).view(np.float16).astype(np.float32)


def _nibbles(raw: Bytes) -> Bytes:
    """All low nibbles of a block, then all high ones."""
    return np.concatenate([raw & 15, raw >> 4], axis=1)


def _fifth_bits(raw: Bytes) -> Bytes:
    """Bit i of 32 for element i, as 16 or 0."""
    bits: Bytes = np.unpackbits(np.ascontiguousarray(raw), axis=1, bitorder="little") * np.uint8(16)
    return bits


def _blocks(codes: NDArray[np.integer], scale: Floats, minimum: Floats | None = None) -> Blocks:
    flat = None if minimum is None else minimum.reshape(-1)
    return Blocks(codes.astype(np.int8).reshape(-1), scale.reshape(-1), flat)


def _q4_0(raw: Bytes) -> Blocks:
    return _blocks(_nibbles(raw[:, 2:]).astype(np.int8) - 8, _half(raw, 0))


def _q4_1(raw: Bytes) -> Blocks:
    return _blocks(_nibbles(raw[:, 4:]), _half(raw, 0), _half(raw, 2))


def _q5_0(raw: Bytes) -> Blocks:
    codes = _nibbles(raw[:, 6:]) | _fifth_bits(raw[:, 2:6])
    return _blocks(codes.astype(np.int8) - 16, _half(raw, 0))


def _q5_1(raw: Bytes) -> Blocks:
    return _blocks(_nibbles(raw[:, 8:]) | _fifth_bits(raw[:, 4:8]), _half(raw, 0), _half(raw, 2))


def _q8_0(raw: Bytes) -> Blocks:
    return _blocks(np.ascontiguousarray(raw[:, 2:]).view(np.int8), _half(raw, 0))


def _six_bit_scales(raw: Bytes) -> tuple[Floats, Floats]:
    """Eight scales and eight minima of six bits from twelve bytes (`get_scale_min_k4`)."""
    first, second, third = raw[:, :4], raw[:, 4:8], raw[:, 8:]
    scales = np.concatenate([first & 63, (third & 15) | (first >> 6 << 4)], axis=1)
    minima = np.concatenate([second & 63, (third >> 4) | (second >> 6 << 4)], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _k_nibbles(raw: Bytes) -> Bytes:
    """128 bytes to `[8, 32]`: of every 32 bytes the low nibbles, then the high ones."""
    quads = raw.reshape(-1, 4, 1, 32)
    return np.concatenate([quads & 15, quads >> 4], axis=2).reshape(-1, 8, 32)


def _with_k_scales(raw: Bytes, codes: NDArray[np.integer]) -> Blocks:
    scales, minima = _six_bit_scales(raw[:, 4:16])
    return _blocks(codes, _half(raw, 0) * scales, -(_half(raw, 2) * minima))


def _q4_k(raw: Bytes) -> Blocks:
    return _with_k_scales(raw, _k_nibbles(raw[:, 16:]))


def _q5_k(raw: Bytes) -> Blocks:
    shifts = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    fifth = (raw[:, None, 16:48] >> shifts & 1) << 4
    return _with_k_scales(raw, _k_nibbles(raw[:, 48:]) | fifth)


def _q6_k(raw: Bytes) -> Blocks:
    low, high = raw[:, :128].reshape(-1, 2, 1, 64), raw[:, 128:192].reshape(-1, 2, 1, 32)
    nibbles = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    codes = (nibbles | (high >> shifts & 3) << 4).astype(np.int8) - 32
    scales = np.ascontiguousarray(raw[:, 192:208]).view(np.int8).astype(np.float32)
    return _blocks(codes, _half(raw, 208) * scales)


FORMATS = {
    2: BlockFormat("Q4_0", 32, 18, 32, -8, 7, _q4_0),
    3: BlockFormat("Q4_1", 32, 20, 32, 0, 15, _q4_1),
    6: BlockFormat("Q5_0", 32, 22, 32, -16, 15, _q5_0),
    7: BlockFormat("Q5_1", 32, 24, 32, 0, 31, _q5_1),
    8: BlockFormat("Q8_0", 32, 34, 32, -127, 127, _q8_0),
    12: BlockFormat("Q4_K", 256, 144, 32, 0, 15, _q4_k),
    13: BlockFormat("Q5_K", 256, 176, 32, 0, 31, _q5_k),
    14: BlockFormat("Q6_K", 256, 210, 16, -32, 31, _q6_k),
}
"""By the number of the type in GGUF files (`enum ggml_type`)."""
