"""Dequantisation against the package `gguf`, and reading what its writer writes."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from fewron_recover.blocks import FORMATS, Bytes
from fewron_recover.errors import RecoverError
from fewron_recover.gguf import Gguf
from fewron_recover.grid import Grid, read_tensor

HALVES = {2: (0,), 3: (0, 2), 6: (0,), 7: (0, 2), 8: (0,), 12: (0, 2), 13: (0, 2), 14: (208,)}
"""Where a block's numbers in half precision are."""


def random_blocks(kind: int, count: int) -> Bytes:
    random = np.random.default_rng(kind)
    raw = random.integers(0, 256, (count, FORMATS[kind].bytes), np.uint8)
    for at in HALVES[kind]:
        raw[:, at : at + 2] = random.normal(0, 0.1, (count, 1)).astype(np.float16).view(np.uint8)
    return raw


@pytest.mark.parametrize("kind", FORMATS)
def test_equals_the_reference(kind: int, tmp_path: Path) -> None:
    form, rows = FORMATS[kind], 6
    raw = random_blocks(kind, rows * 2).reshape(rows, -1)
    path = tmp_path / "one.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("some.words", ["a", "b"])
    writer.add_tensor("one", raw, raw_dtype=gguf.GGMLQuantizationType(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = Gguf(path)
    assert file.metadata["some.words"] == ["a", "b"]
    stored = read_tensor(file, "one")
    assert isinstance(stored, Grid)
    assert stored.shape == (rows, 2 * form.elements)
    assert int(stored.codes.min()) >= form.low - (form.name == "Q8_0"), "a file may have −128"
    assert int(stored.codes.max()) <= form.high
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(kind))
    torch.testing.assert_close(stored.dense(), torch.from_numpy(expected), rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("kind", [0, 1, 30])
def test_floats_are_exact(kind: int, tmp_path: Path) -> None:
    values = np.random.default_rng(kind).normal(size=(3, 5)).astype(np.float32)
    raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType(kind))
    path = tmp_path / "one.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("one", raw, raw_dtype=gguf.GGMLQuantizationType(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(kind))
    assert np.array_equal(read_tensor(Gguf(path), "one").dense().numpy(), expected.reshape(3, 5))
    path.write_bytes(path.read_bytes()[:-32])
    with pytest.raises(RecoverError, match="cut off"):
        Gguf(path)
