"""Small matrices as 4-bit or 8-bit codes with a scale for each block of a row: FORMAT.md, "Coded matrices"."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewron_recover.errors import RecoverError
from fewron_recover.grid import round_half_away, straight_through

Tensors = dict[str, NDArray[np.generic]]

_BLOCKS = {8: (32,), 4: (32, 16, 8)}
"""Lengths of a block by bits, the one that is preferred first."""


def block_length(cols: int, bits: int) -> int | None:
    """Elements that share a scale in rows of `cols`; `None` where rows are kept in f32."""
    return next((length for length in _BLOCKS[bits] if cols % length == 0), None)


def coded_bytes(rows: int, cols: int, bits: int) -> int:
    """Bytes of a coded matrix."""
    length = block_length(cols, bits)
    if length is None:
        return rows * cols * 4
    return rows * cols * bits // 8 + rows * cols // length * 2


def _codes(values: Tensor, bits: int, length: int) -> tuple[Tensor, Tensor]:
    """Codes `[rows, blocks, length]` and scales `[rows, blocks]`, which half precision can hold.

    8 bits: scale = largest size / 127 (Q8_0). 4 bits: the element with the largest size becomes −8 (Q4_0).
    """
    blocks = values.reshape(values.shape[0], -1, length)
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)).squeeze(-1)
    scale = (largest.abs() / 127 if bits == 8 else largest / -8).half().float()
    low, high = (-127, 127) if bits == 8 else (-8, 7)
    safe = torch.where(scale == 0, 1.0, scale)
    codes = round_half_away(blocks / safe.unsqueeze(-1)).clamp(low, high)
    return torch.where(scale.unsqueeze(-1) == 0, 0.0, codes), scale


def rounded(values: Tensor, bits: int) -> Tensor:
    """A matrix as it will be read back; the gradient passes through."""
    length = block_length(values.shape[1], bits)
    if length is None:
        return values
    with torch.no_grad():
        codes, scale = _codes(values.float(), bits, length)
        read = (codes * scale.unsqueeze(-1)).reshape(values.shape)
    return straight_through(read, values)


def encode(name: str, values: Tensor, bits: int) -> Tensors:
    """The tensors of a coded matrix."""
    values = values.detach().float().cpu()
    length = block_length(values.shape[1], bits)
    if length is None:
        return {name: values.numpy()}
    codes, scale = _codes(values, bits, length)
    flat = codes.reshape(values.shape).numpy()
    tensors: Tensors = {f"{name}.scale": scale.numpy().astype(np.float16)}
    if bits == 8:
        tensors[f"{name}.q"] = flat.astype(np.int8)
    else:
        nibbles = (flat + 8).astype(np.uint8)
        tensors[f"{name}.q4"] = nibbles[:, 0::2] | nibbles[:, 1::2] << 4
    return tensors


def decode(tensors: Tensors, name: str) -> Tensor:
    """A coded matrix, f32."""
    if name in tensors:
        return torch.from_numpy(tensors[name].astype(np.float32))
    scale = tensors.get(f"{name}.scale")
    if f"{name}.q" in tensors:
        codes = tensors[f"{name}.q"].astype(np.float32)
    elif f"{name}.q4" in tensors:
        packed = tensors[f"{name}.q4"].astype(np.uint8)
        codes = np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1).astype(np.float32) - 8
    else:
        raise RecoverError(f"the plan has no tensor {name}: it is damaged; make it again with `fewron calibrate`")
    if scale is None or scale.ndim != 2 or codes.shape[1] % scale.shape[1] or len(scale) != len(codes):
        raise RecoverError(f"the scales of {name} do not fit it: the plan is damaged")
    blocks = codes.reshape(*scale.shape, -1) * scale.astype(np.float32)[..., None]
    return torch.from_numpy(blocks.reshape(codes.shape))


def narrow(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Numbers in half precision where each keeps its 11 bits in it, else as they are."""
    if values.dtype != np.float32:
        return values
    wide: NDArray[np.float32] = values.astype(np.float32)
    with np.errstate(over="ignore"):
        half = wide.astype(np.float16)
    exact = np.abs(half.astype(np.float32) - wide) <= np.abs(wide) * 2.0**-11
    return half if exact.all() else values


def drop(tensors: Tensors, name: str) -> None:
    """Removes a coded matrix."""
    for part in ("", ".q", ".q4", ".scale"):
        tensors.pop(name + part, None)
