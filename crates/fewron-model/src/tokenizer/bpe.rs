//! Building the BPE model of the `tokenizers` crate from a GGUF vocabulary.

use std::cmp::Reverse;
use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab as BpeVocab};

use crate::gguf::{Array, Value};

use super::error::TokenizerError;
use super::vocab::{TokenType, Vocab};

/// What white space is written as in SentencePiece vocabularies.
pub(super) const SPACE: char = '▁';

/// A byte-level BPE with the explicit merge rules of the file.
///
/// Control tokens stay out of the model, so that no text merges into one.
pub(super) fn byte_level(
    vocab: &Vocab,
    merges: &Array<'_>,
    ignore_merges: bool,
) -> Result<BPE, TokenizerError> {
    let ids: HashMap<&str, (u32, TokenType)> =
        vocab.iter().map(|(id, text, ty)| (text, (id, ty))).collect();
    let mut rules = Vec::with_capacity(merges.len());
    for (at, value) in merges.iter().enumerate() {
        let text = if let Value::Str(text) = value { text } else { "" };
        let fail = |problem| TokenizerError::BadMerge { at, text: text.to_string(), problem };
        let (left, right) = split_rule(text).ok_or_else(|| fail("not two tokens"))?;
        let parts = [left, right, &[left, right].concat()].map(|part| ids.get(part));
        let [Some(a), Some(b), Some(c)] = parts else {
            return Err(fail("it names a token that is not in tokenizer.ggml.tokens"));
        };
        if [a, b, c].iter().all(|(_, ty)| *ty == TokenType::Normal) {
            rules.push((left.to_string(), right.to_string()));
        }
    }
    let words: BpeVocab = ids
        .iter()
        .filter(|(_, (_, ty))| *ty == TokenType::Normal)
        .map(|(text, (id, _))| (text.to_string(), *id))
        .collect();
    build(BpeBuilder::new().vocab_and_merges(words, rules).ignore_merges(ignore_merges))
}

/// Splits `left right`; a token may itself start with a space.
fn split_rule(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?.len_utf8();
    let at = first + text[first..].find(' ')?;
    Some((&text[..at], &text[at + 1..])).filter(|(_, right)| !right.is_empty())
}

/// A SentencePiece BPE: every pair of tokens whose joined text is a token is a merge, ranked by the
/// score of that token, then by longer left and right parts (as `transformers` ranks them).
pub(super) fn sentencepiece(
    vocab: &Vocab,
    scores: &[f32],
    unk: Option<u32>,
) -> Result<BPE, TokenizerError> {
    let mut words: HashMap<String, u32> = HashMap::with_capacity(vocab.len());
    let mut mergeable: Vec<(&str, u32, bool)> = Vec::with_capacity(vocab.len());
    for (id, text, ty) in vocab.iter() {
        match ty {
            TokenType::Normal => mergeable.push((text, id, false)),
            TokenType::UserDefined => mergeable.push((text, id, true)),
            TokenType::Byte => drop(words.insert(text.to_string(), id)),
            _ => {}
        }
    }
    let pieces: HashMap<String, (u32, bool)> =
        mergeable.iter().map(|(text, id, whole)| (normalize_spaces(text), (*id, *whole))).collect();
    let mut rules: Vec<_> = pieces
        .iter()
        .flat_map(|(text, (id, whole))| {
            let rank = (Reverse(*whole), Reverse(Score(scores[*id as usize])));
            text.char_indices().skip(1).map(move |(at, _)| (rank, *id, text.split_at(at)))
        })
        .filter(|(_, _, (left, right))| pieces.contains_key(*left) && pieces.contains_key(*right))
        .map(|(rank, id, parts)| {
            let (left, right) = (parts.0.chars().count(), parts.1.chars().count());
            (rank, Reverse(left), Reverse(right), id, parts)
        })
        .collect();
    rules.sort_unstable();
    let rules =
        rules.into_iter().map(|(_, _, _, _, (l, r))| (l.to_string(), r.to_string())).collect();
    words.extend(pieces.iter().map(|(text, (id, _))| (text.clone(), *id)));
    let mut builder = BpeBuilder::new().byte_fallback(true).fuse_unk(true);
    if let Some((id, text)) = unk.and_then(|id| Some((id, vocab.text(id)?))) {
        words.insert(text.to_string(), id);
        builder = builder.unk_token(text.to_string());
    }
    build(builder.vocab_and_merges(words.into_iter().collect::<BpeVocab>(), rules))
}

/// Spaces as SentencePiece writes them; GGUF files keep user-defined tokens with plain spaces.
pub(super) fn normalize_spaces(text: &str) -> String {
    text.replace(' ', "▁")
}

fn build(builder: BpeBuilder) -> Result<BPE, TokenizerError> {
    builder.build().map_err(|e| TokenizerError::Refused(e.to_string()))
}

/// A float with a total order.
#[derive(Clone, Copy, PartialEq)]
struct Score(f32);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
