"""Parity with the Rust engine: per-token log-probabilities, dense and under plans that `fewron calibrate` makes.

Skipped where the binary or a model is not there, unless `FEWRON_REQUIRE_MODELS` is 1. `FEWRON_BIN` names the binary
(default: target/release/fewron), `FEWRON_SMOLLM2` and `FEWRON_GEMMA3` the models (default: the cache).
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewron_recover.evaluate import DENSE_TOKENS
from fewron_recover.model import dense_weights, forward, logits
from fewron_recover.plan import read_plan
from fewron_recover.recovered import recovered_plan
from fewron_recover.source import open_model
from fewron_recover.student import Trained, grids, make_student
from fewron_recover.tokens import open_tokenizer

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("FEWRON_BIN", ROOT / "target/release/fewron"))
HOME = Path(os.environ.get("FEWRON_HOME", Path.home() / ".cache/fewron"))
SMOLLM2 = Path(os.environ.get("FEWRON_SMOLLM2", HOME / "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
GEMMA3 = Path(os.environ.get("FEWRON_GEMMA3", HOME / "models/gemma-3-270m-q4_k_m.gguf"))
TINY = ROOT / "models/tiny"
WINDOW = 96
TEXT = """The old lighthouse stood at the end of the bay, where 3 fishing boats lay in the mud. <unk> Nobody had lived
there since 1987;   the keeper's daughter said: "It doesn't matter."
In spring, when the ice broke, people from the village walked out to look for driftwood, and the children counted the
gulls. A good map was hard to find, so the teacher drew one: the harbour, the church, the mill, and far out on the
rocks the tower with its lamp.

"""

REQUIRED = os.environ.get("FEWRON_REQUIRE_MODELS") == "1"
needs_engine = pytest.mark.skipif(not REQUIRED and not BINARY.exists(), reason=f"no engine at {BINARY}")


def engine(*arguments: Any) -> dict[str, Any]:
    done = subprocess.run([BINARY, "-t", "1", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def need(model: Path) -> None:
    if not REQUIRED and not model.exists():
        pytest.skip(f"no model at {model}")


@torch.no_grad()
def our_logprobs(model_path: Path, plan: Path | None) -> torch.Tensor:
    """As `fewron score` with windows of `WINDOW`."""
    tokenizer, model = open_tokenizer(model_path), open_model(model_path)
    ids = tokenizer.encode(TEXT)
    bos = [] if tokenizer.bos is None else [tokenizer.bos]
    room, weights, masks = WINDOW - len(bos), dense_weights(model), None
    if plan is not None:
        student = make_student(model, read_plan(plan), Trained(()))
        weights, masks = student.weights(), student.layer_masks()
    found = []
    for start in range(0, len(ids), room):
        tokens = torch.tensor([bos + ids[start : start + room]])
        masked = torch.arange(tokens.shape[1])[None] >= DENSE_TOKENS
        states = forward(model.config, weights, tokens, masks, masked).states[0, :-1]
        found.append(logits(weights, states).log_softmax(-1).gather(-1, tokens[0, 1:, None]).squeeze(-1))
    return torch.cat(found)


def text_file(folder: Path) -> Path:
    path = folder / "text.txt"
    path.write_text(TEXT)
    return path


def make_plan(model: Path, folder: Path, *options: Any) -> Path:
    data, out = folder / "calibration.txt", folder / "made.plan"
    data.write_text(TEXT * 12)
    engine("calibrate", model, "--data", data, "--traced-tokens", 128, "--out", out, "--json", *options)
    return out


def compare(model: Path, folder: Path, plan: Path | None, mean: float, most: float) -> None:
    options = ["--window", WINDOW, "--json", "--kv-type", "f32", *([] if plan is None else ["--plan", plan])]
    score = engine("score", model, "--text-file", text_file(folder), *options)
    theirs, ours = torch.tensor(score["logprobs"]), our_logprobs(model, plan)
    assert ours.shape == theirs.shape, "the same tokens"
    off = (ours - theirs).abs()
    assert off.mean() < mean
    assert off.max() < most
    assert float((-ours).mean().exp()) == pytest.approx(score["perplexity"], rel=max(mean / 3, 1e-4))


@needs_engine
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gemma3", "tiny-phi"])
def test_float_models_agree_closely(name: str, tmp_path: Path) -> None:
    need(TINY / name)
    compare(TINY / name, tmp_path, None, 1e-4, 1e-3)
    converted = tmp_path / "converted.gguf"
    engine("convert", TINY / name, converted, "--type", "f32", "--json")
    compare(converted, tmp_path, None, 1e-4, 1e-3)


@needs_engine
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tiny-llama", ("--policy", "gate", "--compensation", 32)),
        ("tiny-llama", ("--policy", "gate", "--compensation", 0)),
        ("tiny-llama", ("--policy", "gate", "--select", "layer", "--single-stage", "--compensation", 8, "--heads")),
        ("tiny-gemma3", ("--policy", "magnitude", "--compensation", 32)),
        ("tiny-phi", ("--policy", "predict", "--predictor", 32, "--compensation", 32)),
    ],
)
def test_plans_mean_the_same(name: str, options: tuple[Any, ...], tmp_path: Path) -> None:
    """Compensation and predictor have 8-bit weights, whose inputs the engine rounds: not quite exact."""
    need(TINY / name)
    plan = make_plan(TINY / name, tmp_path, "--sparsity", 0.5, "--tokens", 1024, *options)
    exact = options[-2:] == ("--compensation", 0)
    compare(TINY / name, tmp_path, plan, 2e-3 if exact else 0.06, 0.1 if exact else 1.5)


@needs_engine
def test_smollm2_agrees(tmp_path: Path) -> None:
    """The engine rounds the inputs of quantised products to 8 bits (docs/tasks.md); masks can tip over by that."""
    need(SMOLLM2)
    compare(SMOLLM2, tmp_path, None, 0.1, 0.6)
    plan = make_plan(SMOLLM2, tmp_path, "--sparsity", 0.5, "--tokens", 512, "--weighting", "rms", "--compensation", 32)
    compare(SMOLLM2, tmp_path, plan, 0.15, 2.0)


@needs_engine
def test_gemma3_agrees(tmp_path: Path) -> None:
    need(GEMMA3)
    compare(GEMMA3, tmp_path, None, 0.1, 1.0)


@needs_engine
def test_the_engine_runs_what_version_1_can_say(tmp_path: Path) -> None:
    """A recovered compensation is read by an engine that knows no edits."""
    model = TINY / "tiny-llama"
    need(model)
    plan = read_plan(make_plan(model, tmp_path, "--sparsity", 0.5, "--tokens", 1024, "--compensation", 32))
    student = make_student(open_model(model), plan, Trained(("compensation",)))
    for name, value in student.params.items():
        if name.endswith(".second"):
            value.data.mul_(0.5)
    changed = tmp_path / "changed.plan"
    changed.write_bytes(recovered_plan(student).to_bytes())
    compare(model, tmp_path, changed, 0.06, 0.8)
    assert not np.array_equal(
        read_plan(changed).tensors["compensation.0.second.scale"], plan.tensors["compensation.0.second.scale"]
    )


@needs_engine
@pytest.mark.parametrize(
    ("kind", "share"), [("q4_0", 0.03), ("q4_1", 0.03), ("q5_0", 0.05), ("q5_1", 0.05), ("q8_0", 1.0)]
)
def test_the_engine_merges_edits(kind: str, share: float, tmp_path: Path) -> None:
    source = TINY / "tiny-llama"
    need(source)
    model = tmp_path / "tiny.gguf"
    engine("convert", source, model, "--type", kind, "--json")
    plan = make_plan(model, tmp_path, "--sparsity", 0.5, "--tokens", 1024, "--compensation", 0)
    student = make_student(open_model(model), read_plan(plan), Trained(("edits",)))
    random, found = torch.Generator().manual_seed(6), grids(student.model)
    for name, value in student.latents.items():
        steps = torch.randint(-7, 8, value.shape, generator=random)
        few = torch.rand(value.shape, generator=random) < share
        value.data.copy_(found[name].sized(steps * few))
    edited = tmp_path / "edited.plan"
    edited.write_bytes(recovered_plan(student).to_bytes())
    asked = [BINARY, "score", model, "--text-file", text_file(tmp_path), "--plan", edited]
    answer = subprocess.run(list(map(str, asked)), capture_output=True, text=True, check=False)
    if answer.returncode and "format" in answer.stderr:
        pytest.skip(f"this engine reads no edits: {answer.stderr.strip()}")
    before, after = our_logprobs(model, plan), our_logprobs(model, edited)
    assert (after - before).abs().mean() > 0.4, "edits that were left out would be seen"
    # The engine rounds the inputs of quantised products: without edits too it is off by 0.13.
    compare(model, tmp_path, edited, 0.25, 2.5)
