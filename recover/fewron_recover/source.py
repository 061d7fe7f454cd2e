"""A model's files: a GGUF file or a Hugging Face directory, tensors by the names that GGUF files give them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from fewron_recover import config as configs
from fewron_recover.config import ModelConfig
from fewron_recover.errors import RecoverError
from fewron_recover.gguf import Gguf
from fewron_recover.grid import Floats, Stored, read_tensor, rows_of

MATRICES = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
"""Names of matrices in plans, and in GGUF files."""

_HF_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_PHI_PARTS = {"attn_output": "self_attn.dense", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
_GEMMA_PARTS = {"ffn_norm": "pre_feedforward_layernorm"}


@dataclass(frozen=True)
class BaseModel:
    """The frozen model: weights as the file holds them, and its identity (SHA-256 as plans have it).

    `layers` has for each block the matrices by plan name, biases as `NAME.bias`, norms as in `ModelConfig.norms`
    and their biases as `NAME.bias`. `outer` has `embedding`, `norm`, and where there are `norm.bias`, `head`,
    `head.bias` and `rope_factors`.
    """

    path: Path
    name: str
    sha256: str
    config: ModelConfig
    layers: tuple[dict[str, Stored], ...]
    outer: dict[str, Stored]

    def to(self, device: torch.device) -> "BaseModel":
        """The same on another device."""
        return BaseModel(
            self.path,
            self.name,
            self.sha256,
            self.config,
            tuple(_moved(layer, device) for layer in self.layers),
            _moved(self.outer, device),
        )


def _moved(tensors: dict[str, Stored], device: torch.device) -> dict[str, Stored]:
    return {name: stored.to(device) for name, stored in tensors.items()}


def open_model(path: Path) -> BaseModel:
    """Reads a GGUF file or a Hugging Face directory."""
    if not path.exists():
        raise RecoverError(f"there is no {path}; `fewron pull` fetches models into the cache")
    return _from_directory(path) if path.is_dir() else _from_gguf(path)


def file_sha256(path: Path) -> str:
    """Of a whole file, lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _directory_sha256(path: Path) -> str:
    """As the engine has it: of the names and hashes of the configuration and the weights, by name."""
    files = sorted([*path.glob("*.safetensors"), path / "config.json"])
    lines = "".join(f"{file_sha256(file)} {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _from_gguf(path: Path) -> BaseModel:
    file = Gguf(path)
    if "token_embd.weight" not in file.tensors:
        raise RecoverError(f"{path} has no tensor token_embd.weight")
    config = configs.from_gguf(file.metadata, file.tensors["token_embd.weight"].shape[0])

    def read(name: str) -> Stored | None:
        return read_tensor(file, name) if name in file.tensors else None

    return _assemble(path, file_sha256(path), config, read)


def _from_directory(path: Path) -> BaseModel:
    keys = json.loads((path / "config.json").read_text())
    config = configs.from_hf(keys)
    places = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            places.update(dict.fromkeys(weights.keys(), file))
    if not places:
        raise RecoverError(f"{path} has no safetensors file")
    parts = _HF_PARTS | (_PHI_PARTS if config.parallel else _GEMMA_PARTS if config.post_norm else {})
    tied = keys.get("tie_word_embeddings", config.post_norm)
    outer = {"token_embd": "model.embed_tokens", "output": "" if tied else "lm_head"}
    outer["output_norm"] = "model.final_layernorm" if config.parallel else "model.norm"

    def read(name: str) -> Stored | None:
        stem, kind = name.rsplit(".", 1)
        if stem.startswith("blk."):
            _, layer, part = stem.split(".")
            found = f"model.layers.{layer}.{parts.get(part, part)}.{kind}"
        else:
            found = f"{outer.get(stem, stem)}.{kind}"
        if found not in places:
            return None
        with safe_open(places[found], "pt") as weights:
            tensor = weights.get_tensor(found)
        if config.post_norm and "norm" in stem:
            # Gemma's files hold w of (1 + w); GGUF files hold the sum, in f32.
            return Floats(tensor.float() + 1.0)
        return Floats(tensor.float())

    return _assemble(path, _directory_sha256(path), config, read)


class _Reader:
    """Tensors by name; the ones that must be there are."""

    def __init__(self, path: Path, read: object) -> None:
        self.path, self.read = path, read

    def find(self, name: str) -> Stored | None:
        assert callable(self.read)
        found: Stored | None = self.read(name)
        return found

    def need(self, name: str) -> Stored:
        if (found := self.find(name)) is None:
            raise RecoverError(f"{self.path} has no tensor {name}")
        return found


def _assemble(path: Path, sha256: str, config: ModelConfig, read: object) -> BaseModel:
    reader = _Reader(path, read)
    layers = tuple(_layer(reader, config, f"blk.{index}") for index in range(len(config.layers)))
    outer = {"embedding": reader.need("token_embd.weight"), "norm": reader.need("output_norm.weight")}
    optional = {"norm.bias": "output_norm.bias", "head": "output.weight", "head.bias": "output.bias"}
    for name, found in (optional | {"rope_factors": "rope_freqs.weight"}).items():
        if (stored := reader.find(found)) is not None:
            outer[name] = stored
    name = path.name.removesuffix(".gguf")
    return BaseModel(path, name, sha256, config, layers, outer)


def _layer(reader: _Reader, config: ModelConfig, block: str) -> dict[str, Stored]:
    tensors: dict[str, Stored] = {}
    fused = reader.find(f"{block}.attn_qkv.weight")
    fused_bias = reader.find(f"{block}.attn_qkv.bias")
    first = 0
    for name, shape in config.matrices.items():
        if fused is not None and name in ("q", "k", "v"):
            tensors[name] = rows_of(fused, first, shape[0])
            bias = None if fused_bias is None else rows_of(fused_bias, first, shape[0])
            first += shape[0]
        else:
            tensors[name] = reader.need(f"{block}.{MATRICES[name]}.weight")
            bias = reader.find(f"{block}.{MATRICES[name]}.bias")
        if bias is not None:
            tensors[f"{name}.bias"] = bias
        if tensors[name].shape != shape:
            raise RecoverError(f"{block} {name} of {reader.path} is {tensors[name].shape}, not {shape}")
    for name in config.norms:
        tensors[name] = reader.need(f"{block}.{name}.weight")
        if config.layer_norm:
            tensors[f"{name}.bias"] = reader.need(f"{block}.{name}.bias")
    return tensors
