#!/usr/bin/env python3
"""Checks that `fewron eval` answers as lm-evaluation-harness does, and finds texts as probable.

    fewron pull smollm2
    cargo build --release -p fewron
    python3 scripts/check_lm_eval.py [--items arc_easy=200,piqa=200,boolq=100] [--windows 40] [--keep FILE]

The harness runs its own tasks (`arc_easy`, `piqa`, `boolq`) on local files, and scores windows of
WikiText-2, with the weights of SmolLM2's Q4_1 file in f32 (`transformers`, eager attention). fewron runs
the same items on these weights in F32, and on the file itself, where it rounds the inputs of products to
8 bits. In F32, which is the same arithmetic, it fails, with exit code 1, where fewer than 98% of a task's
predictions are the same, an accuracy is more than a point off, or a perplexity more than 1%. What the file
itself gives is printed beside it and judged by nothing: it tells what rounding costs.

Packages come from `fixtures/goldens/requirements.txt` and go into `.venv`, unless the running Python
has them. The data is looked for in FEWRON_DATA, else in `../shared/data` beside the source. The harness
takes about half an hour on two cores (where others use them too, OMP_NUM_THREADS=1 helps); with `--keep`
its results are written to a file, and read from there if it exists.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "fixtures" / "goldens"
sys.path.insert(0, str(GOLDENS))

import make  # noqa: E402

# Share of a task's predictions that must be the same.
SAME_PREDICTIONS = 0.98
ACCURACY_POINTS = 1.0
PERPLEXITY_RATIO = 0.01
# Of the task `perplexity`: tokens of a window, and of them dense and not scored.
WINDOW, DENSE = 256, 32


class Harness:
    """lm-evaluation-harness on SmolLM2 in f32, loaded when it is first needed, and what it has found."""

    def __init__(self, keep):
        self.keep = keep
        self.known = json.loads(keep.read_text()) if keep and keep.exists() else {}
        self.model = None

    def found(self, key, measure):
        if key not in self.known:
            if self.model is None:
                import lm_eval_tasks
                import real_files

                file = real_files.SMOLLM2
                self.tokenizer = real_files.load_tokenizer(file)
                self.model = lm_eval_tasks.harness_model(real_files.load_model(file), self.tokenizer)
            self.known[key] = measure()
            if self.keep:
                self.keep.write_text(json.dumps(self.known))
        return self.known[key]

    def samples(self, task, items):
        from lm_eval_tasks import harness_samples

        return self.found(f"{task.name} {items}", lambda: harness_samples(self.model, task, items))

    def windows(self, file, count):
        """Log-likelihoods of the first windows' tokens behind the dense ones, and how many these are."""
        from lm_eval_tasks import harness_windows

        def measure():
            tokens = self.tokenizer(file.read_text(encoding="utf-8"), add_special_tokens=False).input_ids
            windows = [tokens[at : at + WINDOW] for at in range(0, count * WINDOW, WINDOW)]
            return harness_windows(self.model, windows, DENSE + 1), count * (WINDOW - DENSE - 1)

        return self.found(f"{file.name} {count}", measure)


class Fewron:
    def __init__(self, program):
        self.program = program

    def run(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, check=False)
        if done.returncode != 0:
            sys.exit(f"fewron {' '.join(map(str, arguments))}\n{done.stderr.decode()}")
        return done.stdout.decode()

    def outcomes(self, model, task, file, limit):
        """The dense model's outcome of each sample, by its id."""
        run = self.run("eval", model, "--task", f"{task}={file}", "--limit", limit, "--json", "-")
        samples = json.loads(run)["tasks"][0]["samples"]
        return {sample["id"]: sample["variants"][0] for sample in samples}


def share(values):
    values = list(values)
    return sum(values) / len(values)


def check_choices(name, theirs, ours):
    """One line about a task, and what is wrong with it."""
    pairs = [(sample, ours[sample["id"]]) for sample in theirs]
    same = share(a["prediction"] == b["prediction"] for a, b in pairs)
    accuracies = [share(pair[side]["correct"] for pair in pairs) for side in (0, 1)]
    off = [abs(p - q) for a, b in pairs for p, q in zip(a["logprobs"], b["logprobs"], strict=True)]
    wrong = []
    if same < SAME_PREDICTIONS:
        wrong.append(f"{same:.1%} of the predictions are the same, not {SAME_PREDICTIONS:.0%}")
    # Rounded, since a share of 200 items is no binary fraction.
    if round(100 * abs(accuracies[0] - accuracies[1]), 6) > ACCURACY_POINTS:
        wrong.append(f"accuracies are more than {ACCURACY_POINTS} point apart")
    row = f"{name:10} {len(pairs):5}  {same:7.1%}  {accuracies[0]:8.4f}  {accuracies[1]:8.4f}"
    if all("correct_norm" in a for a, _ in pairs):
        row += "".join(f"  {share(pair[side]['correct_norm'] for pair in pairs):8.4f}" for side in (0, 1))
    else:
        row += 20 * " "
    return f"{row}  {share(off):8.4f}  {max(off):8.4f}", wrong


def check_windows(theirs, ours):
    scores, tokens = theirs
    nll = [-sum(scores) / tokens, sum(window["nll"] for window in ours.values()) / tokens]
    assert sum(window["tokens"] for window in ours.values()) == tokens
    off = [abs(score + ours[str(i + 1)]["nll"]) / (tokens / len(scores)) for i, score in enumerate(scores)]
    ratio = math.exp(nll[1] - nll[0])
    wrong = []
    if abs(ratio - 1) > PERPLEXITY_RATIO:
        wrong.append(f"perplexities are more than {PERPLEXITY_RATIO:.0%} apart")
    perplexities = f"{math.exp(nll[0]):.4f}, fewron {math.exp(nll[1]):.4f} ({ratio - 1:+.3%})"
    return (
        f"wikitext2: {len(scores)} windows, {tokens} tokens, perplexity lm-eval {perplexities}; "
        f"mean log-likelihood of a window's tokens off by {share(off):.5f} on average, {max(off):.5f} at most",
        wrong,
    )


def report(dtype, row, wrong):
    """Prints a line and what is wrong with it; whether that is a failure."""
    word = "FAILED" if dtype == "f32" else "beyond the limits of F32"
    print(row + "".join(f"\n    {word}: {line}" for line in wrong), flush=True)
    return bool(wrong) and dtype == "f32"


def parse_items(text):
    pairs = (item.split("=") for item in text.split(","))
    return {name: int(count) for name, count in pairs}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", default="facts=24,arc_easy=200,piqa=200,boolq=100", type=parse_items)
    parser.add_argument("--windows", default=40, type=int)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--fewron", default=ROOT / "target/release/fewron", type=Path)
    arguments = parser.parse_args()
    lines = make.requirements(["lm_eval"])
    if not make.has_packages(lines):
        make.run_in_venv(lines, Path(__file__).resolve())
    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import lm_eval_tasks
    import real_files

    harness, fewron = Harness(arguments.keep), Fewron(arguments.fewron)
    text = lm_eval_tasks.DATA / "wikitext2_test.txt"
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "smollm2-f32.gguf"
        q4_1 = real_files.fetch(real_files.SMOLLM2)
        fewron.run("quantize", q4_1, exact, "--type", "f32")
        for dtype, model in (("f32", exact), ("q4_1", q4_1)):
            print(f"{dtype}\n{'':22}same      acc lm-eval    fewron  acc_norm    fewron    mean |Δ|   max |Δ|")
            for task_name, items in arguments.items.items():
                task = lm_eval_tasks.TASKS[task_name]
                ours = fewron.outcomes(model, task.fewron, task.file, items)
                row, wrong = check_choices(task_name, harness.samples(task, items), ours)
                failed = report(dtype, row, wrong) or failed
            if arguments.windows:
                ours = fewron.outcomes(model, "perplexity", text, arguments.windows)
                row, wrong = check_windows(harness.windows(text, arguments.windows), ours)
                failed = report(dtype, row, wrong) or failed
                print()
    sys.exit(failed)


if __name__ == "__main__":
    main()
