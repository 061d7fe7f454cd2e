"""Plan files: docs/plans.md of the engine, and FORMAT.md for what recovery adds."""

import hashlib
import json
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor

from fewron_recover.coding import Tensors, decode, narrow
from fewron_recover.config import ModelConfig
from fewron_recover.errors import RecoverError
from fewron_recover.mask import LayerMask, LowRank
from fewron_recover.source import BaseModel

_KEY = "fewron.plan"
PLAIN_VERSION, RECOVERED_VERSION = 1, 2
"""Format versions: the second one changes weights, which a reader of the first would leave out unnoticed."""

_POLICIES = ("gate", "magnitude", "predict")
_DENSE, _BEST, _ABOVE = 0, 1, 2


@dataclass
class Plan:
    """What a plan says about itself, and its tensors, which stay as they are unless they are replaced."""

    path: Path
    record: dict[str, Any]
    tensors: Tensors
    sha256: str

    @property
    def policy(self) -> str:
        """What scores the neurons."""
        return str(self.record["policy"])

    def floats(self, name: str) -> Tensor | None:
        """A tensor of floats, if the plan has it."""
        found = self.tensors.get(name)
        return None if found is None else torch.from_numpy(found.astype(np.float32))

    def low_rank(self, name: str) -> LowRank | None:
        """A map of low rank, if the plan has it."""
        bias = self.floats(f"{name}.bias")
        if bias is None:
            return None
        return LowRank(decode(self.tensors, f"{name}.first"), decode(self.tensors, f"{name}.second"), bias)

    def layer_mask(self, layer: int) -> LayerMask:
        """A layer's part."""

        def row(name: str) -> Tensor | None:
            found = self.floats(name)
            return None if found is None else found[layer]

        kind = int(self.tensors["cut.kind"][layer])
        least = row("inputs.down.above")
        second_stage = least is not None and float(least) > 0
        heads = self.tensors.get("heads")
        return LayerMask(
            policy=self.policy,
            best=int(self.tensors["cut.best"][layer]) if kind == _BEST else None,
            above=row("cut.above") if kind == _ABOVE else None,
            weights=row("weights"),
            negative=row("weights.negative"),
            down_above=least if second_stage else None,
            down_norms=row("inputs.down.norms") if second_stage else None,
            heads=None if heads is None else torch.from_numpy(heads[layer] != 0),
            predictor=self.low_rank(f"predictor.{layer}"),
            compensation=self.low_rank(f"compensation.{layer}"),
        )

    def set_cut(self, layer: int, mask: LayerMask) -> None:
        """Replaces a layer's limits."""
        kind = _BEST if mask.best is not None else _ABOVE if mask.above is not None else _DENSE
        self._set("cut.kind", layer, kind)
        self._set("cut.best", layer, mask.best or 0)
        self._set("cut.above", layer, 0.0 if mask.above is None else float(mask.above))
        if mask.down_above is not None:
            self._set("inputs.down.above", layer, float(mask.down_above))

    def _set(self, name: str, layer: int, value: float) -> None:
        self.tensors[name] = self.tensors[name].copy()
        self.tensors[name][layer] = value

    def check(self, model: BaseModel) -> None:
        """Refuses a plan of another model, or one that recovery cannot train under."""
        made_for, config = self.record["model"], model.config
        if made_for["sha256"] != model.sha256:
            raise RecoverError(
                f"{self.path} was made for model {made_for['name']} ({made_for['sha256'][:12]}…), but this model is "
                f"{model.name} ({model.sha256[:12]}…); run `fewron calibrate` to make a plan for it"
            )
        if made_for.get("quantized"):
            raise RecoverError(
                f"{self.path} is for weights that are quantised to {made_for['quantized']} while they are loaded; "
                "write them to a file with `fewron quantize` or `fewron convert`, and make a plan for that"
            )
        if self.policy not in _POLICIES:
            raise RecoverError(f"{self.path} has policy {self.policy}; recovery knows {', '.join(_POLICIES)}")
        if self.policy == "gate" and not config.gated:
            raise RecoverError(f"{self.path} has policy gate, but {model.name} has no gates")
        self._check_tensors(config)

    def _check_tensors(self, config: ModelConfig) -> None:
        others = [f"inputs.{site}.above" for site in ("attention", "attention_output", "mlp")]
        if found := next((name for name in others if name in self.tensors), None):
            raise RecoverError(f"{self.path} thins other inputs than the down projection's ({found}): not known")
        layers, rows = len(config.layers), ("weights", "weights.negative", "inputs.down.norms")
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(rows, (layers, config.intermediate))
        expected |= dict.fromkeys(("cut.kind", "cut.best", "cut.above", "inputs.down.above"), (layers,))
        for name, shape in expected.items():
            found_shape = self.tensors[name].shape if name in self.tensors else None
            if found_shape is None and name.startswith("cut."):
                raise RecoverError(f"{self.path} has no tensor {name}: it is damaged")
            if found_shape not in (None, shape):
                raise RecoverError(f"tensor {name} of {self.path} is {found_shape}, not {shape}: it is damaged")
        if self.policy == "gate" and "weights" not in self.tensors:
            raise RecoverError(f"{self.path} has no tensor weights: it is damaged")

    def narrowed(self) -> "Plan":
        """The same with numbers in half precision where that is enough: of all neurons, norms and biases."""
        kept = ("cut.", "inputs.down.above")

        def tensor(name: str, values: NDArray[np.generic]) -> NDArray[np.generic]:
            one = name.startswith(kept) or name.endswith((".first", ".second"))
            return values if one else narrow(values)

        return replace(self, tensors={name: tensor(name, values) for name, values in self.tensors.items()})

    def _is_newer(self, name: str) -> bool:
        """Whether readers of the first version do not know a tensor."""
        half = self.tensors[name].dtype == np.float16 and not name.endswith(".scale")
        return half or name.startswith(("edits.", "norm.", "bias.")) or name.endswith(".q4")

    def to_bytes(self) -> bytes:
        """The file."""
        added = any(self._is_newer(name) for name in self.tensors)
        version = RECOVERED_VERSION if added else PLAIN_VERSION
        metadata = {_KEY: json.dumps({"format_version": version, "record": self.record})}
        arrays: dict[str, NDArray[Any]] = {k: np.ascontiguousarray(v) for k, v in self.tensors.items()}
        return save(arrays, metadata)


def read_plan(path: Path) -> Plan:
    """Reads a plan."""
    try:
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        header = json.loads(metadata[_KEY])
        tensors: Tensors = load(data)
    except (OSError, KeyError, ValueError, struct.error) as error:
        raise RecoverError(f"{path} is no plan of fewron: {error}; make one with `fewron calibrate`") from error
    except Exception as error:  # safetensors has an exception of its own for damaged files
        raise RecoverError(f"{path} is damaged ({error}); make it again with `fewron calibrate`") from error
    if header.get("format_version") not in (PLAIN_VERSION, RECOVERED_VERSION):
        raise RecoverError(f"{path} has plan format {header.get('format_version')}; recovery reads 1 and 2")
    return Plan(path, header["record"], tensors, hashlib.sha256(data).hexdigest())


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
