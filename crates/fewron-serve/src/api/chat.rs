//! `/v1/chat/completions`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

use super::answers::{Answers, Collected, Whole, reason};
use super::error::{ApiError, ErrorBody};
use super::json::Json;
use super::logprobs;
use super::served::{self, FINGERPRINT, Served};
use super::stream::{self, Events, Format};
use super::{Shared, prompts};
use crate::engine::{Event, Request};
use crate::openai::{
    ChatAnswer, ChatChoice, ChatChunk, ChatCompletion, ChatDelta, ChatRequest, ChunkChoice,
    Counted, FewronInfo, Usage,
};

/// Goes on with a conversation.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "OpenAI", request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer, or a stream of `ChatChunk`", body = ChatCompletion),
        (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody),
    )
)]
pub(super) async fn chat(
    State(app): State<Shared>,
    Json(request): Json<ChatRequest>,
) -> Result<Response, ApiError> {
    request.check()?;
    let (messages, top) = (request.conversation()?, request.logprobs()?);
    let common = request.common();
    let (choices, sampling, stop) = (common.choices()?, common.sampling()?, common.stops()?);
    let longest = request.longest()?;
    let (user, sparsity) = (request.user.as_deref(), request.fewron.as_ref());
    let variant = served::variant(&app, &request.model, user, sparsity).await?;
    let prompt = prompts::of_chat(&app, messages).await?;
    let room = app.engine.model().config().context.saturating_sub(prompt.len());
    let engine_request = Request {
        prompt,
        variant: Arc::clone(&variant),
        choices,
        // A prompt that fills the context is refused by the engine, not answered with nothing.
        max_tokens: longest.unwrap_or(room.max(1)),
        sampling,
        stop,
        logprobs: top,
        prompt_logprobs: None,
        timeout: None,
        ignore_end: request.ignore_eos.unwrap_or(false),
    };
    let answers = Answers::submit(&app, vec![engine_request], "messages")?;
    let served = Served::new(&app, answers.variant().unwrap_or(&variant), "chatcmpl");
    if common.stream {
        let counted = common.counted();
        let logprobs = top.is_some();
        let info = Some(served.info.clone());
        let chunks = Chunks { app, served, choices, logprobs, counted, info };
        return Ok(stream::respond(answers, chunks));
    }
    let collected = Collected::all(answers, 1, choices).await?;
    Ok(Json(completion(&app, served, collected, top.is_some())).into_response())
}

fn completion(app: &Shared, served: Served, collected: Collected, wanted: bool) -> ChatCompletion {
    let tokenizer = app.engine.tokenizer();
    let choice = |(index, whole): (usize, Whole)| ChatChoice {
        index,
        message: ChatAnswer { role: "assistant", content: whole.text, refusal: () },
        logprobs: wanted.then(|| logprobs::of_chat(tokenizer, &whole.tokens)),
        finish_reason: reason(whole.finish),
    };
    ChatCompletion {
        id: served.id,
        object: "chat.completion",
        created: served.created,
        model: served.model,
        system_fingerprint: FINGERPRINT,
        choices: collected.answers.into_iter().flatten().enumerate().map(choice).collect(),
        usage: collected.usage,
        fewron: served.info,
    }
}

/// Makes the events of a stream.
struct Chunks {
    app: Shared,
    served: Served,
    choices: usize,
    logprobs: bool,
    counted: Counted,
    /// Until the first event has it.
    info: Option<FewronInfo>,
}

impl Chunks {
    fn chunk(&mut self, choices: Vec<ChunkChoice>, usage: Option<Usage>) -> ChatChunk {
        ChatChunk {
            id: self.served.id.clone(),
            object: "chat.completion.chunk",
            created: self.served.created,
            model: self.served.model.clone(),
            system_fingerprint: FINGERPRINT,
            choices,
            usage: (self.counted != Counted::None).then_some(usage),
            fewron: self.info.take(),
        }
    }
}

impl Format for Chunks {
    fn start(&mut self, events: &mut Events) {
        for index in 0..self.choices {
            let delta = ChatDelta { role: Some("assistant"), content: Some(String::new()) };
            let choice = ChunkChoice { index, delta, logprobs: None, finish_reason: None };
            let chunk = self.chunk(vec![choice], None);
            events.push(&chunk);
        }
    }

    fn event(&mut self, _prompt: usize, event: Event, usage: Usage, events: &mut Events) {
        let choice = match event {
            Event::Piece { choice, piece } => {
                let tokens = if self.logprobs { piece.tokens } else { Vec::new() };
                if piece.text.is_empty() && tokens.is_empty() {
                    return;
                }
                let tokenizer = self.app.engine.tokenizer();
                ChunkChoice {
                    index: choice,
                    delta: ChatDelta { role: None, content: Some(piece.text) },
                    logprobs: self.logprobs.then(|| logprobs::of_chat(tokenizer, &tokens)),
                    finish_reason: None,
                }
            }
            Event::End { choice, finish, .. } => ChunkChoice {
                index: choice,
                delta: ChatDelta::default(),
                logprobs: None,
                finish_reason: Some(reason(finish)),
            },
            Event::Prompt { .. } | Event::Failed(_) => return,
        };
        let usage = (self.counted == Counted::All).then_some(usage);
        let chunk = self.chunk(vec![choice], usage);
        events.push(&chunk);
    }

    fn end(&mut self, usage: Usage, events: &mut Events) {
        if self.counted != Counted::None {
            let chunk = self.chunk(Vec::new(), Some(usage));
            events.push(&chunk);
        }
    }
}
