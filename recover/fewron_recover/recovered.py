"""From what was trained to the plan that is written, and how large that is."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fewron_recover import edits
from fewron_recover.coding import coded_bytes, drop, encode
from fewron_recover.errors import RecoverError
from fewron_recover.plan import Plan
from fewron_recover.source import BaseModel
from fewron_recover.student import PREDICTOR_BITS, Student, Trained, count_codes, grids

RECORD_BYTES = 2048
"""Room for what a plan's record says of recovery."""


def plan_bytes(plan: Plan, model: BaseModel, trained: Trained) -> int:
    """Bytes of the plan that training will write, but for its header, if it has all the edits that it may have."""
    kept, total = dict(plan.tensors), 0

    def forget(*kinds: str) -> None:
        for name in [name for name in kept if name.startswith(kinds)]:
            del kept[name]

    if "edits" in trained.groups:
        forget("edits.")
        total += edits.expected_bytes(count_codes(model), trained.max_edits) + 9 * len(grids(model))
    if "norms" in trained.groups:
        forget("norm.", "bias.")
        vectors = [v for layer in model.layers for n, v in layer.items() if n not in model.config.matrices]
        vectors += [model.outer[name] for name in ("norm", "norm.bias") if name in model.outer]
        total += sum(2 * vector.shape[0] for vector in vectors)
    for layer in range(len(model.layers)):
        if "compensation" in trained.groups and (found := plan.low_rank(f"compensation.{layer}")):
            for part, matrix in (("first", found.first), ("second", found.second)):
                drop(kept, f"compensation.{layer}.{part}")
                total += coded_bytes(matrix.shape[0], matrix.shape[1], trained.compensation_bits)
    return total + sum(tensor.nbytes for tensor in kept.values())


def recovered_plan(student: Student) -> Plan:
    """The plan with what was trained."""
    plan = replace(student.plan, record=dict(student.plan.record), tensors=dict(student.plan.tensors))
    for index, mask in enumerate(student.layer_masks()):
        plan.set_cut(index, mask)
    for side, name in (("weights", "weights"), ("negative", "weights.negative")):
        if f"scores.{side}" in student.params:
            rows = [getattr(mask, side).detach().cpu() for mask in student.layer_masks()]
            plan.tensors[name] = torch.stack(rows).numpy().astype(np.float32)
    for name, value in student.params.items():
        kind, part = name.split(".")[0], name.rsplit(".", 1)[1]
        if kind == "edits":
            plan.tensors.pop(name, None)
            if (steps := student.edit_steps(name)).any():
                plan.tensors[name] = edits.encode(steps)
        elif kind in ("compensation", "predictor") and part != "bias":
            _replace(
                plan,
                name,
                value,
                student.trained.compensation_bits if kind == "compensation" else PREDICTOR_BITS,
            )
        elif kind != "scores":
            plan.tensors[name] = value.detach().float().cpu().numpy()
    return plan.narrowed()


def _replace(plan: Plan, name: str, value: Tensor, bits: int) -> None:
    drop(plan.tensors, name)
    plan.tensors.update(encode(name, value, bits))


def fit(student: Student, max_bytes: int) -> int:
    """Lets edits go, those of the smallest latents first, until the plan is small enough; how many are left."""
    while True:
        plan = recovered_plan(student)
        streams = [tensor.nbytes for name, tensor in plan.tensors.items() if name.startswith("edits.")]
        over = len(plan.to_bytes()) + RECORD_BYTES - max_bytes
        count = sum(int(np.count_nonzero(student.edit_steps(name))) for name in student.latents)
        if over <= 0 or not student.latents:
            return count
        # Fewer edits need more bits each: so it takes some rounds.
        fewer = int(count * (0.999 - over / max(1, sum(streams))))
        if fewer < 1:
            raise RecoverError(
                f"the plan is larger than --max-bytes {max_bytes:,} even without edits: allow more, or use "
                "--compensation-bits 4"
            )
        student.choose(fewer)
