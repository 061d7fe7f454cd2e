//! Requests and replies of the tokenizer, and of re-arming.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ChatMessage;

/// Text to tokens: a prompt, or a conversation through the chat template.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokenize {
    /// Not looked at, there is one tokenizer.
    #[serde(default, rename = "model")]
    pub(crate) _model: Option<String>,
    /// A text; control tokens in it are text.
    pub(crate) prompt: Option<String>,
    /// A conversation.
    pub(crate) messages: Option<Vec<ChatMessage>>,
    /// Whether a prompt starts with BOS where the model's file asks for it (default true).
    pub(crate) add_special_tokens: Option<bool>,
    /// Whether a conversation ends where the answer starts (default true).
    pub(crate) add_generation_prompt: Option<bool>,
}

/// Tokens of a text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TokenizeReply {
    /// The tokens.
    pub(crate) tokens: Vec<u32>,
    /// How many they are.
    pub(crate) count: usize,
    /// Tokens of the context.
    pub(crate) max_model_len: usize,
}

/// Tokens to text.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Detokenize {
    /// Not looked at, there is one tokenizer.
    #[serde(default, rename = "model")]
    pub(crate) _model: Option<String>,
    /// The tokens.
    pub(crate) tokens: Vec<u32>,
}

/// Text of tokens, control tokens included.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DetokenizeReply {
    /// The text.
    pub(crate) prompt: String,
}

/// What the tokenizer is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TokenizerInfo {
    /// Its kind in words.
    pub(crate) tokenizer_class: String,
    /// Number of tokens.
    pub(crate) vocab_size: usize,
    /// Tokens of the context.
    pub(crate) model_max_length: usize,
    /// Text of the beginning-of-text token.
    pub(crate) bos_token: Option<String>,
    /// Text of the end-of-text token.
    pub(crate) eos_token: Option<String>,
    /// Text of the end-of-turn token.
    pub(crate) eot_token: Option<String>,
    /// Number of the beginning-of-text token.
    pub(crate) bos_token_id: Option<u32>,
    /// Number of the end-of-text token.
    pub(crate) eos_token_id: Option<u32>,
    /// Whether text prompts start with BOS.
    pub(crate) add_bos_token: bool,
    /// Whether there is a chat template.
    pub(crate) has_chat_template: bool,
}

/// A variant that is to run sparse again.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rearm {
    /// Its name, without the model's.
    pub(crate) variant: String,
}
