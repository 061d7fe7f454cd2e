//! Building the BPE model of the `tokenizers` crate from a byte-level vocabulary.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab as BpeVocab};

use crate::gguf::{Array, Value};

use super::error::TokenizerError;
use super::vocab::{TokenType, Vocab};

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
    BpeBuilder::new()
        .vocab_and_merges(words, rules)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(|e| TokenizerError::Refused(e.to_string()))
}

/// Splits `left right`; a token may itself start with a space.
fn split_rule(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?.len_utf8();
    let at = first + text[first..].find(' ')?;
    Some((&text[..at], &text[at + 1..])).filter(|(_, right)| !right.is_empty())
}
