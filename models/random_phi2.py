#!/usr/bin/env python3
"""Write a model of Phi-2's size with random weights: 2.8 billion parameters, 5.6 GB in F16.

    python3 models/random_phi2.py OUT_DIR [--layers 32] [--seed 0]

For measuring speed and memory on the real shapes (32 layers, 2,560 wide, 10,240 neurons, 51,200
tokens) where the real weights cannot be had. The text it writes is noise. The tokenizer is that of
models/tiny/tiny-phi, so most of the vocabulary has no text. Needs numpy.
"""

import argparse
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HIDDEN, NEURONS, HEADS, VOCAB, CONTEXT = 2560, 10_240, 32, 51_200, 2048
TINY = Path(__file__).resolve().parent / "tiny" / "tiny-phi"
LAYERS_OF_A_SHARD = 8

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str) -> Shapes:
    return {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}


def layer(index: int) -> Shapes:
    name = f"model.layers.{index}"
    attention = [linear(f"{name}.self_attn.{part}", HIDDEN, HIDDEN) for part in ("q_proj", "k_proj", "v_proj", "dense")]
    shapes = norm(f"{name}.input_layernorm")
    for part in attention:
        shapes |= part
    return shapes | linear(f"{name}.mlp.fc1", NEURONS, HIDDEN) | linear(f"{name}.mlp.fc2", HIDDEN, NEURONS)


def shards(layers: int) -> Iterator[Shapes]:
    yield {"model.embed_tokens.weight": (VOCAB, HIDDEN)}
    for first in range(0, layers, LAYERS_OF_A_SHARD):
        shapes: Shapes = {}
        for index in range(first, min(first + LAYERS_OF_A_SHARD, layers)):
            shapes |= layer(index)
        yield shapes
    yield norm("model.final_layernorm") | linear("lm_head", VOCAB, HIDDEN)


def values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Norms near 1, small biases, and matrices that keep the size of what goes through them."""
    if len(shape) == 1:
        center = 1.0 if name.endswith("norm.weight") else 0.0
        return (center + 0.02 * rng.standard_normal(shape, dtype=np.float32)).astype(np.float16)
    scale = np.float32(1.0 / np.sqrt(shape[1]))
    return (scale * rng.standard_normal(shape, dtype=np.float32)).astype(np.float16)


def write_shard(path: Path, shapes: Shapes, rng: np.random.Generator) -> None:
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            file.write(values(name, shape, rng).tobytes())


def write_config(out: Path, layers: int) -> None:
    config = json.loads((TINY / "config.json").read_text())
    config |= {
        "hidden_size": HIDDEN,
        "intermediate_size": NEURONS,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "partial_rotary_factor": 0.4,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(TINY / name, out / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(arguments.seed)
    parts = list(shards(arguments.layers))
    files: dict[str, str] = {}
    for index, shapes in enumerate(parts, 1):
        name = f"model-{index:05}-of-{len(parts):05}.safetensors"
        write_shard(arguments.out / name, shapes, rng)
        files |= dict.fromkeys(shapes, name)
        print(f"{name}: {len(shapes)} tensors", flush=True)
    (arguments.out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    write_config(arguments.out, arguments.layers)


if __name__ == "__main__":
    main()
