//! The tokenizer: what lm-evaluation-harness and others ask a server for.

use axum::extract::State;
use fewron_model::tokenizer::Specials;

use super::app::App;
use super::error::{ApiError, ErrorBody};
use super::json::Json;
use super::{Shared, prompts};
use crate::openai::{
    ChatMessage, Detokenize, DetokenizeReply, Tokenize, TokenizeReply, TokenizerInfo, conversation,
};

/// Text, or a conversation, to tokens.
#[utoipa::path(
    post, path = "/tokenize", tag = "Tokenizer", request_body = Tokenize,
    responses((status = 200, body = TokenizeReply), (status = "4XX", body = ErrorBody))
)]
pub(super) async fn tokenize(
    State(app): State<Shared>,
    Json(request): Json<Tokenize>,
) -> Result<Json<TokenizeReply>, ApiError> {
    let specials = request.add_special_tokens.unwrap_or(true);
    let tokens = match (request.prompt, request.messages) {
        (Some(text), None) => of_text(&app, text, specials).await?,
        (None, Some(messages)) => {
            of_messages(&app, &messages, request.add_generation_prompt.unwrap_or(true)).await?
        }
        _ => {
            let message = "give either prompt or messages";
            return Err(ApiError::parameter("prompt", message));
        }
    };
    let max_model_len = app.engine.model().config().context;
    Ok(Json(TokenizeReply { count: tokens.len(), tokens, max_model_len }))
}

async fn of_text(app: &Shared, text: String, specials: bool) -> Result<Vec<u32>, ApiError> {
    let encode = move |app: &App| {
        let tokenizer = app.engine.tokenizer();
        if specials {
            tokenizer.encode_prompt(&text)
        } else {
            tokenizer.encode(&text, Specials::Plain)
        }
    };
    app.beside(encode).await
}

async fn of_messages(
    app: &Shared,
    messages: &[ChatMessage],
    add_generation_prompt: bool,
) -> Result<Vec<u32>, ApiError> {
    prompts::chat_tokens(app, conversation(messages)?, add_generation_prompt).await
}

/// Tokens to text.
#[utoipa::path(
    post, path = "/detokenize", tag = "Tokenizer", request_body = Detokenize,
    responses((status = 200, body = DetokenizeReply), (status = "4XX", body = ErrorBody))
)]
pub(super) async fn detokenize(
    State(app): State<Shared>,
    Json(request): Json<Detokenize>,
) -> Result<Json<DetokenizeReply>, ApiError> {
    let tokenizer = app.engine.tokenizer();
    let vocab = tokenizer.vocab_size();
    if let Some(token) = request.tokens.iter().find(|&&token| token as usize >= vocab) {
        let message = format!("token {token} is outside the vocabulary of {vocab}");
        return Err(ApiError::parameter("tokens", message));
    }
    let prompt =
        app.beside(move |app| app.engine.tokenizer().decode(&request.tokens, false)).await?;
    Ok(Json(DetokenizeReply { prompt }))
}

/// What the tokenizer is.
#[utoipa::path(
    get, path = "/tokenizer_info", tag = "Tokenizer",
    responses((status = 200, body = TokenizerInfo))
)]
pub(super) async fn info(State(app): State<Shared>) -> Json<TokenizerInfo> {
    let tokenizer = app.engine.tokenizer();
    let text = |id: Option<u32>| Some(tokenizer.token_text(id?)?.to_owned());
    let (bos, eos) = (tokenizer.bos(), tokenizer.eos());
    Json(TokenizerInfo {
        tokenizer_class: tokenizer.kind(),
        vocab_size: tokenizer.vocab_size(),
        model_max_length: app.engine.model().config().context,
        bos_token: text(bos),
        eos_token: text(eos),
        eot_token: text(tokenizer.eot()),
        bos_token_id: bos,
        eos_token_id: eos,
        add_bos_token: tokenizer.add_bos(),
        has_chat_template: app.chat.template.is_some(),
    })
}
