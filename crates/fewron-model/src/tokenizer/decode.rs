//! Turning a stream of tokens into text as it comes.

use super::Tokenizer;

/// Decodes token by token and holds back bytes until they are whole characters.
///
/// The pieces joined are the text of all tokens; a sequence of bytes that can no longer become a
/// character turns into U+FFFD, as in [`String::from_utf8_lossy`].
#[derive(Debug)]
pub struct Decoder<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    pending: Vec<u8>,
}

impl<'t> Decoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        Decoder { tokenizer, skip_special, pending: Vec::new() }
    }

    /// Takes the next token and returns the text that is now certain, often a word, sometimes
    /// nothing.
    pub fn push(&mut self, id: u32) -> String {
        self.tokenizer.append_bytes(id, self.skip_special, &mut self.pending);
        let mut out = String::new();
        let keep = take_whole_characters(&self.pending, &mut out);
        self.pending.drain(..self.pending.len() - keep);
        out
    }

    /// Ends the text: what is held back can no longer become a character.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Appends what is decided of `bytes` to `out`; returns the length of the undecided rest.
fn take_whole_characters(mut bytes: &[u8], out: &mut String) -> usize {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                out.push_str(text);
                return 0;
            }
            Err(e) => {
                let (valid, rest) = bytes.split_at(e.valid_up_to());
                out.push_str(&String::from_utf8_lossy(valid));
                let Some(wrong) = e.error_len() else { return rest.len() };
                out.push(char::REPLACEMENT_CHARACTER);
                bytes = &rest[wrong..];
            }
        }
    }
}
