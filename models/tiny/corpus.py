"""The corpus as tokens: a byte-level BPE, documents in rows of one context each, a held-out part."""

import json
import random
from pathlib import Path

import torch
from families import CONTEXT, VOCABULARY, Special
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

TOKENIZER_DOCUMENTS = 40_000
HELD_OUT = 0.01
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ 'Answer: ' + message['content'] + eos_token }}"
    "{% else %}{{ 'Question: ' + message['content'] + '\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)


def read_documents(path: Path) -> tuple[list[str], list[str]]:
    """The training texts and the held-out ones, in one fixed random order."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    texts = [
        f"Question: {entry['question']}\nAnswer: {entry['text']}" if entry["question"] else entry["text"]
        for entry in entries
    ]
    random.Random(0).shuffle(texts)
    held_out = max(1, round(len(texts) * HELD_OUT))
    return texts[held_out:], texts[:held_out]


def train_tokenizer(texts: list[str], special: Special) -> Tokenizer:
    """A byte-level BPE of `VOCABULARY` tokens, the special ones first; digits stand alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special.tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts[:TOKENIZER_DOCUMENTS], trainer)
    if special.add_bos:
        bos = special.tokens[special.bos]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, special.bos)]
        )
    return tokenizer


def rows(texts: list[str], tokenizer: Tokenizer, special: Special) -> Tensor:
    """i16 [rows, CONTEXT + 1]: each row starts with a document; the last one of a row is cut."""
    filled: list[list[int]] = []
    row: list[int] = []
    for encoding in tokenizer.encode_batch_fast(texts):
        row += [*encoding.ids, special.eos]
        if len(row) > CONTEXT:
            filled.append(row[: CONTEXT + 1])
            row = []
    return torch.tensor(filled, dtype=torch.int16)
