//! Log-probabilities as OpenAI's API tells them.

use fewron_model::tokenizer::{TokenType, Tokenizer};

use crate::engine::ChosenToken;
use crate::openai::{ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob, TopLogprobs};

/// What stands for the logarithm of 0, which JSON does not have.
const LOG_OF_ZERO: f32 = -9999.0;

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LOG_OF_ZERO }
}

/// A token as text; one that is part of a character as its bytes, `bytes:\xe2\x82`.
fn show(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8(tokenizer.token_bytes(id)).unwrap_or_else(|error| {
        let hex = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}"));
        format!("bytes:{}", hex.collect::<String>())
    })
}

/// Log-probabilities of tokens of a conversation's answer.
pub(super) fn of_chat(tokenizer: &Tokenizer, tokens: &[ChosenToken]) -> ChatLogprobs {
    let top = |&(id, logprob): &(u32, f32)| TopLogprob {
        id,
        token: show(tokenizer, id),
        logprob: finite(logprob),
        bytes: tokenizer.token_bytes(id),
    };
    let token = |token: &ChosenToken| TokenLogprob {
        id: token.id,
        token: show(tokenizer, token.id),
        logprob: finite(token.logprob.unwrap_or(f32::NEG_INFINITY)),
        bytes: tokenizer.token_bytes(token.id),
        top_logprobs: token.top.iter().map(top).collect(),
    };
    ChatLogprobs { content: tokens.iter().map(token).collect(), refusal: () }
}

/// Counts the characters of a text along its tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Offset {
    chars: usize,
}

impl Offset {
    /// Behind a text.
    pub(super) fn behind(text: &str) -> Self {
        Self { chars: text.chars().count() }
    }

    /// Adds tokens of a prompt, of which the first `silent` are no part of its text.
    pub(super) fn add_prompt(
        &mut self,
        tokenizer: &Tokenizer,
        tokens: &[ChosenToken],
        silent: usize,
        logprobs: &mut CompletionLogprobs,
    ) {
        for (at, token) in tokens.iter().enumerate() {
            push(tokenizer, token, self.chars, logprobs);
            self.chars += match at {
                at if at < silent => 0,
                // The space that some tokenizers put before a text is no part of it.
                at if at == silent => tokenizer.decode(&[token.id], false).chars().count(),
                _ => chars(tokenizer, token.id),
            };
        }
    }

    /// Adds tokens of an answer, whose control tokens are no part of its text.
    pub(super) fn add_answer(
        &mut self,
        tokenizer: &Tokenizer,
        tokens: &[ChosenToken],
        logprobs: &mut CompletionLogprobs,
    ) {
        for token in tokens {
            push(tokenizer, token, self.chars, logprobs);
            if tokenizer.token_type(token.id) != Some(TokenType::Control) {
                self.chars += chars(tokenizer, token.id);
            }
        }
    }
}

/// Characters that start in a token.
fn chars(tokenizer: &Tokenizer, id: u32) -> usize {
    tokenizer.token_bytes(id).iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

fn push(tokenizer: &Tokenizer, token: &ChosenToken, offset: usize, to: &mut CompletionLogprobs) {
    to.tokens.push(show(tokenizer, token.id));
    to.token_logprobs.push(token.logprob.map(finite));
    to.top_logprobs.push(token.logprob.map(|logprob| top(tokenizer, token, logprob)));
    to.text_offset.push(offset);
}

/// The likeliest tokens, and the token itself; of those with the same text the likeliest.
fn top(tokenizer: &Tokenizer, token: &ChosenToken, logprob: f32) -> TopLogprobs {
    let mut list: Vec<(String, f32)> = Vec::with_capacity(token.top.len() + 1);
    for &(id, logprob) in token.top.iter().chain([&(token.id, logprob)]) {
        let text = show(tokenizer, id);
        if list.iter().all(|(known, _)| *known != text) {
            list.push((text, finite(logprob)));
        }
    }
    TopLogprobs(list)
}
