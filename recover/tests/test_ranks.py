"""Several processes train what one does."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from fewron_recover.data import TrainingText
from fewron_recover.errors import RecoverError
from fewron_recover.plan import read_plan
from fewron_recover.ranks import Ranks, joined
from fewron_recover.schedule import Training
from fewron_recover.source import BaseModel
from fewron_recover.student import Trained, make_student
from fewron_recover.train import Trainer
from tests.conftest import SHA256

SETTINGS = Training(
    steps=24, batch=8, lr=3e-3, anneal=0.2, edit_from=0.25, edit_until=0.5, edit_rounds=2, eval_every=7, eval_rows=2
)
GROUPS = ("edits", "norms", "compensation")


def run(model: BaseModel, plan: Path, text: Path, folder: Path, settings: Training, ranks: Ranks) -> Trainer:
    student = make_student(model, read_plan(plan), Trained(GROUPS, 0.1))
    return Trainer(student, TrainingText([text], SHA256, 0), settings, folder, ranks)


def train(index: int, port: int, model: BaseModel, plan: Path, text: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(index), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined("cpu") as (ranks, _):
        # Of signals and clocks, which differ, they agree when the log is written.
        late = run(model, plan, text, folder / "late", replace(SETTINGS, max_seconds=0.0 if index else 1e9), ranks)
        assert late.train() == "the time is over"
        assert late.step == 10
        trainer = run(model, plan, text, folder / "run", SETTINGS, ranks)
        assert trainer.train() == "done"
        trainer.write(folder / "two.plan")
        state = {name: value.detach() for name, value in trainer.student.params.items()}
        torch.save(state | {"limits": trainer.budget.limits}, folder / f"{index}.pt")


def test_two_processes_train_as_one(tiny_model: BaseModel, tiny_plan: Path, tiny_text: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(train, (port, tiny_model, tiny_plan, tiny_text, tmp_path), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"{index}.pt", weights_only=True) for index in (0, 1))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0, msg=name)

    alone = run(tiny_model, tiny_plan, tiny_text, tmp_path / "alone", SETTINGS, Ranks())
    alone.train()
    own = alone.result().record["recovery"]["held_out"]
    both = read_plan(tmp_path / "two.plan").record["recovery"]["held_out"]
    assert both["before"] == pytest.approx(own["before"], rel=1e-4)
    # Each process weighs its own rows' tokens alike, however many of a row count.
    assert both["after"]["kl"] == pytest.approx(own["after"]["kl"], rel=0.02)
    assert both["after"]["kl"] != pytest.approx(own["before"]["kl"], rel=0.02)


def test_batches_that_cannot_be_shared_are_refused() -> None:
    assert Ranks(1, 4).part(8) == range(2, 4)
    with pytest.raises(RecoverError, match="--batch 6 cannot be shared by 4 processes"):
        Ranks(0, 4).part(6)
