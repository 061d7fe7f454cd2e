"""The server with lm-evaluation-harness, which asks it for tokens and log-probabilities, offline."""

import os
import tempfile
import unittest
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("HF_HOME", tempfile.mkdtemp())

import lm_eval
import openai
from lm_eval.tasks import TaskManager

from server import NAME, Server

DATA = Path(__file__).parent / "data"


def tasks(folder):
    """The tasks with the place of their data."""
    for file in DATA.glob("*.yaml"):
        text = file.read_text().replace("DATA", str(DATA / "questions.jsonl"))
        (Path(folder) / file.name).write_text(text)
    return TaskManager(include_path=folder, include_defaults=False)


class LmEval(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.folder = tempfile.TemporaryDirectory()
        cls.manager = tasks(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()
        cls.server.__exit__(None)

    def run_task(self, task, variant="dense", batch=1, concurrent=1):
        arguments = {
            "model": f"{NAME}:{variant}",
            "base_url": f"{self.server.url}/v1/completions",
            "tokenizer_backend": "remote",
            "num_concurrent": concurrent,
            "max_retries": 1,
        }
        return lm_eval.simple_evaluate(
            model="local-completions",
            model_args=arguments,
            tasks=[task],
            task_manager=self.manager,
            batch_size=batch,
            bootstrap_iters=0,
            log_samples=True,
        )

    def answers(self, **settings):
        samples = self.run_task("fewron_choose", **settings)["samples"]["fewron_choose"]
        samples.sort(key=lambda sample: sample["doc_id"])
        return [[tuple(answer[0]) for answer in sample["resps"]] for sample in samples]

    def test_choices(self):
        one = self.answers()
        self.assertEqual(self.answers(batch=4), one)
        self.assertEqual(self.answers(batch=2, concurrent=4), one)
        # The likelihood of a choice is the one that a client of the API finds by itself.
        with openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="none") as client:
            reply = client.completions.create(
                model=f"{NAME}:dense", prompt="The capital of France is Paris", max_tokens=1,
                logprobs=1, echo=True, temperature=0,
            )
        logprobs = reply.choices[0].logprobs
        at = logprobs.tokens.index(" Paris")
        found = float(one[0][0][0])
        self.assertAlmostEqual(found, sum(logprobs.token_logprobs[at:-1]), places=4)

    def test_accuracy(self):
        results = self.run_task("fewron_choose")["results"]["fewron_choose"]
        # Six questions that a child can answer.
        self.assertGreaterEqual(results["acc,none"], 0.5)

    def test_written_answers(self):
        samples = self.run_task("fewron_write", concurrent=3)["samples"]["fewron_write"]
        for sample in samples:
            text = sample["resps"][0][0]
            self.assertNotIn("\n", text)
            self.assertNotIn(".", text)


if __name__ == "__main__":
    unittest.main()
