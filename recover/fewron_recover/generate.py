"""The model writes its own training text: batched sampling with a KV cache of fixed size."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewron_recover import openings
from fewron_recover.data import Rows, ShardWriter
from fewron_recover.evaluate import DENSE_TOKENS
from fewron_recover.model import (
    KvCache,
    Weights,
    block,
    dense_weights,
    embed,
    logits,
    norm,
    rope_table,
    window_mask,
)
from fewron_recover.source import BaseModel
from fewron_recover.tokens import TextTokenizer

PIECES = 3
"""Rows that go on from pieces of text, for each row of another kind."""


@dataclass(frozen=True)
class Generation:
    """Tokens to write in all, tokens of a row, rows at once, temperatures in turn, and the seed."""

    tokens: int
    length: int
    batch: int
    temperatures: tuple[float, ...]
    seed: int


def cast(weights: Weights, dtype: torch.dtype) -> Weights:
    """The same with matrices in another type."""

    def tensors(found: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(dtype) if value.ndim == 2 else value for name, value in found.items()}

    return Weights([tensors(layer) for layer in weights.layers], tensors(weights.outer))


class Writer:
    """A batch of texts that grow by one token a step, in a CUDA graph where there is a GPU."""

    def __init__(self, model: BaseModel, weights: Weights, batch: int, length: int, dtype: torch.dtype) -> None:
        """Room for `batch` texts of `length` tokens."""
        config, device = model.config, weights.outer["norm"].device
        self.config, self.weights, self.dtype, self.device = config, weights, dtype, device
        self.token = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.temperature = torch.ones(1, device=device)
        self.places = torch.arange(length, device=device)
        factors = weights.outer.get("rope_factors")
        self.tables = {layer: rope_table(config, layer, self.places, factors) for layer in set(config.layers)}
        shape = (batch, config.kv_heads, length, config.head_dim)
        room = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(2 * len(config.layers))]
        self.caches = [KvCache(k, v, self.position) for k, v in zip(room[0::2], room[1::2], strict=True)]
        self.drawn = torch.zeros(batch, dtype=torch.long, device=device)
        self.step: Callable[[], None] = self._captured() if device.type == "cuda" else self._step

    @torch.no_grad()
    def _step(self) -> None:
        """Appends `token` at `position` and draws what follows into `drawn`."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            x = embed(self.config, self.weights, self.token)
            visible = {layer: window_mask(layer, self.position, self.places) for layer in self.tables}
            for layer, weights, cache in zip(self.config.layers, self.weights.layers, self.caches, strict=True):
                table = self.tables[layer].index_select(1, self.position)
                x, _ = block(self.config, weights, x, table, visible[layer], cache=cache)
            scores = logits(self.weights, norm(self.config, x[:, -1], self.weights.outer, "norm"))
        # The largest of p / e with exponential e is a draw from p (Gumbel's trick).
        p = torch.softmax(scores / self.temperature, -1)
        self.drawn.copy_((p / torch.empty_like(p).exponential_()).argmax(-1))

    def _captured(self) -> Callable[[], None]:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay

    def write(self, rows: Rows, temperature: float) -> Rows:
        """Goes on from the first `rows[i, 0]` tokens of each row `rows[i, 1:]`."""
        given = torch.from_numpy(rows.astype(np.int64)).to(self.device)
        known, texts = given[:, 0], given[:, 1:]
        self.temperature.fill_(temperature)
        for place in range(texts.shape[1] - 1):
            self.token.copy_(texts[:, place : place + 1])
            self.position.fill_(place)
            self.step()
            texts[:, place + 1] = torch.where(place + 1 < known, texts[:, place + 1], self.drawn)
        written: Rows = given.cpu().numpy().astype(rows.dtype)
        return written


@dataclass(frozen=True)
class Opening:
    """What a row begins with, and how many tokens of it run dense when the row is trained on."""

    tokens: list[int]
    dense: int


class Openings:
    """What rows begin with: pieces of text, built-in openings, questions, single tokens.

    Questions are plain or chats, and of each kind given or asked by the model itself (Magpie, arXiv 2406.08464).
    """

    def __init__(
        self, model: BaseModel, tokenizer: TextTokenizer | None, texts: list[str], questions: list[str], longest: int
    ) -> None:
        """Encodes them; without a tokenizer there are single tokens alone."""
        self.vocab, self.longest = model.config.vocab, longest
        self.bos = [] if tokenizer is None or tokenizer.bos is None else [tokenizer.bos]
        self.texts: list[list[int]] = []
        self.short: list[list[list[int]]] = []
        """Those of a few words, by kind."""
        if tokenizer is None:
            return
        self.texts = [tokens for text in texts if len(tokens := tokenizer.encode(text)) > longest]
        sizes = np.array([len(text) for text in self.texts], np.float64)
        self.text_shares = sizes / sizes.sum()
        asked = [*openings.QUESTIONS, *questions]
        plain = [f"Question: {question}\nAnswer:" for question in asked]
        for kind in (openings.TEXTS, plain, [f"Question: {begun}" for begun in openings.ASKED]):
            self.short.append([(self.bos + tokenizer.encode(text))[:longest] for text in kind])
        if tokenizer.chat_template is not None:
            found = [tokenizer.chat_prefix(question) for question in asked]
            for starts in (found, [tokenizer.chat_opening()]):
                chats = [tokens for tokens in starts if 0 < len(tokens) <= longest]
                self.short += [chats] if chats else []

    @property
    def sha256(self) -> str:
        """Of all that rows may begin with, in tokens."""
        return hashlib.sha256(json.dumps([PIECES, self.bos, self.texts, self.short]).encode()).hexdigest()

    def draw(self, random: np.random.Generator) -> Opening:
        """One opening of the kinds that there are, all as often, but pieces of text `PIECES` times as often."""
        pieces = PIECES if self.texts else 0
        kind = int(random.integers(pieces + len(self.short) + 1))
        if kind < pieces:
            return self._piece(random)
        if kind == pieces + len(self.short):
            return self._token(random)
        texts = self.short[kind - pieces]
        tokens = texts[int(random.integers(len(texts)))]
        return Opening(tokens, len(tokens))

    def _token(self, random: np.random.Generator) -> Opening:
        """BOS alone where the model has one, else a random first token (LLM-QAT, arXiv 2305.17888, section 3.1)."""
        if self.bos and random.random() < 0.5:
            return Opening(self.bos, 1)
        tokens = [*self.bos, int(random.integers(self.vocab))]
        return Opening(tokens, len(tokens))

    def _piece(self, random: np.random.Generator) -> Opening:
        """A piece of text from anywhere in it, which is trained on too but for what `fewron eval` has dense."""
        text = self.texts[int(random.choice(len(self.texts), p=self.text_shares))]
        length = int(random.integers(4, self.longest - len(self.bos) + 1))
        start = int(random.integers(len(text) - length + 1))
        tokens = [*self.bos, *text[start : start + length]]
        return Opening(tokens, min(len(tokens), DENSE_TOKENS))


def _begun(openings_: Openings, random: np.random.Generator, count: int, length: int, dtype: str) -> tuple[Rows, Rows]:
    """Rows with their openings and how long these are, and how many of their tokens run dense."""
    rows: Rows = np.zeros((count, length + 1), dtype)
    dense: Rows = np.zeros(count, dtype)
    for index, row in enumerate(rows):
        opening = openings_.draw(random)
        row[0], row[1 : 1 + len(opening.tokens)] = len(opening.tokens), opening.tokens
        dense[index] = opening.dense
    return rows, dense


def generate(
    model: BaseModel,
    tokenizer: TextTokenizer | None,
    texts: list[str],
    questions: list[str],
    train_on_text: bool,
    folder: Path,
    settings: Generation,
    max_seconds: float,
) -> int:
    """Writes shards until there are enough tokens or the time is over; returns the tokens that there are.

    The end of a text is a token like others: rows go on behind it, as the model does.
    """
    began = time.monotonic()
    device = model.outer["norm"].dense().device
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    kind = "uint16" if model.config.vocab <= 1 << 16 else "uint32"
    source = Openings(model, tokenizer, texts, questions, settings.length // 2)
    about = {"model_sha256": model.sha256, "dtype": kind, "openings_sha256": source.sha256, "text": train_on_text}
    shards = ShardWriter(folder, about | vars(settings) | {"temperatures": list(settings.temperatures)})
    if train_on_text and not shards.shards and tokenizer is not None:
        shards.add(_text_rows(tokenizer, texts, settings.length, kind), kind="text")
    writer = Writer(model, cast(dense_weights(model), dtype), settings.batch, settings.length, dtype)
    while shards.rows * settings.length < settings.tokens and time.monotonic() - began < max_seconds:
        index = len(shards.shards)
        temperature = settings.temperatures[index % len(settings.temperatures)]
        random = np.random.default_rng([settings.seed, index])
        torch.manual_seed(settings.seed * 1_000_003 + index)
        begun, dense = _begun(source, random, settings.batch, settings.length, kind)
        rows = writer.write(begun, temperature)
        rows[:, 0] = dense
        shards.add(rows, kind="generated", temperature=temperature)
        tokens, wall_s = shards.rows * settings.length, time.monotonic() - began
        print(f"{tokens:,} tokens, {len(rows) * settings.length * (index + 1) / wall_s:,.0f} tok/s", flush=True)
    return shards.rows * settings.length


def _text_rows(tokenizer: TextTokenizer, texts: list[str], length: int, dtype: str) -> Rows:
    """Windows of the text itself, whose first tokens are dense as those of `fewron eval` are."""
    bos = [] if tokenizer.bos is None else [tokenizer.bos]
    room = length - len(bos)
    tokens = tokenizer.encode("\n\n".join(texts))
    starts = range(0, len(tokens) - room + 1, room)
    rows = [[min(DENSE_TOKENS, length // 2), *bos, *tokens[start : start + room]] for start in starts]
    return np.array(rows, dtype).reshape(-1, length + 1)
