"""Text to tokens, by the tokenizer inside a GGUF file or a Hugging Face directory."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from fewron_recover.errors import RecoverError
from fewron_recover.gguf import Gguf

_NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 3, 4, 6
"""`tokenizer.ggml.token_type`."""

_MARK = "⟦question⟧"
"""Stands for the question where what comes before it is looked for."""

_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)" + _WORDS % r"\p{N}{1,3}"
_GPT2, _SMOLLM, _LLAMA = "gpt-2", "smollm", "llama-bpe"
_SPLITS = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r"), _SMOLLM),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "smaug-bpe"), _LLAMA),
}
"""How text is cut into words, by `tokenizer.ggml.pre`."""


@dataclass
class TextTokenizer:
    """A tokenizer, the token that texts begin with if there is one, and the chat template."""

    tokenizer: Tokenizer
    bos: int | None
    chat_template: str | None
    special: dict[str, str]

    def encode(self, text: str, specials: bool = False) -> list[int]:
        """Without BOS. Control tokens written in the text are text, unless `specials` says otherwise."""
        self.tokenizer.encode_special_tokens = not specials
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def chat_prefix(self, question: str) -> list[int]:
        """What stands before the answer to a question, with the template's own BOS."""
        return self.encode(self._chat(question), True)

    def chat_opening(self) -> list[int]:
        """What stands before a question, with the template's own BOS."""
        return self.encode(self._chat(_MARK).partition(_MARK)[0], True)

    def _chat(self, question: str) -> str:
        if self.chat_template is None:
            raise RecoverError("the model has no chat template")
        template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(self.chat_template)
        messages = [{"role": "user", "content": question}]
        return template.render(messages=messages, add_generation_prompt=True, **self.special)


def open_tokenizer(path: Path) -> TextTokenizer:
    """The tokenizer of a model."""
    return _from_directory(path) if path.is_dir() else _from_gguf(Gguf(path).metadata, path)


def model_bos(path: Path) -> int | None:
    """The token that texts begin with, without building the tokenizer of a GGUF file."""
    return open_tokenizer(path).bos if path.is_dir() else _gguf_bos(Gguf(path).metadata)


def read_tokens(path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Token ids that were made elsewhere: a one-dimensional `.npy` file of whole numbers."""
    tokens = np.load(path, allow_pickle=False)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise RecoverError(f"{path} holds {tokens.dtype} {tokens.shape}, not a row of token ids")
    ids: np.ndarray[Any, np.dtype[np.int64]] = tokens.astype(np.int64)
    return ids


def _from_directory(path: Path) -> TextTokenizer:
    file = path / "tokenizer.json"
    if not file.exists():
        raise RecoverError(f"{path} has no tokenizer.json; carry tokens with --tokens FILE.npy instead")
    tokenizer = Tokenizer.from_file(str(file))
    prefix = tokenizer.encode("").ids
    settings_file = path / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text()) if settings_file.exists() else {}
    separate = path / "chat_template.jinja"
    template = separate.read_text() if separate.exists() else settings.get("chat_template")
    special = {
        name: value["content"] if isinstance(value, dict) else value
        for name in ("bos_token", "eos_token")
        if (value := settings.get(name))
    }
    return TextTokenizer(tokenizer, prefix[0] if prefix else None, template, special)


def _gguf_bos(metadata: dict[str, Any]) -> int | None:
    split = _SPLITS.get(metadata.get("tokenizer.ggml.pre", ""))
    default = metadata.get("tokenizer.ggml.model") == "llama" or split == _LLAMA
    if not metadata.get("tokenizer.ggml.add_bos_token", default):
        return None
    bos: int | None = metadata.get("tokenizer.ggml.bos_token_id")
    return bos


def _from_gguf(metadata: dict[str, Any], path: Path) -> TextTokenizer:
    model, tokens = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.tokens")
    if model not in ("gpt2", "llama") or tokens is None:
        raise RecoverError(f"{path} has a tokenizer of the kind {model!r}; carry tokens with --tokens FILE.npy instead")
    kinds = metadata.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
    tokenizer = _byte_level(metadata, tokens, path) if model == "gpt2" else _sentencepiece(metadata, tokens, kinds)
    for kind, special in ((_USER_DEFINED, False), (_CONTROL, True)):
        added = [
            AddedToken(t, special=special, normalized=False) for t, k in zip(tokens, kinds, strict=True) if k == kind
        ]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)
    special_tokens = {
        f"{name}_token": tokens[metadata[f"tokenizer.ggml.{name}_token_id"]]
        for name in ("bos", "eos")
        if f"tokenizer.ggml.{name}_token_id" in metadata
    }
    template = metadata.get("tokenizer.chat_template")
    return TextTokenizer(tokenizer, _gguf_bos(metadata), template, special_tokens)


def _byte_level(metadata: dict[str, Any], tokens: list[str], path: Path) -> Tokenizer:
    name = metadata.get("tokenizer.ggml.pre", "")
    if name not in _SPLITS:
        raise RecoverError(f"{path} cuts words as {name!r}; known are {', '.join(_SPLITS)}: carry tokens with --tokens")
    split = _SPLITS[name]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=split == _LLAMA))
    first: list[pre_tokenizers.PreTokenizer] = []
    if split == _SMOLLM:
        first = [pre_tokenizers.Digits(individual_digits=True)]
    elif split == _LLAMA:
        first = [pre_tokenizers.Split(Regex(_LLAMA3), "isolated")]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split != _LLAMA)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*first, last])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(metadata: dict[str, Any], tokens: list[str], kinds: list[int]) -> Tokenizer:
    """Merges follow from scores: `SentencePieceExtractor` of transformers (`convert_slow_tokenizer.py`)."""
    scores = metadata["tokenizer.ggml.scores"]
    vocab = {token: index for index, token in enumerate(tokens)}
    pieces = {t for t, kind in zip(tokens, kinds, strict=True) if kind in (_NORMAL, _USER_DEFINED)}
    found = []
    for piece in pieces:
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in pieces and right in pieces:
                found.append((-scores[vocab[piece]], -len(left), -len(right), vocab[piece], left, right))
    found.sort()
    unknown = tokens[metadata.get("tokenizer.ggml.unknown_token_id", 0)]
    merges = [(left, right) for *_, left, right in found]
    byte_fallback = _BYTE in kinds
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=byte_fallback))
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", "▁")]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend("▁"))
    tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer
