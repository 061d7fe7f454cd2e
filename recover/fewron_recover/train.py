"""Self-distillation under the mask: KL(dense‖sparse), teacher and student in one process."""

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewron_recover import VERSION, checkpoint
from fewron_recover.budget import Budget, first_budget, share_off
from fewron_recover.choice import pack, unpack
from fewron_recover.data import TrainingText
from fewron_recover.errors import RecoverError
from fewron_recover.evaluate import Batch, Variant, measure
from fewron_recover.generate import cast
from fewron_recover.graph import Repeated
from fewron_recover.grid import Grid
from fewron_recover.loss import ChunkKl, chunk_kl, hidden_loss, kl_loss
from fewron_recover.model import Block, block, dense_weights, forward
from fewron_recover.plan import Plan, write_whole
from fewron_recover.ranks import ALONE, Ranks
from fewron_recover.recovered import fit, recovered_plan
from fewron_recover.schedule import Training, step_sizes
from fewron_recover.stopping import ENOUGH, GOES_ON, NOT_FINITE, REASONS, asked_to_stop, why_stop
from fewron_recover.student import Student, count_codes

FOLLOW_RATE = 0.05
"""How fast limits follow the scores of a step."""
FIRST_PASSES = 4
"""Batches from which a plan's own shares are counted."""
SETTLE_RATES = (1.0, 1.0)
"""Passes before the first step, which bring the limits from the plan's shares to those of the first step."""
CHOICE_RATES = (0.3,) * 8
"""Passes after the choice of edits, which changes most weights at once."""
LAST_RATES = (0.5, 0.25) + (0.1,) * 14
"""Passes after the last step, which make up for the limits' lag."""
LOG_EVERY = 10
"""Steps between lines of the log; several processes agree then whether to go on."""


class Trainer:
    """A run: the student, its optimiser, its budget and its place in the text."""

    def __init__(
        self, student: Student, text: TrainingText, training: Training, folder: Path, ranks: Ranks = ALONE
    ) -> None:
        """Begins a run in a folder, which gets its checkpoint and log."""
        self.ranks, self.rows = ranks, ranks.part(training.batch)
        self.student, self.text, self.training, self.folder = student, text, training, folder
        self.device = student.device
        self.began = time.monotonic()
        gpu = self.device.type == "cuda"
        self.dtype = torch.bfloat16 if gpu else torch.float32
        self.run: Block = block
        self.chunk_kl: ChunkKl = chunk_kl
        if training.compile:
            # Teacher and student, with windows and without, matrices of every shape: each is a graph.
            torch._dynamo.config.recompile_limit = 64
            self.run = torch.compile(block, fullgraph=True)
            self.chunk_kl = torch.compile(chunk_kl, fullgraph=True, dynamic=False)
            student.merged = torch.compile(Grid.merged, fullgraph=True, dynamic=False)
        self.teacher = cast(dense_weights(student.model), self.dtype)
        self.config = student.model.config
        self.optimiser = torch.optim.AdamW(
            step_sizes(student), lr=training.lr, weight_decay=0.0, fused=gpu, capturable=gpu
        )
        self.step, self.choices, self.best, self.bad_evals = 0, 0, math.inf, 0
        self.before: dict[str, float] = {}
        self.sparsity = float(student.plan.record["sparsity"])
        self.budget = self._first_budget()
        ranks.same([self.budget.shares])
        self._settle(SETTLE_RATES)
        self.progress = torch.zeros((), device=self.device)
        self.batches: list[Batch] = []
        counted = any(mask.best is not None for mask in student.masks)
        recorded = gpu and training.compile and not counted
        self.gradients = Repeated(self._gradients, recorded)
        self.update = Repeated(self._update, recorded)
        self.log_file = folder / "log.jsonl"
        in_order = 0 < training.edit_from <= training.edit_until <= 1 and training.edit_rounds > 0
        if student.latents and not (in_order and 0 < student.trained.max_edits <= 1):
            raise RecoverError(
                "--edit-from, --edit-until and --max-edits are shares, above 0 and at most 1, the first no larger "
                "than the second, and --edit-rounds is at least 1"
            )

    # Passes

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @torch.no_grad()
    def _first_budget(self) -> Budget:
        masks = self.student.masks
        zero = torch.zeros(len(masks), 2, device=self.device)
        for index, mask in enumerate(masks):
            for stage, limit in enumerate((mask.above, mask.down_above)):
                if limit is not None:
                    zero[index, stage] = limit
        watched = Budget(torch.zeros_like(zero), zero, self.config.intermediate)
        exact = [
            b.with_cut(m.best, b.above, b.down_above) for m, b in zip(masks, watched.masks(masks, 1.0), strict=True)
        ]
        weights, passes = self.student.weights(), []
        for index in range(FIRST_PASSES):
            batch = self.text.batch(index * self.training.batch, self.training.batch, self.device)
            with self._autocast():
                passes.append(forward(self.config, weights, batch.tokens, exact, batch.masked).cuts)
        if all(cut is None for cut in passes[0]):
            return watched
        return first_budget(masks, passes, self.sparsity, self.config.intermediate)

    @torch.no_grad()
    def _settle(self, rates: tuple[float, ...]) -> None:
        """Lets the limits follow some passes."""
        weights, place = self.student.weights(), self.step * self.training.accumulate * self.training.batch
        for index, rate in enumerate(rates):
            batch = self.text.batch(place + index * self.training.batch, self.training.batch, self.device)
            masks = self.budget.masks(self.student.layer_masks(), self.training.progress(self.step, self.sparsity))
            with self._autocast():
                found = forward(self.config, weights, batch.tokens, masks, batch.masked)
            self.budget.follow(found.cuts, rate)
        self.ranks.same([self.budget.limits])

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """The loss to minimise, its KL, and where the pass would have cut."""
        masks = self.budget.masks(self.student.layer_masks(), self.progress)
        streams = self.training.hidden > 0
        with self._autocast():
            with torch.no_grad():
                target = forward(self.config, self.teacher, batch.tokens, run=self.run, residuals=streams)
            found = forward(
                self.config,
                self.student.weights(),
                batch.tokens,
                masks,
                batch.masked,
                self.run,
                residuals=streams,
            )
        weight = batch.masked.float()
        bias = self.teacher.outer.get("head.bias")
        kl = kl_loss(found.states, target.states, weight, self.teacher.head, bias, self.chunk_kl)
        loss = kl
        if streams:
            loss = kl + self.training.hidden * hidden_loss(found.residuals, target.residuals, weight)
        return loss, kl.detach(), found.cuts

    def _train_step(self) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """A step: KL, norm of the gradient, and the cuts of its last pass; the next step may overwrite them."""
        training = self.training
        self.progress.fill_(training.progress(self.step, self.sparsity))
        for group in self.optimiser.param_groups:
            self._set_rate(group, training.lr * group["scale"] * training.learning_rate(self.step))
        self._fetch()
        kl, cuts = self.gradients()
        gradients = [value.grad for value in self.student.params.values() if value.grad is not None]
        self.ranks.mean([kl, self.budget.limits, *gradients])
        norm = self.update()
        self.step += 1
        return kl, norm, cuts

    def _set_rate(self, group: dict[str, Any], rate: float) -> None:
        """Sets a learning rate, for recorded steps where they look for it."""
        if not self.update.recorded:
            group["lr"] = rate
        elif isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = torch.tensor(rate, device=self.device)

    def _fetch(self) -> None:
        """Brings the step's batches to where the last step's were."""
        size = self.training.batch
        places = range(self.step * self.training.accumulate, (self.step + 1) * self.training.accumulate)
        starts = [place * size + self.rows.start for place in places]
        batches = [self.text.batch(start, len(self.rows), self.device) for start in starts]
        if not self.batches:
            self.batches = batches
        for old, new in zip(self.batches, batches, strict=True):
            for name, value in vars(new).items():
                getattr(old, name).copy_(value)

    def _gradients(self) -> tuple[Tensor, list[Tensor | None]]:
        """The first half of a step: gradients of this process's rows, their KL, and the cuts of the last pass."""
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        cuts: list[Tensor | None] = []
        for batch in self.batches:
            loss, kl, cuts = self._loss(batch)
            (loss / len(self.batches)).backward()  # type: ignore[no-untyped-call]
            total += kl / len(self.batches)
            self.budget.follow(cuts, FOLLOW_RATE)
        return total, cuts

    def _update(self) -> Tensor:
        """The second half of a step: the norm of the gradients."""
        self.student.hold_dropped()
        norm = torch.nn.utils.clip_grad_norm_(self.student.params.values(), self.training.clip)
        self.optimiser.step()
        return norm

    def held_out(self) -> dict[str, dict[str, float]]:
        """The held-out rows under the mask at its full sparsity, and dense."""
        masks = self.final_masks()
        with torch.no_grad():
            weights = self.student.weights()
        variants = {"recovered": Variant(weights, masks), "recovered_dense": Variant(weights)}
        batches = self.text.held_out_batches(self.training.eval_rows, self.training.batch, self.device)
        return measure(self.student.model, self.teacher, variants, batches, self.dtype)

    def final_masks(self) -> list[Any]:
        """The masks as the plan will have them, with the present limits."""
        with torch.no_grad():
            found = self.budget.masks(self.student.layer_masks(), self.training.progress(self.step, self.sparsity))
        return [type(mask)(**(vars(mask) | {"shares": None, "temperature": None})) for mask in found]

    def _choose(self, factor: float = 1.0) -> None:
        """Keeps the best edits, a multiple of those of the end, and lets the others go with their moments."""
        student, self.choices = self.student, self.choices + 1
        codes = count_codes(student.model)
        count = min(codes, max(1, round(factor * student.trained.max_edits * codes)))
        found = {name: self.optimiser.state.get(latent, {}) for name, latent in student.latents.items()}
        student.curvature = {name: state["exp_avg_sq"] for name, state in found.items() if "exp_avg_sq" in state}
        student.choose(count)
        for name, keep in student.kept.items():
            for moment in self.optimiser.state[student.params[name]].values():
                if moment.shape == keep.shape:
                    moment.mul_(keep)
        self.ranks.same([*student.latents.values()])
        self.best, self.bad_evals = math.inf, 0
        self.gradients.forget()
        self.update.forget()
        self.log({"step": self.step, "edits_kept": count})

    @property
    def _choice_due(self) -> bool:
        return bool(self.student.latents) and self.choices < self.training.edit_rounds

    # The loop

    def train(self) -> str:
        """Trains until the steps, the time or the patience are over, or a signal comes; returns which."""
        training, saved, why, enough = self.training, time.monotonic(), GOES_ON, False
        first, since, place = self.step, time.monotonic(), self.step
        if not self.before:
            self.before = self._before()
            self.log({"step": self.step, "held_out": self.before})
        with asked_to_stop() as signals:
            while self.step < training.steps and not why:
                if self._choice_due and self.step >= training.choice_step(self.choices):
                    self._choose(training.choice_factor(self.choices))
                    self.student.bound()
                    self._settle(CHOICE_RATES)
                kl, norm, cuts = self._train_step()
                last = self.step == training.steps
                logged = self.step % LOG_EVERY == 0 or last
                if logged or self.step - first <= 3:
                    wall_s = time.monotonic() - since
                    tok_s = (self.step - place) * self._step_tokens / wall_s
                    left_s = (training.steps - self.step) * self._step_tokens / tok_s
                    since, place = time.monotonic(), self.step
                    self.log(
                        {
                            "step": self.step,
                            "tokens": self.step * self._step_tokens,
                            "kl": round(float(kl), 5),
                            "grad_norm": round(float(norm), 4),
                            "sparsity": round(share_off(cuts), 4),
                            "tok_s": round(tok_s),
                            "left_s": round(left_s),
                        }
                    )
                if self.step % training.eval_every == 0 or last:
                    enough = self._evaluated_enough()
                if logged or self.ranks.count == 1:
                    finite = not logged or math.isfinite(float(kl))
                    over = time.monotonic() - self.began > training.max_seconds and not last
                    why = self.ranks.largest(why_stop(finite, enough, bool(signals), over), self.device)
                if not why and time.monotonic() - saved > training.checkpoint_seconds:
                    self.save()
                    saved = time.monotonic()
        if why not in (ENOUGH, NOT_FINITE):
            self.save()
        return REASONS[why]

    @property
    def _step_tokens(self) -> int:
        return self.training.accumulate * self.training.batch * self.text.length

    def _before(self) -> dict[str, float]:
        """Held-out quality of the plan as it was."""
        batches = self.text.held_out_batches(self.training.eval_rows, self.training.batch, self.device)
        with torch.no_grad():
            weights = self.student.weights()
        variants = {"before": Variant(weights, self.student.masks)}
        return measure(self.student.model, self.teacher, variants, batches, self.dtype)["before"]

    def _evaluated_enough(self) -> bool:
        """Measures on held-out rows; whether the KL has not fallen for too many times at full sparsity."""
        found = self.held_out()
        self.log({"step": self.step, "held_out": found["recovered"], "held_out_dense": found["recovered_dense"]})
        if self._choice_due or self.training.progress(self.step, self.sparsity) < 1:
            return False
        kl = found["recovered"]["kl"]
        self.bad_evals = 0 if kl < self.best else self.bad_evals + 1
        self.best = min(self.best, kl)
        return 0 < self.training.patience <= self.bad_evals

    def log(self, entry: dict[str, Any]) -> None:
        """Prints a line and adds it to the log."""
        if not self.ranks.first:
            return
        words = (f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in entry.items())
        print("  ".join(words), flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    # State

    @property
    def _settings(self) -> dict[str, Any]:
        trained = asdict(self.student.trained) | {"groups": list(self.student.trained.groups)}
        identity = {
            "model": self.student.model.sha256,
            "data": self.text.sha256,
            "plan": self.student.plan.sha256,
        }
        return self.training.kept | trained | identity | {"sparsity": self.sparsity}

    def save(self) -> None:
        """Writes the checkpoint."""
        if not self.ranks.first:
            return
        state = {
            "settings": self._settings,
            "step": self.step,
            "params": {name: value.detach() for name, value in self.student.params.items()},
            "optimiser": self.optimiser.state_dict(),
            "kept": pack(self.student.kept),
            "choices": self.choices,
            "budget": {"shares": self.budget.shares, "limits": self.budget.limits},
            "best": self.best,
            "bad_evals": self.bad_evals,
            "before": self.before,
            "rng": torch.get_rng_state(),
        }
        checkpoint.save(self.folder / "checkpoint.pt", state)

    def resume(self) -> None:
        """Goes on from the checkpoint."""
        state = checkpoint.load(self.folder / "checkpoint.pt", self._settings, self.device)
        for name, value in self.student.params.items():
            value.data.copy_(state["params"][name])
        shapes = {name: tuple(value.shape) for name, value in self.student.params.items()}
        self.student.kept = unpack(state["kept"], shapes, self.device)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.choices = state["step"], state["choices"]
        self.best, self.bad_evals = state["best"], state["bad_evals"]
        self.before = state["before"]
        self.budget = Budget(state["budget"]["shares"], state["budget"]["limits"], self.config.intermediate)
        torch.set_rng_state(state["rng"].cpu())

    def result(self) -> Plan:
        """The recovered plan, with its record."""
        student, training = self.student, self.training
        if self._choice_due:
            self._choose()
        edits = fit(student, training.max_bytes)
        student.narrow()
        self._settle(LAST_RATES)
        student.masks = [
            mask.with_cut(cut.best, cut.above, cut.down_above)
            for mask, cut in zip(student.masks, self.final_masks(), strict=True)
        ]
        found = self.held_out()
        plan = recovered_plan(student)
        after = found["recovered"]
        plan.record["recovery"] = {
            "version": VERSION,
            "data_sha256": self.text.sha256,
            "tokens": self.step * self._step_tokens,
            "steps": self.step,
            "seed": training.seed,
            "lr": training.lr,
            "train": list(student.trained.groups),
            "held_out": {"before": self.before, "after": after, "after_dense": found["recovered_dense"]},
        }
        if student.latents:
            plan.record["recovery"]["edits"] = {"count": edits, "codes": count_codes(student.model)}
        if plan.record.get("held_out"):
            names = {"tokens": "tokens", "perplexity": "perplexity", "kl": "kl", "agreement": "agreement"}
            new = {name: after[key] for name, key in names.items()}
            new["dense_perplexity"] = found["dense"]["perplexity"]
            plan.record["held_out"] = plan.record["held_out"] | new
        return plan

    def write(self, out: Path) -> Plan:
        """Writes the plan."""
        plan = self.result()
        if self.ranks.first:
            write_whole(out, plan.to_bytes())
        return plan
