"""The whole state of a training run as one file, which appears whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch

from fewron_recover.errors import RecoverError


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes the state beside its name, then renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load(path: Path, settings: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Reads the state of a run with the same settings; tensors and plain values alone are read."""
    if not path.exists():
        raise RecoverError(f"there is no checkpoint {path} to resume from")
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    changed = [name for name, value in settings.items() if state["settings"].get(name) != value]
    if changed:
        name = changed[0]
        raise RecoverError(
            f"{path} was made with {name} {state['settings'].get(name)!r}, not {settings[name]!r}: a run resumes with "
            "the settings it was begun with"
        )
    return state
