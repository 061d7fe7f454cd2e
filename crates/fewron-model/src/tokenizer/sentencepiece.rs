//! SentencePiece BPE: merges follow from the scores of the vocabulary.
//!
//! Two neighbours merge when their joined text is a piece. The piece with the highest score goes
//! first; among equals the pair with the longer left part, then the longer right part (the order in
//! which `transformers` lists the merges of these vocabularies), then the leftmost. Keeping scores
//! instead of a merge table saves half a million strings for a vocabulary of Gemma's size.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use super::bytes;
use super::vocab::{TokenType, Vocab};

/// What white space is written as.
pub(super) const SPACE: char = '▁';

/// Spaces as SentencePiece writes them; GGUF files keep user-defined tokens with plain spaces.
pub(super) fn normalize_spaces(text: &str) -> String {
    text.replace(' ', "▁")
}

/// A token that text can become. Control tokens are none, so no text merges into one.
#[derive(Clone, Copy, Debug)]
struct Piece {
    id: u32,
    /// User-defined pieces go before all others.
    whole: bool,
    score: f32,
}

/// The merging half of a SentencePiece tokenizer.
#[derive(Debug)]
pub(super) struct SentencePiece {
    pieces: HashMap<Box<str>, Piece>,
    /// The tokens of single bytes, for characters that are no piece.
    bytes: Vec<Option<u32>>,
    unk: Option<u32>,
}

impl SentencePiece {
    /// `scores` has an entry for every token.
    pub(super) fn new(vocab: &Vocab, scores: &[f32], unk: Option<u32>) -> Self {
        let mut pieces = HashMap::with_capacity(vocab.len());
        let mut byte_ids = vec![None; 256];
        for ((id, text, ty), &score) in vocab.iter().zip(scores) {
            match ty {
                TokenType::Normal | TokenType::UserDefined => {
                    let whole = ty == TokenType::UserDefined;
                    pieces.insert(normalize_spaces(text).into(), Piece { id, whole, score });
                }
                TokenType::Byte => {
                    if let Some(byte) = bytes::byte_token(text) {
                        byte_ids[usize::from(byte)] = Some(id);
                    }
                }
                _ => {}
            }
        }
        SentencePiece { pieces, bytes: byte_ids, unk }
    }

    /// Appends the tokens of `text`, in which spaces are already `▁`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut word = Word::new(self, text);
        word.merge_all();
        let mut after_unk = false;
        for symbol in word.symbols.iter().filter(|s| s.chars > 0) {
            after_unk = match symbol.id {
                Some(id) => {
                    out.push(id);
                    false
                }
                None => self.push_bytes(&text[symbol.start..symbol.end], after_unk, out),
            };
        }
    }

    /// Appends the byte tokens of a character, or the unknown token unless one is there already;
    /// returns whether it was unknown. Without an unknown token the character is dropped.
    fn push_bytes(&self, character: &str, after_unk: bool, out: &mut Vec<u32>) -> bool {
        let ids: Option<Vec<u32>> = character.bytes().map(|b| self.bytes[usize::from(b)]).collect();
        let unknown = ids.is_none();
        match ids {
            Some(ids) => out.extend(ids),
            None => out.extend(self.unk.filter(|_| !after_unk)),
        }
        unknown
    }
}

/// A run of text that is one token so far.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: usize,
    end: usize,
    /// Characters in it; 0 once merged into its left neighbour.
    chars: usize,
    /// `None` for a character that is no piece.
    id: Option<u32>,
    prev: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that may merge; the greatest goes first.
#[derive(Clone, Copy, Debug)]
struct Merge {
    piece: Piece,
    left: usize,
    right: usize,
    left_chars: usize,
    right_chars: usize,
}

impl Ord for Merge {
    fn cmp(&self, other: &Self) -> Ordering {
        self.piece
            .whole
            .cmp(&other.piece.whole)
            .then(self.piece.score.total_cmp(&other.piece.score))
            .then(self.left_chars.cmp(&other.left_chars))
            .then(self.right_chars.cmp(&other.right_chars))
            .then(Reverse(self.piece.id).cmp(&Reverse(other.piece.id)))
            .then(Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl PartialOrd for Merge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Merge {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Merge {}

/// A text on its way from characters to tokens.
struct Word<'a> {
    model: &'a SentencePiece,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Merge>,
}

impl<'a> Word<'a> {
    fn new(model: &'a SentencePiece, text: &'a str) -> Self {
        let count = text.chars().count();
        let symbols = text
            .char_indices()
            .enumerate()
            .map(|(at, (start, c))| {
                let end = start + c.len_utf8();
                let id = model.pieces.get(&text[start..end]).map(|p| p.id);
                let (prev, next) = (at.checked_sub(1), Some(at + 1).filter(|&n| n < count));
                Symbol { start, end, chars: 1, id, prev, next }
            })
            .collect();
        Word { model, text, symbols, queue: BinaryHeap::new() }
    }

    fn merge_all(&mut self) {
        for at in 1..self.symbols.len() {
            self.offer(Some(at - 1), Some(at));
        }
        while let Some(merge) = self.queue.pop() {
            self.apply(&merge);
        }
    }

    /// Queues the merge of two neighbours, if there is one.
    fn offer(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (a, b) = (self.symbols[left], self.symbols[right]);
        if a.id.is_none() || b.id.is_none() {
            return;
        }
        if let Some(&piece) = self.model.pieces.get(&self.text[a.start..b.end]) {
            let (left_chars, right_chars) = (a.chars, b.chars);
            self.queue.push(Merge { piece, left, right, left_chars, right_chars });
        }
    }

    fn apply(&mut self, merge: &Merge) {
        let (a, b) = (self.symbols[merge.left], self.symbols[merge.right]);
        // Either side may have merged with another neighbour meanwhile.
        if a.chars != merge.left_chars || b.chars != merge.right_chars {
            return;
        }
        self.symbols[merge.right].chars = 0;
        let id = Some(merge.piece.id);
        self.symbols[merge.left] =
            Symbol { end: b.end, chars: a.chars + b.chars, id, next: b.next, ..a };
        if let Some(next) = b.next {
            self.symbols[next].prev = Some(merge.left);
        }
        self.offer(a.prev, Some(merge.left));
        self.offer(Some(merge.left), b.next);
    }
}
