//! Pre-tokenizers of byte-level BPE: cutting text into the words that merges never cross.
//!
//! The published patterns end in `\s+(?!\S)|\s+`: a run of white space before a word leaves its last
//! character to the word. Here the run is matched by a plain `\s+` and shortened afterwards, so that
//! the patterns need no look-ahead and run in linear time on any input.

use std::sync::LazyLock;

use regex::Regex;

/// GPT-2 (`encoder.py`).
static GPT2: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"));

/// Llama 3 (`tokenizer.json` of `meta-llama/Meta-Llama-3-8B`).
static LLAMA3: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    ))
});

/// Qwen2 (`tokenizer.json` of `Qwen/Qwen2-0.5B`).
static QWEN2: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    ))
});

#[allow(clippy::expect_used)]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are constants that the tests compile")
}

/// How byte-level BPE cuts text into words (`tokenizer.ggml.pre`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PreTokenizer {
    /// GPT-2, Phi, OLMo.
    Gpt2,
    /// SmolLM, StarCoder: every digit alone, then GPT-2.
    Smollm,
    /// Qwen2 to Qwen3.
    Qwen2,
    /// Llama 3.
    Llama3,
}

impl PreTokenizer {
    const NAMES: [(&str, PreTokenizer); 14] = [
        ("gpt-2", PreTokenizer::Gpt2),
        ("phi-2", PreTokenizer::Gpt2),
        ("mpt", PreTokenizer::Gpt2),
        ("olmo", PreTokenizer::Gpt2),
        ("smollm", PreTokenizer::Smollm),
        ("starcoder", PreTokenizer::Smollm),
        ("refact", PreTokenizer::Smollm),
        ("command-r", PreTokenizer::Smollm),
        ("qwen2", PreTokenizer::Qwen2),
        ("deepseek-r1-qwen", PreTokenizer::Qwen2),
        ("llama-bpe", PreTokenizer::Llama3),
        ("llama3", PreTokenizer::Llama3),
        ("llama-v3", PreTokenizer::Llama3),
        ("smaug-bpe", PreTokenizer::Llama3),
    ];

    /// The split that `tokenizer.ggml.pre` names.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, pre)| *pre)
    }

    /// The name of the split by a pattern as it is published, with `\s+(?!\S)` before the last `\s+`.
    pub(super) fn name_of_pattern(published: &str) -> Option<&'static str> {
        let known = [("gpt-2", &GPT2), ("qwen2", &QWEN2), ("llama-bpe", &LLAMA3)];
        let plain = published.strip_suffix(r"|\s+(?!\S)|\s+")?;
        known
            .into_iter()
            .find(|(_, r)| r.as_str().strip_suffix(r"|\s+") == Some(plain))
            .map(|k| k.0)
    }

    /// The names known, for messages.
    pub(super) fn known() -> String {
        Self::NAMES.map(|(name, _)| name).join(", ")
    }

    /// Whether a word that is itself a token is taken whole, without merging.
    pub(super) fn ignores_merges(self) -> bool {
        self == PreTokenizer::Llama3
    }

    /// Whether a prompt starts with BOS when the file does not say.
    pub(super) fn adds_bos(self) -> bool {
        self == PreTokenizer::Llama3
    }

    /// Calls `word` with the words of `text` in order; together they are the text.
    pub(super) fn split(self, text: &str, word: &mut impl FnMut(&str)) {
        match self {
            PreTokenizer::Gpt2 => split_words(&GPT2, false, text, word),
            PreTokenizer::Qwen2 => split_words(&QWEN2, true, text, word),
            PreTokenizer::Llama3 => split_words(&LLAMA3, true, text, word),
            PreTokenizer::Smollm => split_digits(text, word),
        }
    }
}

fn split_digits(text: &str, word: &mut impl FnMut(&str)) {
    for part in text.split_inclusive(char::is_numeric) {
        let digit = part.chars().next_back().filter(|c| c.is_numeric());
        let (words, digit) = part.split_at(part.len() - digit.map_or(0, char::len_utf8));
        split_words(&GPT2, false, words, word);
        split_words(&GPT2, false, digit, word);
    }
}

/// `line_breaks`: the pattern has `\s*[\r\n]+`, which takes white space up to a line break whole.
fn split_words(regex: &Regex, line_breaks: bool, text: &str, word: &mut impl FnMut(&str)) {
    let mut at = 0;
    while at < text.len() {
        // Every character is white space, a letter, a digit or none of these: a match starts here.
        let found = regex.find_at(text, at).map_or(text.len(), |m| m.end());
        let end = shorten_space(text, at, found, line_breaks);
        word(&text[at..end]);
        at = end;
    }
}

/// Applies `\s+(?!\S)`: a run of white space before more text gives back its last character, unless
/// it is the only one.
fn shorten_space(text: &str, start: usize, end: usize, line_breaks: bool) -> usize {
    let run = &text[start..end];
    let Some(last) = run.chars().next_back() else { return end };
    if end == text.len() || !run.chars().all(char::is_whitespace) {
        return end;
    }
    let cut = end - last.len_utf8();
    let kept_whole = line_breaks && matches!(last, '\r' | '\n');
    if cut == start || kept_whole { end } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(pre: PreTokenizer, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        pre.split(text, &mut |word| out.push(word.to_string()));
        out
    }

    #[test]
    fn cuts_as_the_published_patterns_do() {
        let text = "I'll  see\n\n  a1234 DON'T\t";
        assert_eq!(
            words(PreTokenizer::Gpt2, text),
            ["I", "'ll", " ", " see", "\n\n ", " a", "1234", " DON", "'", "T", "\t"]
        );
        assert_eq!(
            words(PreTokenizer::Llama3, text),
            ["I", "'ll", " ", " see", "\n\n", " ", " a", "123", "4", " DON", "'T", "\t"]
        );
        assert_eq!(words(PreTokenizer::Qwen2, "x12"), ["x", "1", "2"]);
        assert_eq!(words(PreTokenizer::Smollm, "x  12 y"), ["x", "  ", "1", "2", " y"]);
    }

    proptest::proptest! {
        #[test]
        fn words_join_to_the_text(text in "[ \\t\\r\\na1'sé!①\u{3000}]{0,40}") {
            for (_, pre) in PreTokenizer::NAMES {
                proptest::prop_assert_eq!(words(pre, &text).concat(), text.clone());
            }
        }
    }
}
