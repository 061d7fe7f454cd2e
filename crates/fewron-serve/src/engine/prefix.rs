//! Prompts that were read, kept for those that begin alike.

use fewron_model::KvCache;

/// Shortest beginning that is worth a place.
const SHORTEST: usize = 16;

/// Texts that were read dense, with their keys and values.
///
/// What runs dense is the same whoever asks (a token's result depends on its past alone, to the last bit), so
/// a text that begins as another one takes over its keys and values; their pages are shared.
#[derive(Default)]
pub(super) struct PrefixCache {
    entries: Vec<Entry>,
    clock: u64,
}

struct Entry {
    tokens: Vec<u32>,
    text: KvCache,
    used: u64,
}

/// Tokens that two texts have in common at their beginning.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl PrefixCache {
    /// The longest known beginning of `tokens`, at most `most` of them.
    pub(super) fn find(&mut self, tokens: &[u32], most: usize) -> Option<KvCache> {
        let tokens = &tokens[..most.min(tokens.len())];
        let lengths = self.entries.iter().map(|entry| common(&entry.tokens, tokens));
        let (length, index) = lengths.zip(0..).max()?;
        if length < SHORTEST {
            return None;
        }
        self.clock += 1;
        let entry: &mut Entry = &mut self.entries[index];
        entry.used = self.clock;
        let mut text = entry.text.clone();
        text.truncate(length);
        Some(text)
    }

    /// Keeps a text whose first tokens, these, were read dense.
    pub(super) fn keep(&mut self, tokens: &[u32], text: &KvCache) {
        let known = |entry: &Entry| common(&entry.tokens, tokens) == tokens.len();
        if tokens.len() < SHORTEST || self.entries.iter().any(known) {
            return;
        }
        self.entries.retain(|entry| common(&entry.tokens, tokens) < entry.tokens.len());
        let mut text = text.clone();
        text.truncate(tokens.len());
        self.clock += 1;
        self.entries.push(Entry { tokens: tokens.to_vec(), text, used: self.clock });
    }

    /// Bytes, were no pages shared.
    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.text.bytes_of(entry.tokens.len())).sum()
    }

    /// Forgets what was not used for the longest time until at most so many bytes are left.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let mut held = self.bytes();
        while held > bytes {
            let oldest = (0..self.entries.len()).min_by_key(|&index| self.entries[index].used);
            let Some(oldest) = oldest else { return };
            let gone = self.entries.swap_remove(oldest);
            held -= gone.text.bytes_of(gone.tokens.len());
        }
    }
}
