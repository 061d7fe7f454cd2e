"""The command line: check, generate, train, evaluate."""

import argparse
import io
import json
import math
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import torch

from fewron_recover import VERSION
from fewron_recover.data import TrainingText
from fewron_recover.errors import RecoverError
from fewron_recover.evaluate import Variant, measure, text_windows
from fewron_recover.generate import Generation, cast, generate
from fewron_recover.model import block, dense_weights
from fewron_recover.plan import read_plan, write_whole
from fewron_recover.ranks import joined
from fewron_recover.recovered import plan_bytes
from fewron_recover.schedule import Training
from fewron_recover.source import BaseModel, open_model
from fewron_recover.student import Student, Trained, count_codes, grids, make_student, need_codes
from fewron_recover.tokens import model_bos, open_tokenizer, read_tokens
from fewron_recover.train import Trainer

MOST = Trained.max_edits
"""Share of the codes to edit where a plan of them is small enough."""
ROOM = 0.7
"""Part of the room for edits anywhere that a share takes, as runs have shown: a fifth of the chosen codes end where
they began, and the others lie in some rows and columns more than elsewhere. If not, some are let go at the end."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fewron-recover", description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)

    make = commands.add_parser("generate", help="let the dense model write training text")
    make.add_argument("model", type=Path)
    make.add_argument("--out", type=Path, required=True, help="folder of the shards; goes on where it was interrupted")
    make.add_argument("--tokens", type=int, default=20_000_000, help="tokens to write in all")
    make.add_argument("--length", type=int, default=256, help="tokens of a row")
    make.add_argument("--batch", type=int, default=512, help="rows that are written at once, and in a shard")
    make.add_argument("--temperatures", default="0.7,1.0,1.2", help="one for each shard in turn")
    make.add_argument("--text", type=Path, action="append", default=[], help="pieces of it are openings too")
    make.add_argument("--questions", type=Path, action="append", default=[], help="questions, one in a line")
    make.add_argument("--train-on-text", action="store_true", help="rows of the text itself as well")
    make.add_argument("--no-tokenizer", action="store_true", help="random first tokens alone are openings")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--max-seconds", type=float, default=math.inf)

    check = commands.add_parser("check", help="say whether `train` can train a model, and how large the plan will be")
    train = commands.add_parser("train", help="train under a plan's mask, and write the recovered plan")
    for command in (check, train):
        command.add_argument("model", type=Path)
        command.add_argument("--plan", type=Path, required=command is train)
        _add_training(command)
    train.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        help="folder that `generate` wrote; may be given several times",
    )
    train.add_argument("--out", type=Path, required=True, help="the plan to write")
    train.add_argument("--run", type=Path, help="folder of checkpoint and log (default: OUT.run)")
    train.add_argument("--resume", action="store_true")

    judge = commands.add_parser("evaluate", help="perplexity, KL and agreement, before and after")
    judge.add_argument("model", type=Path)
    judge.add_argument("--plan", type=Path, action="append", default=[], help="may be given several times")
    text = judge.add_mutually_exclusive_group(required=True)
    text.add_argument("--text", type=Path)
    text.add_argument("--tokens", type=Path, help="the text's tokens as .npy, see `tokens`")
    text.add_argument("--data", type=Path, help="held-out rows of a folder that `generate` wrote")
    judge.add_argument("--limit", type=int, default=0, help="tokens of the text (rows of the data) to use")
    judge.add_argument("--batch", type=int, default=16)
    judge.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: bfloat16 on a GPU")
    judge.add_argument("--json", type=Path)

    tokens = commands.add_parser("tokens", help="write a text's tokens as .npy")
    tokens.add_argument("model", type=Path)
    tokens.add_argument("text", type=Path)
    tokens.add_argument("out", type=Path)
    for command in (check, make, train, judge):
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def _add_training(train: argparse.ArgumentParser) -> None:
    """What a plan becomes, and how."""
    train.add_argument("--train", default="edits,norms,compensation", help="of edits,norms,compensation,scores")
    train.add_argument("--max-edits", type=float, help=f"share of all codes to edit (default: what fits, up to {MOST})")
    train.add_argument("--edit-from", type=float, default=0.25, help="share of the steps before some are let go")
    train.add_argument("--edit-until", type=float, default=0.7, help="share of the steps before the last choice")
    train.add_argument("--edit-rounds", type=int, default=6, help="choices, each of fewer codes")
    train.add_argument("--compensation-bits", type=int, choices=(4, 8), default=8)
    train.add_argument("--max-bytes", type=int, default=5_000_000, help="largest plan to write")
    train.add_argument("--steps", type=int, default=2000)
    train.add_argument("--batch", type=int, default=32, help="rows of a pass")
    train.add_argument("--accumulate", type=int, default=1, help="passes of a step")
    train.add_argument("--lr", type=float, default=3e-3)
    train.add_argument("--clip", type=float, default=1.0, help="largest norm of a step's gradient")
    train.add_argument("--hidden", type=float, default=0.0, help="weight of the residual streams' error")
    train.add_argument("--start-sparsity", type=float, default=0.3)
    train.add_argument("--anneal", type=float, default=0.2, help="share of the steps until the plan's sparsity")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--eval-every", type=int, default=100, help="steps between looks at held-out rows")
    train.add_argument("--eval-rows", type=int, default=64)
    train.add_argument("--patience", type=int, default=0, help="looks without a smaller KL until it stops; 0: never")
    train.add_argument("--compile", action="store_true", help="torch.compile the block")
    train.add_argument("--max-seconds", type=float, default=math.inf, help="stop then; go on with --resume")
    train.add_argument("--checkpoint-seconds", type=float, default=60.0)


def _generate(args: argparse.Namespace) -> None:
    model = open_model(args.model).to(torch.device(args.device))
    tokenizer = None if args.no_tokenizer else open_tokenizer(args.model)
    texts = [file.read_text() for file in args.text]
    questions = [line.strip() for file in args.questions for line in file.read_text().splitlines() if line.strip()]
    if (texts or questions) and tokenizer is None:
        raise RecoverError("--text and --questions need the tokenizer: leave out --no-tokenizer")
    temperatures = tuple(float(value) for value in args.temperatures.split(","))
    settings = Generation(args.tokens, args.length, args.batch, temperatures, args.seed)
    found = generate(model, tokenizer, texts, questions, args.train_on_text, args.out, settings, args.max_seconds)
    print(f"{found:,} tokens in {args.out}")


def _train(args: argparse.Namespace) -> None:
    with joined(args.device) as (ranks, device), redirect_stdout(sys.stdout if ranks.first else io.StringIO()):
        model = open_model(args.model).to(device)
        student = _student(model, args)
        names = Training.__dataclass_fields__
        training = Training(**{name: value for name, value in vars(args).items() if name in names})
        text = TrainingText(args.data, model.sha256, args.seed)
        folder = args.run or args.out.with_name(args.out.name + ".run")
        trainer = Trainer(student, text, training, folder, ranks)
        if args.resume:
            trainer.resume()
        why = trainer.train()
        plan = trainer.write(args.out)
        print(json.dumps(plan.record["recovery"]["held_out"], indent=1))
        if ranks.first:
            print(f"{why} at step {trainer.step:,}; {args.out} has {args.out.stat().st_size:,} bytes")


def _check(args: argparse.Namespace) -> None:
    model = open_model(args.model).to(torch.device(args.device))
    if args.plan:
        _student(model, args)
    elif "edits" in _groups(args):
        need_codes(model)


def _groups(args: argparse.Namespace) -> tuple[str, ...]:
    return tuple(part for part in args.train.split(",") if part)


def _student(model: BaseModel, args: argparse.Namespace) -> Student:
    """A student whose plan will be small enough."""
    trained = Trained(_groups(args), MOST if args.max_edits is None else args.max_edits, args.compensation_bits)
    student = make_student(model, read_plan(args.plan), trained)
    if args.max_edits is None and (share := _fitting(student, args.max_bytes)):
        student.trained = replace(trained, max_edits=share)
    _check_size(student, args.max_bytes)
    return student


def _fitting(student: Student, max_bytes: int) -> float | None:
    """The largest share of edits whose plan is small enough, up to the student's own."""
    if "edits" not in student.trained.groups:
        return None
    shares = (part / 1000 for part in range(int(student.trained.max_edits * 1000), 0, -1))
    return next((share for share in shares if _expected_bytes(student, share) <= max_bytes), None)


def _expected_bytes(student: Student, share: float) -> int:
    """Bytes of the plan if a share of the codes is chosen."""
    return plan_bytes(student.plan, student.model, replace(student.trained, max_edits=ROOM * share))


def _check_size(student: Student, max_bytes: int) -> None:
    """Says what the plan may need, and refuses where that is too much."""
    model, trained = student.model, student.trained
    size = _expected_bytes(student, trained.max_edits)
    print(f"the plan will have up to about {size:,} bytes")
    if "edits" in trained.groups:
        floats = len(model.layers) * len(model.config.matrices) - len(grids(model))
        note = f"; {floats} matrices of floats have none" if floats else ""
        print(f"edits of up to {trained.max_edits:.2%} of {count_codes(model):,} codes{note}")
    if size > max_bytes:
        share = _fitting(student, max_bytes)
        less = "" if share is None else f"--max-edits {share:.3f} fits; "
        bits = "--compensation-bits 4 makes it smaller" if trained.compensation_bits == 8 else "allow more"
        raise RecoverError(f"that is more than --max-bytes {max_bytes:,}: {less}{bits}")


def _evaluate(args: argparse.Namespace) -> None:
    device = torch.device(args.device)
    dtype = getattr(torch, args.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    model = open_model(args.model).to(device)
    variants: dict[str, Variant] = {}
    for path in args.plan:
        variants.update(_variants(model, path, dtype))
    if args.data:
        rows = TrainingText([args.data], model.sha256, 0)
        batches = iter(rows.held_out_batches(args.limit or len(rows.held_out), args.batch, device))
    else:
        # The token files of `tokens` and texts are the same thing.
        if args.tokens:
            ids, bos = read_tokens(args.tokens), model_bos(args.model)
        else:
            import numpy as np

            tokenizer = open_tokenizer(args.model)
            ids, bos = np.array(tokenizer.encode(args.text.read_text())), tokenizer.bos
        batches = text_windows(ids[: args.limit or None], bos, device, args.batch)
    dense = cast(dense_weights(model), dtype)
    found = measure(model, dense, variants, batches, dtype, block)
    for name, values in found.items():
        ratio = values["perplexity"] / found["dense"]["perplexity"]
        print(
            f"{name}: perplexity {values['perplexity']:.4f} ({ratio:.4f}x dense), KL {values['kl']:.5f}, "
            f"agreement {values['agreement']:.4f}, {values['tokens']:,} tokens"
        )
    if args.json:
        write_whole(args.json, json.dumps(found, indent=1).encode())


def _variants(model: BaseModel, path: Path, dtype: torch.dtype) -> dict[str, Variant]:
    student: Student = make_student(model, read_plan(path), Trained(()))
    weights = cast(student.weights(), dtype)
    found = {path.name: Variant(weights, student.layer_masks())}
    return found | ({f"{path.name} dense": Variant(weights)} if student.fixed else {})


def _tokens(args: argparse.Namespace) -> None:
    import numpy as np

    tokens = open_tokenizer(args.model).encode(args.text.read_text())
    np.save(args.out, np.array(tokens, np.uint32))
    print(f"{len(tokens):,} tokens in {args.out}")


def main() -> int:
    """Runs a command; 0 fine, 2 could not, 130 interrupted."""
    args = _parser().parse_args()
    try:
        commands = {"check": _check, "generate": _generate, "train": _train, "evaluate": _evaluate, "tokens": _tokens}
        commands[args.command](args)
    except RecoverError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
