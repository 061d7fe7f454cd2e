//! The vocabulary of a model: token texts, their types, and the ids with a meaning.

use crate::gguf::{Array, Metadata};

use super::error::TokenizerError;

/// What a token is (`enum llama_token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// A piece of text.
    Normal,
    /// Stands for text outside the vocabulary.
    Unknown,
    /// Steers the model (`<|im_end|>`, `<bos>`); never text of a user.
    Control,
    /// A whole string that is never split (`\n\n`, `<table>`).
    UserDefined,
    /// Not in use.
    Unused,
    /// One byte, `<0x0A>` (SentencePiece).
    Byte,
}

impl TokenType {
    fn from_ggml(id: i32) -> Option<Self> {
        Some(match id {
            1 => TokenType::Normal,
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => return None,
        })
    }

    /// The number in GGUF files.
    pub(super) fn ggml_id(self) -> i32 {
        match self {
            TokenType::Normal => 1,
            TokenType::Unknown => 2,
            TokenType::Control => 3,
            TokenType::UserDefined => 4,
            TokenType::Unused => 5,
            TokenType::Byte => 6,
        }
    }
}

/// Token texts in one buffer, with their types.
#[derive(Debug)]
pub(super) struct Vocab {
    texts: String,
    ends: Vec<usize>,
    types: Vec<TokenType>,
}

impl Vocab {
    pub(super) fn from_metadata(meta: Metadata<'_>) -> Result<Self, TokenizerError> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        const TYPES: &str = "tokenizer.ggml.token_type";
        let tokens: Vec<&str> =
            meta.get(TOKENS)?.ok_or(TokenizerError::MissingVocabulary { key: TOKENS })?;
        let types: Option<Vec<i32>> = meta.get(TYPES)?;
        let types = match types {
            None => vec![TokenType::Normal; tokens.len()],
            Some(ids) => ids
                .into_iter()
                .enumerate()
                .map(|(id, found)| {
                    TokenType::from_ggml(found).ok_or(TokenizerError::BadTokenType { id, found })
                })
                .collect::<Result<_, _>>()?,
        };
        check_len(TYPES, tokens.len(), types.len())?;
        if tokens.is_empty() {
            return Err(TokenizerError::MissingVocabulary { key: TOKENS });
        }
        Ok(Vocab::from_tokens(tokens.into_iter().zip(types)))
    }

    /// Tokens in the order of their ids.
    pub(super) fn from_tokens<'a>(tokens: impl Iterator<Item = (&'a str, TokenType)>) -> Self {
        let mut vocab = Vocab { texts: String::new(), ends: Vec::new(), types: Vec::new() };
        for (text, ty) in tokens {
            vocab.texts.push_str(text);
            vocab.ends.push(vocab.texts.len());
            vocab.types.push(ty);
        }
        vocab
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        let at = id as usize;
        let end = *self.ends.get(at)?;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        Some(&self.texts[start..end])
    }

    pub(super) fn token_type(&self, id: u32) -> Option<TokenType> {
        self.types.get(id as usize).copied()
    }

    /// Every token: id, text, type.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenType)> {
        (0..self.len() as u32).filter_map(|id| Some((id, self.text(id)?, self.token_type(id)?)))
    }
}

fn check_len(key: &'static str, expected: usize, found: usize) -> Result<(), TokenizerError> {
    if expected == found {
        return Ok(());
    }
    Err(TokenizerError::LengthMismatch { key, expected, found })
}

/// Scores of the tokens (SentencePiece).
pub(super) fn scores(meta: Metadata<'_>, len: usize) -> Result<Vec<f32>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores: Vec<f32> = meta.get(KEY)?.ok_or(TokenizerError::MissingVocabulary { key: KEY })?;
    check_len(KEY, len, scores.len())?;
    Ok(scores)
}

/// Merge rules of a byte-level BPE.
pub(super) fn merges(meta: Metadata<'_>) -> Result<Array<'_>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.merges";
    meta.get(KEY)?.ok_or(TokenizerError::MissingVocabulary { key: KEY })
}

/// Texts that end a turn or a text, as llama.cpp collects them (`special_eog_ids`).
const END_TEXTS: [&str; 14] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<|end_of_text|>",
    "<eos>",
];

/// Texts that end a turn, the preferred first.
const TURN_TEXTS: [&str; 6] =
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<EOT>", "<|endoftext|>"];

/// Ids with a meaning.
#[derive(Clone, Debug, Default)]
pub(super) struct SpecialIds {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) unk: Option<u32>,
    /// Sorted.
    pub(super) ends: Vec<u32>,
}

impl SpecialIds {
    pub(super) fn from_metadata(meta: Metadata<'_>, vocab: &Vocab) -> Result<Self, TokenizerError> {
        let read = |name: &str| special_id(meta, vocab, name);
        let ids = SpecialIds {
            bos: read("bos")?,
            eos: read("eos")?,
            eot: read("eot")?,
            unk: read("unknown")?,
            ends: Vec::new(),
        };
        let ends = [ids.eos, ids.eot, read("eom")?];
        Ok(ids.complete(vocab, ends.into_iter().flatten()))
    }

    /// Adds the control tokens that end a text or turn by their names.
    pub(super) fn complete(self, vocab: &Vocab, ends: impl Iterator<Item = u32>) -> Self {
        let mut ids = self;
        ids.ends.extend(ends);
        let controls = || vocab.iter().filter(|(_, _, ty)| *ty == TokenType::Control);
        ids.ends.extend(controls().filter(|(_, t, _)| END_TEXTS.contains(t)).map(|(id, _, _)| id));
        ids.ends.sort_unstable();
        ids.ends.dedup();
        if ids.eot.is_none() {
            ids.eot = controls()
                .filter_map(|(id, t, _)| Some((TURN_TEXTS.iter().position(|x| *x == t)?, id)))
                .min()
                .map(|(_, id)| id);
        }
        ids
    }

    /// The ends that follow from EOS, end of turn and the names of control tokens.
    pub(super) fn known_ends(&self, vocab: &Vocab) -> Vec<u32> {
        let named = [self.eos, self.eot].into_iter().flatten();
        SpecialIds { ends: Vec::new(), ..self.clone() }.complete(vocab, named).ends
    }
}

fn special_id(
    meta: Metadata<'_>,
    vocab: &Vocab,
    name: &str,
) -> Result<Option<u32>, TokenizerError> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    // Converters write -1, or its unsigned form, for "none".
    let Some(value) = meta.value(&key)? else { return Ok(None) };
    if matches!(value.as_integer(), Some(-1 | 0xffff_ffff)) {
        return Ok(None);
    }
    match meta.get::<u32>(&key)? {
        Some(id) if id as usize >= vocab.len() => {
            Err(TokenizerError::BadId { key, id, last: vocab.len() - 1 })
        }
        id => Ok(id),
    }
}
