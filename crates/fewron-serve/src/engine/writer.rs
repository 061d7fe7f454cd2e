//! Tokens to text, up to a stop text.

use fewron_model::tokenizer::{Decoder, Tokenizer};

/// Turns the tokens of an answer into text and looks for stop texts. Text is held back while it may be the
/// beginning of one.
pub(super) struct Writer<'t> {
    decoder: Decoder<'t>,
    stop: Vec<String>,
    held: String,
}

/// What a token gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Text that is certain now.
    pub(super) text: String,
    /// Whether a stop text has come: the answer ends before it.
    pub(super) stopped: bool,
}

impl<'t> Writer<'t> {
    /// A writer that stops before any of these texts; empty ones stop nothing.
    pub(super) fn new(tokenizer: &'t Tokenizer, stop: &[String]) -> Self {
        let stop = stop.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { decoder: tokenizer.decoder(true), stop, held: String::new() }
    }

    /// Takes the next token.
    pub(super) fn push(&mut self, token: u32) -> Written {
        let text = self.decoder.push(token);
        self.held.push_str(&text);
        self.release()
    }

    /// Ends the text: what is held back can no longer become a stop text, but what the decoder held back
    /// may still complete one.
    pub(super) fn finish(mut self) -> String {
        self.held.push_str(&self.decoder.finish());
        match find(&self.held, &self.stop) {
            Some(at) => self.held[..at].to_owned(),
            None => self.held,
        }
    }

    fn release(&mut self) -> Written {
        if let Some(at) = find(&self.held, &self.stop) {
            let text = self.held[..at].to_owned();
            self.held.clear();
            return Written { text, stopped: true };
        }
        let keep = self.stop.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Written { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }
}

/// Where the first of the stop texts begins.
fn find(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

/// Length of the longest end of `text` that is a beginning of `stop`, but not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    let fits = |&len: &usize| text.as_bytes().ends_with(&stop.as_bytes()[..len]);
    // Both are UTF-8, so an end that equals a beginning of whole characters is one too; `stop` may be cut
    // inside a character, which no end of `text` can equal.
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_may_become_a_stop_are_found() {
        assert_eq!(overlap("one two", "two three"), 3);
        assert_eq!(overlap("aaa", "aab"), 2);
        assert_eq!(overlap("abc", "xyz"), 0);
        assert_eq!(overlap("", "x"), 0);
        assert_eq!(overlap("stop", "stop"), 0);
        assert_eq!(overlap("über ü", "üx"), 2);
        assert_eq!(overlap("日本", "本日"), 3);
    }

    #[test]
    fn the_earliest_stop_counts() {
        let stop = ["b".to_owned(), "ab".to_owned()];
        assert_eq!(find("xxab", &stop), Some(2));
        assert_eq!(find("xxa", &stop), None);
    }
}
