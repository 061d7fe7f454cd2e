"""Settings of a run: how long, how fast, and how sparse at each step."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from fewron_recover.student import Student

FIRST_CHOICE = 8.0
"""Codes that move at first, as multiples of those that will be edited, if nothing is chosen."""
WARMUP_SHARE = 0.03
"""Part of the steps in which the learning rate rises."""


@dataclass(frozen=True)
class Training:
    """Settings of a run; the first group is part of its result, the second is not."""

    steps: int
    batch: int
    accumulate: int = 1
    lr: float = 3e-3
    clip: float = 1.0
    hidden: float = 0.0
    start_sparsity: float = 0.3
    anneal: float = 0.2
    edit_from: float = 0.25
    edit_until: float = 0.7
    edit_rounds: int = 6
    seed: int = 0
    eval_every: int = 100
    eval_rows: int = 64
    patience: int = 0

    max_bytes: int = 5_000_000
    compile: bool = False
    max_seconds: float = math.inf
    checkpoint_seconds: float = 60.0

    @property
    def kept(self) -> dict[str, Any]:
        """What a run that resumes must share."""
        free = ("max_bytes", "compile", "max_seconds", "checkpoint_seconds")
        return {name: value for name, value in asdict(self).items() if name not in free}

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine to a hundredth (arXiv 1608.03983)."""
        warmup = max(1, round(WARMUP_SHARE * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    def choice_step(self, done: int) -> int:
        """The step before which codes are chosen the next time."""
        part = done / max(1, self.edit_rounds - 1)
        return round((self.edit_from + (self.edit_until - self.edit_from) * part) * self.steps)

    def choice_factor(self, done: int) -> float:
        """How many times the edits of the end are chosen then: fewer each time, by the same factor."""
        left: float = 1 - (done + 1) / self.edit_rounds
        return math.pow(FIRST_CHOICE, left)

    def progress(self, step: int, sparsity: float) -> float:
        """Part of the target's sparsity, rising linearly over the first steps."""
        first = min(1.0, self.start_sparsity / max(sparsity, 1e-9))
        return min(1.0, first + (1 - first) * step / max(1.0, self.anneal * self.steps))


def step_sizes(student: Student) -> list[dict[str, Any]]:
    """Parameters with a factor on the learning rate: steps are relative to the size of what moves.

    Adafactor, arXiv 1804.04235, section 8; here the size at first, over all layers: of edits that of the matrix, while
    logarithms of scores begin at zero and their steps are absolute.
    """
    kinds: dict[str, list[Tensor]] = {}
    sizes: dict[str, list[float]] = {}
    for name, value in student.params.items():
        kind = ".".join(part for part in name.split(".") if not part.isdecimal())
        measured: Tensor | None = None if kind.startswith("scores.") else value.detach()
        if kind.startswith("edits."):
            _, layer, matrix = name.split(".")
            measured = student.base.layers[int(layer)][matrix]
        kinds.setdefault(kind, []).append(value)
        sizes.setdefault(kind, []).append(1.0 if measured is None else float(measured.square().mean()))
    return [
        {"params": values, "scale": max(math.sqrt(sum(sizes[kind]) / len(values)), 1e-3)}
        for kind, values in kinds.items()
    ]
