"""Training text on disk: shards of token rows, and a manifest that says where they come from.

A row is the number of its first tokens that run dense, then `length` tokens; rows are u16, or u32 where the
vocabulary is larger. A shard is rows and nothing else. `manifest.json` has the SHA-256 of each shard.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewron_recover.errors import RecoverError
from fewron_recover.evaluate import Batch
from fewron_recover.plan import write_whole

MANIFEST = "manifest.json"
HELD_OUT_SHARE = 64
"""One row in so many is held out."""

Rows = NDArray[np.unsignedinteger[Any]]


@dataclass
class ShardWriter:
    """Adds shards to a folder; those that the manifest has already are not made again."""

    folder: Path
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        """Reads the manifest of a run that was interrupted."""
        file = self.folder / MANIFEST
        found: dict[str, Any] = {"settings": self.settings, "shards": []}
        if file.exists():
            found = json.loads(file.read_text())
        if found["settings"] != self.settings:
            raise RecoverError(f"{file} was made with other settings; give them again, or another folder")
        self.shards: list[dict[str, Any]] = found["shards"]

    @property
    def rows(self) -> int:
        """Rows so far."""
        return sum(shard["rows"] for shard in self.shards)

    def add(self, rows: Rows, **about: Any) -> None:
        """Writes a shard, then the manifest."""
        data = rows.astype(self.settings["dtype"]).tobytes()
        name = f"shard-{len(self.shards):05}.bin"
        write_whole(self.folder / name, data)
        digest = hashlib.sha256(data).hexdigest()
        self.shards.append({"file": name, "rows": len(rows), "sha256": digest, **about})
        manifest = {"settings": self.settings, "shards": self.shards}
        write_whole(self.folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def _held_out(row: Rows) -> bool:
    """Whether a row is held out, by its own bytes: equal rows are always on the same side."""
    return hashlib.blake2b(row.tobytes(), digest_size=4).digest()[0] % HELD_OUT_SHARE == 0


class TrainingText:
    """The rows of folders, split into those to train on and those held out."""

    def __init__(self, folders: Sequence[Path], model_sha256: str, seed: int) -> None:
        """Maps the shards and checks them against the manifests."""
        self.seed, self.length, self.shards = seed, 0, list[Rows]()
        digest = hashlib.sha256()
        for folder in folders:
            digest.update(self._add(folder, model_sha256))
        self.sha256 = digest.hexdigest()
        places = [(at, row) for at, shard in enumerate(self.shards) for row in range(len(shard))]
        sides = [_held_out(self.shards[at][row]) for at, row in places]
        self.held_out = [place for place, held in zip(places, sides, strict=True) if held]
        self.train = [place for place, held in zip(places, sides, strict=True) if not held]
        self.orders: dict[int, NDArray[np.int64]] = {}
        if not self.train or not self.held_out:
            names = ", ".join(map(str, folders))
            raise RecoverError(f"{names}: {len(places)} rows are too few to hold some out; generate more")

    def _add(self, folder: Path, model_sha256: str) -> bytes:
        """Adds a folder's shards; returns its manifest."""
        file = folder / MANIFEST
        if not file.exists():
            raise RecoverError(f"{folder} has no {MANIFEST}: make text with `fewron-recover generate`")
        data = file.read_bytes()
        manifest = json.loads(data)
        settings = manifest["settings"]
        if settings["model_sha256"] != model_sha256:
            raise RecoverError(
                f"{folder} was written by model {settings['model_sha256'][:12]}…, this is {model_sha256[:12]}…"
            )
        if self.length not in (0, length := int(settings["length"])):
            raise RecoverError(f"{folder} has rows of {length} tokens, the folders before it of {self.length}")
        self.length = length
        self.shards += [self._shard(folder, shard, settings["dtype"]) for shard in manifest["shards"]]
        return data

    def _shard(self, folder: Path, shard: dict[str, Any], dtype: str) -> Rows:
        rows: Rows = np.memmap(folder / shard["file"], dtype, "r").reshape(-1, self.length + 1)
        if hashlib.sha256(rows.tobytes()).hexdigest() != shard["sha256"]:
            raise RecoverError(f"{folder / shard['file']} is damaged; remove the folder and generate again")
        return rows

    def _batch(self, places: list[tuple[int, int]], device: torch.device) -> Batch:
        rows = torch.from_numpy(np.stack([self.shards[at][row] for at, row in places]).astype(np.int64)).to(device)
        return Batch(rows[:, 1:].contiguous(), rows[:, 0], torch.full_like(rows[:, 0], self.length))

    def batch(self, start: int, count: int, device: torch.device) -> Batch:
        """Rows `start` to `start + count` of an endless series of shuffled epochs."""
        size = len(self.train)
        places = [self.train[self._order(at // size)[at % size]] for at in range(start, start + count)]
        return self._batch(places, device)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The order of the rows in an epoch."""
        if epoch not in self.orders:
            self.orders = {epoch: np.random.default_rng([self.seed, epoch]).permutation(len(self.train))}
        return self.orders[epoch]

    def held_out_batches(self, rows: int, count: int, device: torch.device) -> list[Batch]:
        """The first `rows` held-out rows, `count` at a time."""
        places = self.held_out[:rows]
        return [self._batch(places[start : start + count], device) for start in range(0, len(places), count)]
