"""What is trained: edits of the codes, norms, compensation and scores, as a plan holds them.

Parameters have the names of the plan's tensors. What the forward pass sees of them is what the engine will see:
the matrices' codes on the grid of the model's file, and compensations through theirs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewron_recover import edits
from fewron_recover.choice import largest
from fewron_recover.coding import narrow, rounded
from fewron_recover.errors import RecoverError
from fewron_recover.grid import Grid, stacked
from fewron_recover.mask import LayerMask, LowRank
from fewron_recover.model import Weights, dense_weights
from fewron_recover.plan import Plan
from fewron_recover.source import BaseModel

GROUPS = ("edits", "norms", "compensation", "scores")
EDIT_LIMIT = 1
"""Steps that a code moves at most, once it is chosen."""
PREDICTOR_BITS = 8


@dataclass(frozen=True)
class Trained:
    """Which groups are trained, the share of all codes that edits may change, and the bits of the compensation."""

    groups: tuple[str, ...]
    max_edits: float = 0.05
    compensation_bits: int = 8
    temperature: float = 0.1


def grids(model: BaseModel) -> dict[str, Grid]:
    """The matrices that can be edited, by the names of their edits; matrices of floats cannot."""
    found = {}
    for index, layer in enumerate(model.layers):
        for name in model.config.matrices:
            if isinstance(stored := layer[name], Grid):
                found[f"edits.{index}.{name}"] = stored
    return found


def count_codes(model: BaseModel) -> int:
    """Codes that edits choose from."""
    return sum(grid.codes.numel() for grid in grids(model).values())


@dataclass(frozen=True)
class Group:
    """A matrix of several layers, as one: so many small operations less."""

    matrix: str
    layers: list[int]
    grid: Grid


@dataclass
class Student:
    """A model that is being recovered.

    `edits.L.MATRIX` are what is added to the weights before they go back on the grid. `kept` says, once it is chosen,
    which of them may be other than zero.
    """

    model: BaseModel
    plan: Plan
    trained: Trained
    base: Weights
    masks: list[LayerMask]
    groups: list[Group] = field(default_factory=list)
    params: dict[str, nn.Parameter] = field(default_factory=dict)
    fixed: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    curvature: dict[str, Tensor] = field(default_factory=dict)
    """Mean squares of the latents' gradients, where there are any."""
    merged: Callable[[Grid, Tensor, int | None], Tensor] = Grid.merged
    """[`Grid.merged`], or a compiled form of it."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        stored = self.model.outer["norm"].dense()
        return stored.device

    def value(self, name: str) -> Tensor | None:
        """A parameter, or what the plan has under its name."""
        return self.params.get(name, self.fixed.get(name))

    @property
    def latents(self) -> dict[str, nn.Parameter]:
        """What edits are made of: parameters like the matrices."""
        return {name: value for name, value in self.params.items() if name.startswith("edits.")}

    @property
    def limit(self) -> int | None:
        """Steps that a code moves at most; none before the choice."""
        return EDIT_LIMIT if self.kept else None

    @torch.no_grad()
    def choose(self, count: int) -> None:
        """Keeps the `count` latents that the loss needs most; the others become zero.

        A latent δ is worth ½·F·δ²: what the loss grows by without it, with F the mean square of its gradient in
        place of the curvature (optimal brain damage, LeCun et al., NIPS 1989, eq. 5).
        """
        found, latents = grids(self.model), self.latents

        def worth(name: str) -> Tensor:
            change = found[name].change(latents[name].detach(), EDIT_LIMIT)
            curvature = self.curvature.get(name)
            return change if curvature is None else change * curvature.sqrt()

        sizes: dict[str, Callable[[], Tensor]] = {name: partial(worth, name) for name in latents}
        self.kept = largest(sizes, count)
        for name, keep in self.kept.items():
            latents[name].mul_(keep)

    @torch.no_grad()
    def bound(self) -> None:
        """Brings latents back to the limit, beyond which they have no gradient."""
        found = grids(self.model)
        for name, value in self.latents.items():
            value.copy_(found[name].sized(found[name].steps(value).clamp(-EDIT_LIMIT, EDIT_LIMIT)))

    def hold_dropped(self) -> None:
        """Takes the gradient from the latents that were not chosen."""
        for name, keep in self.kept.items():
            if (gradient := self.params[name].grad) is not None:
                gradient.mul_(keep)

    @torch.no_grad()
    def narrow(self) -> None:
        """Rounds vectors that the plan will have in half precision."""
        for value in self.params.values():
            if value.ndim == 1:
                value.copy_(torch.from_numpy(narrow(value.float().cpu().numpy()).astype(np.float32)))

    @torch.no_grad()
    def edit_steps(self, name: str) -> edits.Steps:
        """By how many steps each code of a matrix moves."""
        grid = grids(self.model)[name]
        codes, _ = grid.moved(self.params[name], self.limit)
        steps: edits.Steps = (codes - grid.codes).to(torch.int8).cpu().numpy()
        return steps

    def weights(self) -> Weights:
        """All weights as the engine will have them."""
        layers = [dict(layer) for layer in self.base.layers]
        for group in self.groups:
            values = [self.value(f"edits.{layer}.{group.matrix}") for layer in group.layers]
            delta = torch.cat([value for value in values if value is not None])
            parts = self.merged(group.grid, delta, self.limit).chunk(len(group.layers))
            for index, matrix in zip(group.layers, parts, strict=True):
                layers[index][group.matrix] = matrix
        for index, layer in enumerate(layers):
            for name in layer:
                stem = name.removesuffix(".bias")
                key = f"bias.{index}.{stem}" if stem in self.model.config.matrices else f"norm.{index}.{name}"
                if name not in self.model.config.matrices and (found := self.value(key)) is not None:
                    layer[name] = found
        outer = dict(self.base.outer)
        for name in ("norm", "norm.bias"):
            if (found := self.value(f"norm.output{name.removeprefix('norm')}")) is not None:
                outer[name] = found
        return Weights(layers, outer)

    def layer_masks(self) -> list[LayerMask]:
        """The masks with what is trained of them."""
        scored = "scores" in self.trained.groups
        maps = {kind: self._maps(kind) for kind in ("compensation", "predictor")}
        masks = []
        for index, mask in enumerate(self.masks):
            change: dict[str, Any] = {kind: found[index] for kind, found in maps.items() if index in found}
            for side in ("weights", "negative"):
                old, log = getattr(mask, side), self.params.get(f"scores.{side}")
                if old is not None and log is not None:
                    change[side] = old * log[index].exp()
            masks.append(replace(mask, temperature=self.trained.temperature if scored else None, **change))
        return masks

    def _maps(self, kind: str) -> dict[int, LowRank]:
        """The trained maps of a kind by layer; all have the same shape."""
        layers = [index for index in range(len(self.masks)) if f"{kind}.{index}.first" in self.params]
        if not layers:
            return {}
        bits = self.trained.compensation_bits if kind == "compensation" else PREDICTOR_BITS
        parts = {
            part: torch.stack([self.params[f"{kind}.{index}.{part}"] for index in layers])
            for part in ("first", "second", "bias")
        }
        first, second = _rounded(parts["first"], bits), _rounded(parts["second"], bits)
        found = zip(first.unbind(), second.unbind(), parts["bias"].unbind(), strict=True)
        return {index: LowRank(*matrices) for index, matrices in zip(layers, found, strict=True)}


def _rounded(matrices: Tensor, bits: int) -> Tensor:
    """Matrices `[layers, rows, cols]` as they will be read back."""
    return rounded(matrices.flatten(0, 1), bits).view(matrices.shape)


def _groups(model: BaseModel, names: Iterable[str]) -> list[Group]:
    """The edited matrices of all layers, those of one name and format together."""
    found = grids(model)
    formats: dict[tuple[object, ...], list[int]] = {}
    for name in names:
        _, layer, matrix = name.split(".")
        formats.setdefault((matrix, *found[name].format), []).append(int(layer))
    return [
        Group(str(matrix), layers, stacked([found[f"edits.{layer}.{matrix}"] for layer in layers]))
        for (matrix, *_), layers in formats.items()
    ]


def make_student(model: BaseModel, plan: Plan, trained: Trained) -> Student:
    """A student that begins as the plan is."""
    plan.check(model)
    if trained.groups:
        plan = plan.narrowed()
    device = model.outer["norm"].dense().device
    masks = [_to(plan.layer_mask(index), device) for index in range(len(model.layers))]
    student = Student(model, plan, trained, dense_weights(model), masks, fixed=_plan_values(plan, model))
    groups = set(trained.groups)
    if unknown := groups - set(GROUPS):
        raise RecoverError(f"--train {unknown.pop()}: there are {', '.join(GROUPS)}")
    if "edits" in groups:
        _add_edits(student)
    for index in range(len(model.layers)):
        if "norms" in groups:
            _add_norms(student, index)
        for kind, wanted in (("compensation", "compensation" in groups), ("predictor", "scores" in groups)):
            if wanted and (found := getattr(masks[index], kind)) is not None:
                for part in ("first", "second", "bias"):
                    student.params[f"{kind}.{index}.{part}"] = nn.Parameter(getattr(found, part).clone())
    if "norms" in groups:
        for name in ("norm", "norm.bias"):
            if name in model.outer:
                key = f"norm.output{name.removeprefix('norm')}"
                student.params[key] = nn.Parameter(_begin(student, key, model.outer[name].dense()))
    if "scores" in groups:
        for side in ("weights", "negative"):
            rows = [getattr(mask, side) for mask in masks]
            if all(row is not None for row in rows):
                student.params[f"scores.{side}"] = nn.Parameter(torch.zeros_like(torch.stack(rows)))
    if "compensation" in groups and not any(name.startswith("compensation.") for name in student.params):
        raise RecoverError(
            f"{plan.path} has no compensation to train: make one with `fewron calibrate --compensation 64`"
        )
    if groups and not student.params:
        raise RecoverError(f"--train {','.join(sorted(groups))}: {plan.path} has nothing of that kind")
    names = dict.fromkeys([*student.params, *student.fixed])
    student.groups = _groups(model, (name for name in names if name.startswith("edits.")))
    return student


def _to(mask: LayerMask, device: torch.device) -> LayerMask:
    def move(value: object) -> object:
        if isinstance(value, LowRank):
            return LowRank(*(getattr(value, part).to(device) for part in ("first", "second", "bias")))
        return value.to(device) if isinstance(value, Tensor) else value

    return LayerMask(**{name: move(value) for name, value in vars(mask).items()})  # type: ignore[arg-type]


def _plan_values(plan: Plan, model: BaseModel) -> dict[str, Tensor]:
    """What a recovered plan has already: edits, norms and biases."""
    values, found = {}, grids(model)
    device = model.outer["norm"].dense().device
    for name, tensor in plan.tensors.items():
        if name.startswith("edits."):
            if name not in found:
                raise RecoverError(f"{plan.path} has {name}, but {model.name} has no such matrix of codes")
            grid = found[name]
            steps = torch.from_numpy(edits.decode(tensor.astype(np.uint8), grid.shape, name)).to(device)
            values[name] = grid.sized(steps)
        elif name.startswith(("norm.", "bias.")):
            values[name] = torch.from_numpy(tensor.astype(np.float32)).to(device)
    return values


def _begin(student: Student, name: str, otherwise: Tensor) -> Tensor:
    found = student.fixed.get(name)
    return (otherwise if found is None else found).detach().clone()


def need_codes(model: BaseModel) -> dict[str, Grid]:
    """The matrices that can be edited, of which there must be some."""
    if not (found := grids(model)):
        raise RecoverError(
            f"{model.name} has floats, not codes, and edits are of codes: make a quantised file with "
            "`fewron quantize` and a plan for it, or leave out edits"
        )
    return found


def _add_edits(student: Student) -> None:
    for name, grid in need_codes(student.model).items():
        student.params[name] = nn.Parameter(_begin(student, name, torch.zeros(grid.shape, device=student.device)))


def _add_norms(student: Student, index: int) -> None:
    matrices = student.model.config.matrices
    for name, stored in student.model.layers[index].items():
        if name in matrices:
            continue
        stem = name.removesuffix(".bias")
        key = f"bias.{index}.{stem}" if stem in matrices else f"norm.{index}.{name}"
        student.params[key] = nn.Parameter(_begin(student, key, stored.dense()))
