"""Makes bleu.json: pairs with their sentence BLEU from sacreBLEU, the independent implementation.

    python -m venv .venv && .venv/bin/pip install sacrebleu==2.6.0
    .venv/bin/python crates/fewron-eval/tests/data/make_bleu.py
"""

import json
import pathlib
import random

import sacrebleu

HAND = [
    ("", ""),
    ("", "The cat sat on the mat."),
    ("The cat sat on the mat.", ""),
    ("   ", "word"),
    ("word", "word"),
    ("word", "Word"),
    ("two words", "two words"),
    ("one two three", "one two three"),
    ("The cat sat on the mat.", "The cat sat on the mat."),
    ("The cat sat on the mat.", "The cat is on the mat."),
    ("the the the the the the the", "the cat is on the mat"),
    ("on the mat sat the cat", "the cat sat on the mat"),
    ("It is.", "It is a long sentence that says far more than the short one."),
    ("A long answer that goes on and on and never stops to breathe.", "A short answer."),
    ("Costs $1,234.56 or 1.234,56 EUR.", "Costs $1,234.56 or 1.234,56 EUR!"),
    ("In 1990-95, about 3.5% (or 4-5%) left.", "In 1990-1995 about 3.5 % left."),
    ("pi is 3.14159, roughly 22/7", "pi is 3.14, roughly 22/7."),
    ("Version 1.2.3-rc.4 is out...", "Version 1.2.3 is out."),
    ("5-7-9", "5 - 7 - 9"),
    ("-5 degrees, -40F", "-5 degrees, -40 F"),
    ("e.g. this, i.e. that", "e.g., this; i.e., that"),
    ("&quot;Hello&quot; &amp; welcome", "\"Hello\" & welcome"),
    ("a &lt; b &amp;&amp; b &gt; c", "a < b && b > c"),
    ("&amp;lt; twice", "< twice"),
    ("&nbsp; stays &#39;as&#39; it is", "stays 'as' it is"),
    ("line one\nline two", "line one line two"),
    ("hyphen-\nated word", "hyphenated word"),
    ("trailing newline\n", "trailing newline"),
    ("tabs\tand\u00a0no-break\u2003spaces", "tabs and no-break spaces"),
    ("sep\x1carated \x1fwords", "sep arated words"),
    ("<skipped> words <skipped>", "words"),
    ("don't can't won't", "don't can't will not"),
    ("'quoted' “curly” ‘single’", "'quoted' \"curly\" 'single'"),
    ("Ärger über Öl, naïve café", "Ärger über Öl, naive café"),
    ("Привет, мир! Как дела?", "Привет мир. Как дела?"),
    ("你好,世界。", "你好,世界。"),
    ("日本語 の 文 です 。", "日本語 の 文 です 。 はい"),
    ("emoji 😀 and 👩‍🔬 here", "emoji 😀 and 👩‍🔬 there"),
    ("a١.٢ b", "a١.٢ c"),
    ("{braces} [brackets] `ticks` ~tilde| ^hat_ \\back", "{braces} [brackets] ticks tilde hat back"),
    ("mail me@example.org, see https://example.org/a?b=c#d", "mail me@example.org see https://example.org/a"),
    ("!!!???...,,,", "!?.,"),
    ("x=1+2*3;y=4", "x = 1 + 2 * 3 ; y = 4"),
]

WORDS = (
    "the a small large river stone light people often water can be found near old city and in "
    "of is are 12 3.5 1,000 because , . ; : ( ) don't well-known 20-30"
).split()


def random_pairs(count, seed):
    """References of random words, hypotheses with words dropped, replaced and swapped."""
    rng = random.Random(seed)
    for _ in range(count):
        reference = [rng.choice(WORDS) for _ in range(rng.randint(1, 40))]
        hypothesis = []
        for word in reference:
            roll = rng.random()
            if roll < 0.1:
                continue
            hypothesis.append(rng.choice(WORDS) if roll < 0.3 else word)
        if len(hypothesis) > 4 and rng.random() < 0.5:
            i, j = rng.sample(range(len(hypothesis)), 2)
            hypothesis[i], hypothesis[j] = hypothesis[j], hypothesis[i]
        yield " ".join(hypothesis), " ".join(reference)


def main():
    pairs = [
        {
            "hypothesis": hypothesis,
            "reference": reference,
            "score": sacrebleu.sentence_bleu(hypothesis, [reference]).score,
        }
        for hypothesis, reference in [*HAND, *random_pairs(24, seed=7)]
    ]
    golden = {"sacrebleu": sacrebleu.__version__, "pairs": pairs}
    path = pathlib.Path(__file__).with_name("bleu.json")
    path.write_text(json.dumps(golden, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
