"""Plans and training: what is refused, what stays, what is learnt, and that a run can be interrupted."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fewron_recover.cli import MOST, ROOM, _check_size, _parser, _student
from fewron_recover.data import TrainingText
from fewron_recover.errors import RecoverError
from fewron_recover.evaluate import Variant, measure, text_windows
from fewron_recover.grid import Floats, Stored
from fewron_recover.loss import CHUNK_LOGITS, kl_loss
from fewron_recover.mask import LayerMask
from fewron_recover.model import Weights, dense_weights
from fewron_recover.plan import read_plan
from fewron_recover.recovered import plan_bytes, recovered_plan
from fewron_recover.schedule import Training
from fewron_recover.source import BaseModel
from fewron_recover.student import EDIT_LIMIT, Trained, count_codes, grids, make_student
from fewron_recover.train import Trainer
from tests.conftest import LAYERS, SHA256, tiny_record

SETTINGS = Training(steps=60, batch=8, lr=3e-3, anneal=0.2, edit_from=0.5, edit_rounds=1, eval_every=1000, eval_rows=2)


def trained(groups: str, share: float = 0.1, bits: int = 8) -> Trained:
    return Trained(tuple(groups.split(",")), share, bits)


def trainer(model: BaseModel, plan: Path, text: Path, folder: Path, groups: str, settings: Training) -> Trainer:
    student = make_student(model, read_plan(plan), trained(groups))
    return Trainer(student, TrainingText([text], SHA256, 0), settings, folder)


def rewrite(path: Path, tensors: dict[str, Any], version: int = 1, **record: str) -> None:
    save_file(tensors, path, {"fewron.plan": json.dumps({"format_version": version, "record": tiny_record(**record)})})


def test_other_models_and_policies_are_refused(tiny_model: BaseModel, tiny_plan: Path) -> None:
    plan, none = read_plan(tiny_plan), Trained(())
    with pytest.raises(RecoverError, match="was made for model tiny"):
        make_student(replace(tiny_model, sha256="ef" * 32), plan, none)
    tensors = load_file(tiny_plan)
    for policy in ("input", "prompt"):
        rewrite(tiny_plan, tensors, policy=policy)
        with pytest.raises(RecoverError, match=f"policy {policy}"):
            make_student(tiny_model, read_plan(tiny_plan), none)
    rewrite(tiny_plan, tensors, version=9)
    with pytest.raises(RecoverError, match="plan format 9"):
        read_plan(tiny_plan)
    rewrite(tiny_plan, tensors | {"weights": tensors["weights"][:, 1:]})
    with pytest.raises(RecoverError, match="tensor weights"):
        make_student(tiny_model, read_plan(tiny_plan), none)
    tiny_plan.write_bytes(b"no plan at all")
    with pytest.raises(RecoverError, match="calibrate"):
        read_plan(tiny_plan)


def test_text_of_another_model_or_damaged_is_refused(tiny_text: Path) -> None:
    with pytest.raises(RecoverError, match="was written by model"):
        TrainingText([tiny_text], "00", 0)
    text = TrainingText([tiny_text], SHA256, 0)
    rows = {text.shards[at][row].tobytes() for at, row in text.train}
    assert not rows & {text.shards[at][row].tobytes() for at, row in text.held_out}
    shard = tiny_text / "shard-00001.bin"
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    with pytest.raises(RecoverError, match="is damaged"):
        TrainingText([tiny_text], SHA256, 0)


def test_chunked_kl_equals_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewron_recover.loss.CHUNK_LOGITS", 80 * 3)
    assert CHUNK_LOGITS > 240
    random = torch.Generator().manual_seed(0)
    head, bias = torch.randn(80, 16, generator=random), torch.randn(80, generator=random)
    teacher = torch.randn(2, 5, 16, generator=random)
    states = torch.randn(2, 5, 16, generator=random, requires_grad=True)
    weight = (torch.rand(2, 5, generator=random) > 0.3).float()
    (gradient,) = torch.autograd.grad(kl_loss(states, teacher, weight, head, bias), states)
    ours, theirs = ((x @ head.T + bias).log_softmax(-1) for x in (states, teacher))
    plain = ((theirs.exp() * (theirs - ours)).sum(-1) * weight).sum() / weight.sum()
    torch.testing.assert_close(kl_loss(states, teacher, weight, head, bias), plain)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, states)[0])


@pytest.mark.parametrize(
    ("groups", "lr", "share"),
    [
        ("edits,norms,compensation", 1e-2, 0.75),
        ("edits", 2e-2, 0.9),
        ("scores,compensation", 1e-2, 0.85),
    ],
)
def test_training_lowers_the_kl(
    groups: str, lr: float, share: float, tiny_model: BaseModel, tiny_plan: Path, tiny_text: Path, tmp_path: Path
) -> None:
    """Of the rows that it trains on: there is nothing to learn from random text but itself."""
    settings = replace(SETTINGS, lr=lr, seed=1)
    run = trainer(tiny_model, tiny_plan, tiny_text, tmp_path / "run", groups, settings)
    run.text.train, run.text.orders = run.text.train[:8], {}
    rows = [run.text.batch(0, 8, run.device)]

    def kl(weights: Weights, masks: list[LayerMask]) -> float:
        variants = {"now": Variant(weights, masks)}
        return measure(tiny_model, dense_weights(tiny_model), variants, rows, torch.float32)["now"]["kl"]

    with torch.no_grad():
        before = kl(run.student.weights(), run.student.masks)
    assert run.train() == "done"
    out = tmp_path / "out.plan"
    plan = run.write(out)
    with torch.no_grad():
        assert kl(run.student.weights(), run.student.layer_masks()) < share * before
    held_out = plan.record["recovery"]["held_out"]
    # What is written is what was trained.
    read = read_plan(out)
    student = make_student(tiny_model, read, Trained(()))
    variants = {"read": Variant(student.weights(), student.layer_masks())}
    batches = run.text.held_out_batches(2, 8, run.device)
    again = measure(tiny_model, dense_weights(tiny_model), variants, batches, torch.float32)["read"]
    assert again["kl"] == pytest.approx(held_out["after"]["kl"], rel=1e-4)
    frequency = load_file(tiny_plan)["frequency"]
    assert frequency.dtype == np.float32
    assert np.array_equal(read.tensors["frequency"], frequency.astype(np.float16))


def test_neurons_stay_off_while_scores_grow(
    tiny_model: BaseModel, tiny_plan: Path, tiny_text: Path, tmp_path: Path
) -> None:
    run = trainer(tiny_model, tiny_plan, tiny_text, tmp_path / "run", "scores,norms", replace(SETTINGS, lr=1e-2))
    run.train()
    run.result()
    _, _, cuts = run._loss(run.text.batch(0, 64, run.device))
    off = torch.stack([cut[:, 1] for cut in cuts if cut is not None]).mean(0)
    assert float(off.mean()) == pytest.approx(0.7, abs=0.03)


def test_choices_are_of_fewer_and_fewer_codes() -> None:
    training = replace(SETTINGS, steps=1000, edit_from=0.2, edit_until=0.7, edit_rounds=6)
    assert [training.choice_step(done) for done in range(6)] == [200, 300, 400, 500, 600, 700]
    factors = [training.choice_factor(done) for done in range(6)]
    assert factors[-1] == 1
    assert factors[0] == pytest.approx(8 ** (5 / 6))
    assert all(a / b == pytest.approx(8 ** (1 / 6)) for a, b in pairwise(factors))


def test_what_the_loss_needs_most_is_chosen(tiny_model: BaseModel, tiny_plan: Path) -> None:
    student = make_student(tiny_model, read_plan(tiny_plan), trained("edits"))
    name, grid = "edits.0.up", grids(tiny_model)["edits.0.up"]
    steps = torch.zeros(grid.shape)
    steps[0, 0], steps[0, 1], steps[1, 0], steps[2, 0] = 0.8, 1.0, 5.0, 0.4

    def chosen(count: int) -> list[tuple[int, int]]:
        student.params[name].data.copy_(grid.sized(steps))
        student.choose(count)
        assert all(not keep.any() for other, keep in student.kept.items() if other != name)
        return [(int(row), int(col)) for row, col in student.kept[name].nonzero()]

    scale = grid.scale[:, :1].abs()
    by_size = sorted([(0.8 * scale[0], (0, 0)), (scale[0], (0, 1)), (scale[1], (1, 0)), (0.4 * scale[2], (2, 0))])
    assert chosen(2) == sorted(place for _, place in by_size[2:])
    # What matters is not the size alone.
    student.curvature = {name: torch.full(grid.shape, 1e-8)}
    student.curvature[name][2, 0] = 1.0
    assert chosen(1) == [(2, 0)]
    assert student.params[name].count_nonzero() == 1


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(
    tiny_model: BaseModel, tiny_plan: Path, tiny_text: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, steps=12, edit_until=0.8, edit_rounds=3)
    whole = trainer(tiny_model, tiny_plan, tiny_text, tmp_path / "whole", "edits,scores", settings)
    whole.train()
    part = 0
    # Before the first choice, right before it, between choices, and after the last.
    for stop in (1, 6, 7, 11, 12):
        run = trainer(tiny_model, tiny_plan, tiny_text, tmp_path / "part", "edits,scores", settings)
        if part:
            run.resume()
        assert run.step == part
        assert bool(run.student.kept) == (part > 6)
        if stop < 12:
            step = run._train_step

            def stopping(run: Trainer = run, step: Any = step, stop: int = stop) -> Any:
                found = step()
                if run.step == stop:
                    run.began = -math.inf
                return found

            run.training = replace(settings, max_seconds=1e9)
            run._train_step = stopping  # type: ignore[method-assign]
            assert run.train() == "the time is over"
        else:
            assert run.train() == "done"
        part = stop
    for name, value in whole.student.params.items():
        assert torch.equal(value, run.student.params[name]), name
    for name, keep in whole.student.kept.items():
        assert torch.equal(keep, run.student.kept[name]), name
    assert whole.result().to_bytes() == run.result().to_bytes()
    other = trainer(tiny_model, tiny_plan, tiny_text, tmp_path / "part", "edits,scores", replace(settings, lr=1.0))
    with pytest.raises(RecoverError, match="lr"):
        other.resume()


def test_what_is_not_chosen_stays_as_in_the_file(
    tiny_model: BaseModel, tiny_plan: Path, tiny_text: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, steps=12, lr=3e-2)
    run = trainer(tiny_model, tiny_plan, tiny_text, tmp_path / "run", "edits", settings)
    run.train()
    student, steps = run.student, 0
    assert sum(int(keep.sum()) for keep in student.kept.values()) == round(0.1 * count_codes(tiny_model))
    merged = student.weights()
    for name, keep in student.kept.items():
        _, layer, matrix = name.split(".")
        assert not student.params[name][~keep].any()
        moments = run.optimiser.state[student.params[name]]
        assert not moments["exp_avg"][~keep].any()
        assert not moments["exp_avg_sq"][~keep].any()
        weights, dense = merged.layers[int(layer)][matrix], tiny_model.layers[int(layer)][matrix].dense()
        assert torch.equal(weights[~keep], dense[~keep])
        found = student.edit_steps(name)
        assert np.abs(found).max() <= EDIT_LIMIT
        assert np.array_equal(found != 0, (weights != dense).numpy())
        steps += int(np.count_nonzero(found))
    assert steps > 0.02 * count_codes(tiny_model)
    plan = run.result()
    assert plan.record["recovery"]["edits"] == {"count": steps, "codes": count_codes(tiny_model)}
    out = tmp_path / "out.plan"
    out.write_bytes(plan.to_bytes())
    # A recovered plan is where another run goes on, and what others train leaves its edits as they are.
    again = make_student(tiny_model, read_plan(out), trained("edits"))
    assert all(np.array_equal(again.edit_steps(name), student.edit_steps(name)) for name in student.latents)
    others = recovered_plan(make_student(tiny_model, read_plan(out), trained("norms")))
    assert all(np.array_equal(others.tensors[n], t) for n, t in plan.tensors.items() if n.startswith("edits."))


def test_edits_are_of_codes(tiny_model: BaseModel, tiny_plan: Path) -> None:
    some: tuple[dict[str, Stored], ...] = tuple(
        layer | {"q": Floats(layer["q"].dense())} for layer in tiny_model.layers
    )
    student = make_student(replace(tiny_model, layers=some), read_plan(tiny_plan), trained("edits"))
    assert "edits.0.q" not in student.params
    assert "edits.0.k" in student.params
    floats: tuple[dict[str, Stored], ...] = tuple(
        {name: Floats(stored.dense()) for name, stored in layer.items()} for layer in tiny_model.layers
    )
    with pytest.raises(RecoverError, match="fewron quantize"):
        make_student(replace(tiny_model, layers=floats), read_plan(tiny_plan), trained("edits"))
    plan = read_plan(tiny_plan)
    plan.tensors["edits.0.q"] = np.zeros(8, np.uint8)
    with pytest.raises(RecoverError, match="no such matrix of codes"):
        make_student(replace(tiny_model, layers=floats), plan, Trained(()))
    with pytest.raises(RecoverError, match=r"edits\.0\.q of the plan is damaged"):
        make_student(tiny_model, plan, Trained(()))


def test_the_size_is_known_before(tiny_model: BaseModel, tiny_plan: Path, tiny_text: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=2)
    student = make_student(tiny_model, read_plan(tiny_plan), trained("edits,norms,compensation", 0.1, 4))
    expected = plan_bytes(student.plan, tiny_model, student.trained)
    # A little more edits than there may be, anywhere, and where there is room for them.
    random = torch.Generator().manual_seed(5)
    for name, grid in grids(tiny_model).items():
        inwards = torch.where(grid.codes > 7, -1.0, 1.0)
        some = torch.rand(grid.shape, generator=random) < 0.105
        student.params[name].data.copy_(grid.sized(inwards * some))
    run = Trainer(student, TrainingText([tiny_text], SHA256, 0), settings, tmp_path / "run")
    plan = run.result()
    found = sum(tensor.nbytes for tensor in plan.tensors.values())
    assert found == pytest.approx(expected, rel=0.01)
    assert f"compensation.{LAYERS - 1}.first.q4" in plan.tensors
    data = plan.to_bytes()
    assert b'\\"format_version\\": 2' in data
    # What is too large loses edits until it fits.
    run.training = replace(settings, max_bytes=len(data))
    smaller = run.result()
    assert len(smaller.to_bytes()) <= len(data)
    counts = [made.record["recovery"]["edits"]["count"] for made in (plan, smaller)]
    assert counts[0] == round(0.1 * count_codes(tiny_model))
    assert 0.3 * counts[0] < counts[1] < counts[0]
    run.training = replace(settings, max_bytes=1000)
    with pytest.raises(RecoverError, match="--max-bytes 1,000"):
        run.result()


def test_plans_that_would_be_too_large_are_refused(tiny_model: BaseModel, tiny_plan: Path) -> None:
    student = make_student(tiny_model, read_plan(tiny_plan), trained("edits,norms", 0.2))
    size = plan_bytes(student.plan, tiny_model, replace(student.trained, max_edits=ROOM * 0.2))
    _check_size(student, size)
    with pytest.raises(RecoverError, match=r"--max-edits 0\.1[0-9]+ fits"):
        _check_size(student, size - 500)
    with pytest.raises(RecoverError, match="--compensation-bits 4"):
        _check_size(student, 1000)


def test_as_many_edits_as_fit(tiny_model: BaseModel, tiny_plan: Path, tmp_path: Path) -> None:
    arguments = ["train", "model", "--plan", str(tiny_plan), "--data", str(tmp_path), "--out", "out"]

    def share(*more: str) -> float:
        return _student(tiny_model, _parser().parse_args([*arguments, *more])).trained.max_edits

    assert share() == MOST
    assert share("--max-edits", "0.02") == 0.02
    plan = read_plan(tiny_plan).narrowed()
    half = replace(trained("edits,norms,compensation"), max_edits=ROOM * MOST / 2)
    room = plan_bytes(plan, tiny_model, half)
    assert 0.01 < share("--max-bytes", str(room)) <= MOST / 2
    with pytest.raises(RecoverError, match=r"--max-edits 0.0\d\d fits"):
        share("--max-edits", str(MOST), "--max-bytes", str(room))


def test_windows_are_those_of_the_engine() -> None:
    batches = list(text_windows(np.arange(600), None, torch.device("cpu")))
    assert [len(batch.tokens) for batch in batches] == [3]
    assert batches[0].lengths.tolist() == [256, 256, 88]
    assert math.isclose(batches[0].masked.sum(), 2 * 224 + 56)
    assert next(text_windows(np.arange(255), 7, torch.device("cpu"))).tokens[0, 0] == 7
