"""A tiny random model, a plan for it, and text: built in memory, the same every time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fewron_recover.config import LayerConfig, ModelConfig
from fewron_recover.data import ShardWriter
from fewron_recover.grid import Floats, Grid, Stored
from fewron_recover.source import BaseModel

torch.set_num_threads(1)
LAYERS, HIDDEN, NEURONS, VOCAB, LENGTH = 2, 64, 96, 80, 40
SHA256 = "ab" * 32


def tiny_config() -> ModelConfig:
    return ModelConfig(
        family="llama",
        hidden=HIDDEN,
        heads=4,
        kv_heads=2,
        head_dim=16,
        rope_dim=16,
        rope_neighbours=True,
        intermediate=NEURONS,
        vocab=VOCAB,
        layer_norm=False,
        norm_eps=1e-5,
        parallel=False,
        gated=True,
        activation="silu",
        embedding_scale=1.0,
        attention_scale=0.25,
        qk_norm=False,
        post_norm=False,
        layers=(LayerConfig(1e4),) * LAYERS,
    )


def random_grid(shape: tuple[int, int], random: torch.Generator) -> Grid:
    blocks = (shape[0], shape[1] // 32)
    codes = torch.randint(0, 16, shape, generator=random, dtype=torch.int8)
    scale = (0.02 + 0.02 * torch.rand(blocks, generator=random)).half().float()
    return Grid(codes, scale, -7.5 * scale, 0, 15)


@pytest.fixture
def tiny_model() -> BaseModel:
    random, config = torch.Generator().manual_seed(1), tiny_config()
    layers = []
    for _ in config.layers:
        layer: dict[str, Stored] = {name: random_grid(shape, random) for name, shape in config.matrices.items()}
        layer |= {name: Floats(torch.ones(HIDDEN)) for name in config.norms}
        layers.append(layer)
    embedding = 0.3 * torch.randn(VOCAB, HIDDEN, generator=random)
    outer: dict[str, Stored] = {
        "embedding": Floats(embedding),
        "norm": Floats(torch.ones(HIDDEN)),
    }
    return BaseModel(Path("tiny"), "tiny", SHA256, config, tuple(layers), outer)


def tiny_record(**changes: Any) -> dict[str, Any]:
    model = {"name": "tiny", "sha256": SHA256, "quantized": None, "layers": LAYERS, "hidden": HIDDEN}
    return {"version": "0", "model": model | {"intermediate": NEURONS, "heads": 4}, "policy": "gate"} | {
        "sparsity": 0.7,
        "calibration": {"sha256": "cd"},
        **changes,
    }


@pytest.fixture
def tiny_plan(tmp_path: Path) -> Path:
    random = np.random.default_rng(2)
    tensors: dict[str, Any] = {
        "cut.kind": np.full(LAYERS, 2, np.uint8),
        "cut.best": np.zeros(LAYERS, np.uint32),
        "cut.above": np.full(LAYERS, 0.4, np.float32),
        "weights": random.uniform(0.5, 1.5, (LAYERS, NEURONS)).astype(np.float32),
        "weights.negative": random.uniform(0.5, 1.5, (LAYERS, NEURONS)).astype(np.float32),
        "inputs.down.above": np.full(LAYERS, 0.1, np.float32),
        "inputs.down.norms": np.ones((LAYERS, NEURONS), np.float32),
        "frequency": random.uniform(0, 1, (LAYERS, NEURONS)).astype(np.float32),
    }
    for layer in range(LAYERS):
        for part, shape in (("first", (32, HIDDEN)), ("second", (HIDDEN, 32))):
            tensors[f"compensation.{layer}.{part}.q"] = random.integers(-127, 128, shape).astype(np.int8)
            scales = np.full((shape[0], shape[1] // 32), 1e-4, np.float16)
            tensors[f"compensation.{layer}.{part}.scale"] = scales
        tensors[f"compensation.{layer}.bias"] = np.zeros(HIDDEN, np.float32)
    path = tmp_path / "tiny.plan"
    save_file(tensors, path, {"fewron.plan": json.dumps({"format_version": 1, "record": tiny_record()})})
    return path


@pytest.fixture
def tiny_text(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    folder = tmp_path / "text"
    shards = ShardWriter(folder, {"model_sha256": SHA256, "length": LENGTH, "dtype": "uint16"})
    for _ in range(2):
        rows = random.integers(0, VOCAB, (64, LENGTH + 1)).astype(np.uint16)
        rows[:, 0] = random.integers(1, 12, 64)
        shards.add(rows, kind="random")
    return folder
