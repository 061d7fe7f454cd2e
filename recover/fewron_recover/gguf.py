"""Reading GGUF files: metadata, and tensors by name (ggml `docs/gguf.md`, versions 2 and 3)."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewron_recover.blocks import FORMATS, Bytes
from fewron_recover.errors import RecoverError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
FLOAT_BYTES = {0: 4, 1: 2, 30: 2}
"""Bytes of an element of F32, F16 and BF16, by the number of the type."""


@dataclass(frozen=True)
class TensorInfo:
    """Type, shape `[rows, cols]` (or `[cols]`) and place of a tensor."""

    kind: int
    shape: tuple[int, ...]
    start: int
    bytes: int


class _Cursor:
    """Reads a header front to back; every length is checked against the file."""

    def __init__(self, data: NDArray[np.uint8], path: Path) -> None:
        self.data, self.at, self.path = data, 0, path

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise RecoverError(f"{self.path} is cut off at byte {self.at}: fetch it again")
        self.at += count
        return self.data[self.at - count : self.at].tobytes()

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        return self.take(self.scalar("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            item, count = self.scalar("I"), self.scalar("Q")
            if item in _SCALARS:
                raw = self.take(count * struct.calcsize("<" + _SCALARS[item]))
                return list(struct.unpack(f"<{count}{_SCALARS[item]}", raw))
            return [self.value(item) for _ in range(min(count, len(self.data)))]
        if kind not in _SCALARS:
            raise RecoverError(f"{self.path} has a value of the unknown type {kind}")
        return self.scalar(_SCALARS[kind])


class Gguf:
    """A mapped file."""

    def __init__(self, path: Path) -> None:
        """Reads the header."""
        self.path = path
        self.data: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
        cursor = _Cursor(self.data, path)
        magic, version = cursor.take(4), cursor.scalar("I")
        if magic != b"GGUF" or version not in (2, 3):
            raise RecoverError(f"{path} is no GGUF file of version 2 or 3")
        tensors, keys = cursor.scalar("Q"), cursor.scalar("Q")
        self.metadata: dict[str, Any] = {}
        for _ in range(keys):
            name = cursor.string()
            self.metadata[name] = cursor.value(cursor.scalar("I"))
        places = []
        for _ in range(tensors):
            name = cursor.string()
            shape = tuple(cursor.scalar("Q") for _ in range(cursor.scalar("I")))[::-1]
            places.append((name, shape, cursor.scalar("I"), cursor.scalar("Q")))
        alignment = self.metadata.get("general.alignment", 32)
        base = -(-cursor.at // alignment) * alignment
        self.tensors: dict[str, TensorInfo] = {}
        for name, shape, kind, offset in places:
            size = self._bytes(name, shape, kind)
            if base + offset + size > len(self.data):
                raise RecoverError(f"{path} is cut off in tensor {name}: fetch it again")
            self.tensors[name] = TensorInfo(kind, shape, base + offset, size)

    def _bytes(self, name: str, shape: tuple[int, ...], kind: int) -> int:
        elements = int(np.prod(shape, dtype=object))
        if kind in FLOAT_BYTES:
            return elements * FLOAT_BYTES[kind]
        if kind not in FORMATS:
            known = ", ".join(["F32", "F16", "BF16", *(f.name for f in FORMATS.values())])
            raise RecoverError(f"tensor {name} of {self.path} has type {kind}; known are {known}")
        form = FORMATS[kind]
        if shape[-1] % form.elements:
            raise RecoverError(f"tensor {name} of {self.path} has rows that are not whole blocks")
        return elements // form.elements * form.bytes

    def raw(self, name: str) -> Bytes:
        """The bytes of a tensor."""
        info = self.tensors[name]
        return self.data[info.start : info.start + info.bytes]
