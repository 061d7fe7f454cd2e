"""What the rows of training text begin with."""

from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from fewron_recover import openings
from fewron_recover.generate import Openings
from fewron_recover.source import BaseModel
from fewron_recover.tokens import TextTokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<says>{% endif %}"
)
TEXT = "Rivers run from hills to seas. " * 20
LONGEST = 64


def letters(template: str | None) -> TextTokenizer:
    """A tokenizer whose tokens are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return TextTokenizer(tokenizer, None, template, {})


def drawn(model: BaseModel, tokenizer: TextTokenizer, texts: list[str], count: int = 4000) -> Counter[str]:
    """How often rows begin with each kind."""
    source, random = Openings(model, tokenizer, texts, ["Why?"], LONGEST), np.random.default_rng(0)
    kinds: Counter[str] = Counter()
    plain = {f"Question: {begun}" for begun in openings.ASKED}
    for _ in range(count):
        opening = source.draw(random)
        text = "".join(tokenizer.tokenizer.id_to_token(token) or "" for token in opening.tokens).replace("Ġ", " ")
        assert 0 < opening.dense <= len(opening.tokens) <= LONGEST
        if len(opening.tokens) == 1:
            kinds["token"] += 1
        elif text in plain:
            kinds["asked"] += 1
        elif text.startswith("Question:"):
            kinds["plain"] += 1
        elif text == "<user>":
            kinds["asked chat"] += 1
        elif text.startswith("<user>"):
            assert text.endswith("<says>")
            kinds["chat"] += 1
        else:
            kinds["piece" if text in TEXT else "opening"] += 1
    return kinds


def test_rows_begin_in_all_ways(tiny_model: BaseModel) -> None:
    kinds = drawn(tiny_model, letters(TEMPLATE), [TEXT])
    assert kinds.pop("piece") / 4000 == pytest.approx(3 / 9, abs=0.03)
    assert set(kinds) == {"opening", "plain", "asked", "chat", "asked chat", "token"}
    for count in kinds.values():
        assert count / 4000 == pytest.approx(1 / 9, abs=0.03)


def test_rows_without_texts_and_template(tiny_model: BaseModel) -> None:
    kinds = drawn(tiny_model, letters(None), [])
    assert set(kinds) == {"opening", "plain", "asked", "token"}


def test_questions_follow_their_opening() -> None:
    tokenizer = letters(TEMPLATE)
    opening, chat = tokenizer.chat_opening(), tokenizer.chat_prefix("Why?")
    assert chat[: len(opening)] == opening
    assert chat[len(opening) :] == tokenizer.encode("Why?<says>")


def test_openings_have_a_hash_of_all_they_are(tiny_model: BaseModel) -> None:
    first, same, other = (
        Openings(tiny_model, letters(template), [TEXT], ["Why?"], LONGEST) for template in (TEMPLATE, TEMPLATE, None)
    )
    assert first.sha256 == same.sha256 != other.sha256
