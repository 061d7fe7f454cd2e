//! SentencePiece tokenizers: scores from the order of the merges.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::{Export, TokenType, TokenizerError, bytes, kind, parts, refuse, shown};
use crate::gguf::Field;

impl Export {
    pub(super) fn sentencepiece(&mut self) -> Result<(), TokenizerError> {
        let model = &self.file.model;
        let all_bytes = (0..=255).all(|byte| model.vocab.contains_key(&bytes::byte_text(byte)));
        if !model.byte_fallback || !all_bytes {
            return Err(refuse("has no tokens for all bytes (byte_fallback)"));
        }
        if model.ignore_merges
            || model.continuing_subword_prefix.is_some()
            || model.end_of_word_suffix.is_some()
        {
            return Err(refuse("has ignore_merges or marks the parts of words"));
        }
        let space_prefix = self.space_prefix()?;
        let scores = self.scores()?;
        self.set("model", Field::Str("llama".into()));
        self.set("pre", Field::Str("default".into()));
        self.set("scores", Field::F32s(scores));
        self.set("add_space_prefix", Field::Bool(space_prefix));
        Ok(())
    }

    /// Whether texts get a space at their start, from the normalizer and the pre-tokenizer.
    fn space_prefix(&mut self) -> Result<bool, TokenizerError> {
        let normalizer = self.normalizer()?;
        let mut prepends = false;
        let mut replaces = false;
        for part in parts(&normalizer, "normalizers").into_iter().filter(|part| !part.is_null()) {
            let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
            match kind(part) {
                "Prepend" if part["prepend"] == "▁" => prepends = true,
                "Replace" if *part == replace => replaces = true,
                _ => return Err(refuse(format!("has the normalizer {}", shown(part)))),
            }
        }
        let pre_tokenizer = self.file.pre_tokenizer.clone().unwrap_or_default();
        for part in
            parts(&pre_tokenizer, "pretokenizers").into_iter().filter(|part| !part.is_null())
        {
            // A split at spaces finds none after the normalizer has replaced them.
            let at_spaces = kind(part) == "Split" && part["pattern"] == json!({"String": " "});
            if at_spaces && replaces {
                continue;
            }
            let whole = part.get("split").and_then(Value::as_bool) == Some(false);
            if kind(part) != "Metaspace" || part["replacement"] != "▁" || !whole {
                return Err(refuse(format!("has the pre-tokenizer {}", shown(part))));
            }
            replaces = true;
            let scheme = part.get("prepend_scheme").and_then(Value::as_str).unwrap_or("always");
            if scheme != "never" && part.get("add_prefix_space") != Some(&Value::Bool(false)) {
                prepends = true;
                self.notes.push(format!(
                    "the tokenizer puts a space before a text that has none ({scheme}): readers of \
                     GGUF files put one before every text, and after special tokens"
                ));
            }
        }
        if !replaces {
            return Err(refuse("does not write spaces as ▁"));
        }
        Ok(prepends)
    }

    /// Scores that give the merges of `tokenizer.json` in their order.
    ///
    /// With scores a piece is made of any two pieces that join to it, with one rank for all of them.
    /// The merges must be those, which they are where SentencePiece made the vocabulary.
    fn scores(&self) -> Result<Vec<f32>, TokenizerError> {
        let merges = self.file.model.merges.iter().filter_map(|merge| merge.0.as_ref());
        let merges: Vec<_> = merges.collect();
        let mut ranks: HashMap<String, usize> = HashMap::new();
        let mut listed: HashSet<(&str, &str)> = HashSet::with_capacity(merges.len());
        let mut last = String::new();
        for (left, right) in &merges {
            let piece = [left.as_str(), right].concat();
            if piece != last && ranks.contains_key(&piece) {
                return Err(not_pieces(left, right, "come after those of other tokens"));
            }
            let rank = ranks.len();
            ranks.entry(piece.clone()).or_insert(rank);
            listed.insert((left, right));
            last = piece;
        }
        let mut pieces = HashSet::new();
        for (_, text, ty) in self.tokenizer.vocab.iter() {
            if matches!(ty, TokenType::Normal | TokenType::UserDefined) {
                pieces.insert(text);
            }
        }
        for (_, text, ty) in self.tokenizer.vocab.iter() {
            let splits = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
            let unlisted = |pair: &(&str, &str)| {
                pieces.contains(pair.0) && pieces.contains(pair.1) && !listed.contains(pair)
            };
            if ty == TokenType::Normal
                && let Some((left, right)) = splits.into_iter().find(unlisted)
            {
                return Err(not_pieces(left, right, "are no merge, although they join to a token"));
            }
        }
        let mut next = ranks.len();
        let Some((_, Field::Strs(texts))) =
            self.fields.iter().find(|(key, _)| key == "tokenizer.ggml.tokens")
        else {
            unreachable!("tokens are written first");
        };
        let score = |(id, _): (usize, &String)| {
            let id = id as u32;
            let ty = self.tokenizer.vocab.token_type(id).unwrap_or(TokenType::Unused);
            match (ty, self.tokenizer.vocab.text(id)) {
                (TokenType::Normal | TokenType::UserDefined, Some(text)) => {
                    let rank = ranks.get(text).copied().unwrap_or_else(|| {
                        next += 1;
                        next - 1
                    });
                    -(rank as f32)
                }
                (TokenType::Unused, _) => -10_000_000.0,
                _ => 0.0,
            }
        };
        Ok(texts.iter().enumerate().map(score).collect())
    }
}

fn not_pieces(left: &str, right: &str, problem: &str) -> TokenizerError {
    refuse(format!(
        "has merges that no scores give: {left:?} and {right:?} {problem}, so the vocabulary is not \
         SentencePiece's"
    ))
}
