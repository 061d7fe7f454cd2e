//! Prompts to tokens.

use fewron_model::chat::Message;
use fewron_model::tokenizer::Tokenizer;
use std::sync::Arc;

use super::Shared;
use super::app::App;
use super::error::ApiError;
use crate::openai::Prompt;

/// Bytes of text that one token is taken to stand for at most: longer texts cannot fit the context, and
/// are refused before they cost the time to make tokens of them.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// A prompt as the engine reads it.
pub(super) struct Encoded {
    pub(super) tokens: Vec<u32>,
    /// What an echo says.
    pub(super) text: String,
    /// Tokens at the start that are no part of that text: BOS, which the tokenizer adds.
    pub(super) silent: usize,
}

/// The tokens of a conversation, up to where the answer starts.
///
/// # Errors
/// When there is no chat template, or it refuses the messages.
pub(super) async fn of_chat(app: &Shared, messages: Vec<Message>) -> Result<Vec<u32>, ApiError> {
    check_length(app, messages.iter().map(|message| message.content.len()).sum(), "messages")?;
    chat_tokens(app, messages, true).await
}

/// The tokens of a conversation of any length.
///
/// # Errors
/// As [`of_chat`].
pub(super) async fn chat_tokens(
    app: &Shared,
    messages: Vec<Message>,
    add_generation_prompt: bool,
) -> Result<Vec<u32>, ApiError> {
    let template = app.chat.template()?;
    if app.config.log_prompts {
        tracing::info!(?messages, "conversation");
    }
    let ids =
        move |app: &App| template.ids(app.engine.tokenizer(), &messages, add_generation_prompt);
    let tokens = app.beside(ids).await?;
    tokens.map_err(|error| ApiError::parameter("messages", error.to_string()))
}

/// The tokens of the prompts of a completion.
///
/// # Errors
/// When a text is too long for the context.
pub(super) async fn of_completion(
    app: &Shared,
    prompts: Vec<Prompt>,
) -> Result<Vec<Encoded>, ApiError> {
    if app.config.log_prompts {
        tracing::info!(?prompts, "prompts");
    }
    for prompt in &prompts {
        if let Prompt::Text(text) = prompt {
            check_length(app, text.len(), "prompt")?;
        }
    }
    app.beside(|app| encode_all(app.engine.tokenizer(), prompts)).await
}

fn encode_all(tokenizer: &Tokenizer, prompts: Vec<Prompt>) -> Vec<Encoded> {
    let encode = |prompt| match prompt {
        Prompt::Text(text) => {
            let tokens = tokenizer.encode_prompt(&text);
            Encoded { silent: usize::from(tokenizer.add_bos()), tokens, text }
        }
        Prompt::Tokens(tokens) => {
            Encoded { text: tokenizer.decode(&tokens, false), silent: 0, tokens }
        }
    };
    prompts.into_iter().map(encode).collect()
}

fn check_length(app: &Arc<App>, bytes: usize, param: &str) -> Result<(), ApiError> {
    let context = app.engine.model().config().context;
    if bytes <= context.saturating_mul(MAX_BYTES_PER_TOKEN) {
        return Ok(());
    }
    let message = format!(
        "this model's maximum context length is {context} tokens. However, your {param} has {bytes} bytes, \
         which are more"
    );
    Err(ApiError::invalid(message).param(param).code("context_length_exceeded"))
}
