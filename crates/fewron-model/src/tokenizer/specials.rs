//! Finding control and user-defined tokens in text.

use std::collections::HashMap;

use super::Specials;
use super::vocab::{TokenType, Vocab};

/// A stretch of text between special tokens, or one of them.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'t> {
    Text(&'t str),
    Token(u32),
}

/// Matches whole-string tokens in text, leftmost first and longest among those, as the `tokenizers`
/// crate matches added tokens.
#[derive(Debug)]
pub(super) struct SpecialMatcher {
    by_text: HashMap<Box<[u8]>, (u32, bool)>,
    /// Lengths in bytes of the texts that start with a byte, longest first.
    lens: Vec<Vec<usize>>,
    /// Tokens that take the white space before or after them along.
    strips: HashMap<u32, (bool, bool)>,
}

impl SpecialMatcher {
    /// `also` are further spellings of user-defined tokens.
    pub(super) fn new(vocab: &Vocab, ends: &[u32], also: &[(String, u32)]) -> Self {
        let mut matcher = SpecialMatcher {
            by_text: HashMap::new(),
            lens: vec![Vec::new(); 256],
            strips: HashMap::new(),
        };
        for (id, text, ty) in vocab.iter() {
            let control = matches!(ty, TokenType::Control | TokenType::Unknown);
            if control || ty == TokenType::UserDefined {
                matcher.add(text, id, control || ends.binary_search(&id).is_ok());
            }
        }
        for (text, id) in also {
            matcher.add(text, *id, false);
        }
        for lens in &mut matcher.lens {
            lens.sort_unstable_by(|a, b| b.cmp(a));
            lens.dedup();
        }
        matcher
    }

    fn add(&mut self, text: &str, id: u32, control: bool) {
        let Some(&first) = text.as_bytes().first() else { return };
        self.lens[usize::from(first)].push(text.len());
        self.by_text.insert(text.as_bytes().into(), (id, control));
    }

    /// Has a token take white space before or after it along.
    pub(super) fn strip(&mut self, id: u32, before: bool, after: bool) {
        if before || after {
            self.strips.insert(id, (before, after));
        }
    }

    /// The longest token whose text starts at byte `at`, among those that `wanted(is_control)`.
    fn token_at(
        &self,
        text: &[u8],
        at: usize,
        wanted: impl Fn(bool) -> bool,
    ) -> Option<(u32, usize)> {
        self.lens[usize::from(text[at])].iter().find_map(|&len| {
            let (id, control) = *self.by_text.get(text.get(at..at + len)?)?;
            wanted(control).then_some((id, len))
        })
    }

    /// Cuts `text` at the tokens that `specials` lets through.
    pub(super) fn split<'t>(&self, text: &'t str, specials: Specials) -> Vec<Piece<'t>> {
        let bytes = text.as_bytes();
        let mut pieces = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < bytes.len() {
            let Some((id, len)) =
                self.token_at(bytes, at, |control| !control || specials == Specials::Parse)
            else {
                at += 1;
                continue;
            };
            // A UTF-8 string matches only from one character boundary to another.
            let (before, after) = self.strips.get(&id).copied().unwrap_or_default();
            let piece = &text[start..at];
            let piece = if before { piece.trim_end() } else { piece };
            if !piece.is_empty() {
                pieces.push(Piece::Text(piece));
            }
            pieces.push(Piece::Token(id));
            at += len;
            if after {
                at = text.len() - text[at..].trim_start().len();
            }
            start = at;
        }
        if start < bytes.len() {
            pieces.push(Piece::Text(&text[start..]));
        }
        pieces
    }

    /// Byte positions at which the text of a control token starts, overlapping ones too.
    pub(super) fn control_starts(&self, text: &str) -> Vec<usize> {
        let bytes = text.as_bytes();
        (0..bytes.len())
            .filter(|&at| self.token_at(bytes, at, |control| control).is_some())
            .collect()
    }
}
