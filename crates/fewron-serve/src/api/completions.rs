//! `/v1/completions`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::answers::{Answers, Collected, Whole, reason};
use super::error::{ApiError, ErrorBody};
use super::json::Json;
use super::logprobs::Offset;
use super::prompts::{self, Encoded};
use super::served::{self, FINGERPRINT, Served};
use super::stream::{self, Events, Format};
use crate::engine::{ChosenToken, Event, Request};
use crate::openai::{
    Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, Counted, FewronInfo, Usage,
};

/// Goes on with prompts.
#[utoipa::path(
    post, path = "/v1/completions", tag = "OpenAI", request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answers, or a stream of parts of them", body = Completion),
        (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody),
    )
)]
pub(super) async fn completions(
    State(app): State<Shared>,
    Json(request): Json<CompletionRequest>,
) -> Result<Response, ApiError> {
    request.check()?;
    let common = request.common();
    let (choices, sampling, stop) = (common.choices()?, common.sampling()?, common.stops()?);
    let (stream, counted) = (common.stream, common.counted());
    let ignore_end = request.ignore_eos.unwrap_or(false);
    let (user, sparsity) = (request.user.as_deref(), request.fewron.as_ref());
    let variant = served::variant(&app, &request.model, user, sparsity).await?;
    let (echo, logprobs, max_tokens) = (request.echoes(), request.logprobs, request.longest());
    check_count(&app, request.prompt.0.len())?;
    let mut encoded = prompts::of_completion(&app, request.prompt.0).await?;
    let engine_request = |encoded: &mut Encoded| Request {
        prompt: std::mem::take(&mut encoded.tokens),
        variant: variant.clone(),
        choices,
        max_tokens,
        sampling: sampling.clone(),
        stop: stop.clone(),
        logprobs,
        prompt_logprobs: logprobs.filter(|_| echo),
        timeout: None,
        ignore_end,
    };
    let requests = encoded.iter_mut().map(engine_request).collect();
    let answers = Answers::submit(&app, requests, "prompt")?;
    let served = Served::new(&app, answers.variant().unwrap_or(&variant), "cmpl");
    let prompts = encoded.len();
    let texts = Texts { app, choices, echo, wanted: logprobs.is_some(), prompts: encoded };
    if stream {
        return Ok(stream::respond(answers, Parts::new(texts, served, counted)));
    }
    let collected = Collected::all(answers, prompts, choices).await?;
    Ok(Json(texts.completion(served, collected)).into_response())
}

/// Refuses more prompts than can ever wait at once.
fn check_count(app: &Shared, prompts: usize) -> Result<(), ApiError> {
    let most = app.engine.status().load.max_waiting;
    if prompts <= most {
        return Ok(());
    }
    let message = format!("prompt has {prompts} prompts; this server takes at most {most} at once");
    Err(ApiError::parameter("prompt", message))
}

/// Makes texts of prompts and answers.
struct Texts {
    app: Shared,
    choices: usize,
    echo: bool,
    /// Whether log-probabilities are.
    wanted: bool,
    prompts: Vec<Encoded>,
}

impl Texts {
    /// The text of a prompt as far as it comes back, and its log-probabilities.
    fn echo(&self, prompt: usize, tokens: &[ChosenToken]) -> (String, CompletionLogprobs, Offset) {
        let mut logprobs = CompletionLogprobs::default();
        if !self.echo {
            return (String::new(), logprobs, Offset::default());
        }
        let Encoded { text, silent, .. } = &self.prompts[prompt];
        Offset::default().add_prompt(self.app.engine.tokenizer(), tokens, *silent, &mut logprobs);
        (text.clone(), logprobs, Offset::behind(text))
    }

    fn choice(&self, index: usize, tokens: &[ChosenToken], whole: &Whole) -> CompletionChoice {
        let (mut text, mut logprobs, mut offset) = self.echo(index / self.choices, tokens);
        text.push_str(&whole.text);
        offset.add_answer(self.app.engine.tokenizer(), &whole.tokens, &mut logprobs);
        CompletionChoice {
            index,
            text,
            logprobs: self.wanted.then_some(logprobs),
            finish_reason: Some(reason(whole.finish)),
        }
    }

    fn completion(&self, served: Served, collected: Collected) -> Completion {
        let Collected { prompts, answers, usage } = collected;
        let all = answers.iter().flatten().enumerate();
        let choice = |(at, whole)| self.choice(at, &prompts[at / self.choices], whole);
        Completion {
            id: served.id,
            object: "text_completion",
            created: served.created,
            model: served.model,
            system_fingerprint: FINGERPRINT,
            choices: all.map(choice).collect(),
            usage: Some(Some(usage)),
            fewron: Some(served.info),
        }
    }
}

/// Makes the events of a stream.
struct Parts {
    texts: Texts,
    served: Served,
    counted: Counted,
    /// Until the first event has it.
    info: Option<FewronInfo>,
    /// Where the text of each answer is.
    offsets: Vec<Offset>,
}

impl Parts {
    fn new(texts: Texts, served: Served, counted: Counted) -> Self {
        let offsets = vec![Offset::default(); texts.prompts.len() * texts.choices];
        let info = Some(served.info.clone());
        Self { texts, served, counted, info, offsets }
    }

    fn send(&mut self, choices: Vec<CompletionChoice>, usage: Option<Usage>, events: &mut Events) {
        events.push(&Completion {
            id: self.served.id.clone(),
            object: "text_completion",
            created: self.served.created,
            model: self.served.model.clone(),
            system_fingerprint: FINGERPRINT,
            choices,
            usage: (self.counted != Counted::None).then_some(usage),
            fewron: self.info.take(),
        });
    }

    fn send_echo(&mut self, prompt: usize, tokens: &[ChosenToken], events: &mut Events) {
        let (text, logprobs, offset) = self.texts.echo(prompt, tokens);
        let first = prompt * self.texts.choices;
        for index in first..first + self.texts.choices {
            self.offsets[index] = offset.clone();
            let logprobs = self.texts.wanted.then(|| logprobs.clone());
            let text = text.clone();
            let choice = CompletionChoice { index, text, logprobs, finish_reason: None };
            self.send(vec![choice], None, events);
        }
    }
}

impl Format for Parts {
    fn start(&mut self, _events: &mut Events) {}

    fn event(&mut self, prompt: usize, event: Event, usage: Usage, events: &mut Events) {
        let first = prompt * self.texts.choices;
        let choice = match event {
            Event::Prompt { tokens, .. } => {
                if self.texts.echo {
                    self.send_echo(prompt, &tokens, events);
                }
                return;
            }
            Event::Piece { choice, piece } => {
                let index = first + choice;
                let mut logprobs = CompletionLogprobs::default();
                let tokenizer = self.texts.app.engine.tokenizer();
                self.offsets[index].add_answer(tokenizer, &piece.tokens, &mut logprobs);
                let logprobs = self.texts.wanted.then_some(logprobs);
                if piece.text.is_empty() && logprobs.as_ref().is_none_or(|l| l.tokens.is_empty()) {
                    return;
                }
                CompletionChoice { index, text: piece.text, logprobs, finish_reason: None }
            }
            Event::End { choice, finish, .. } => CompletionChoice {
                index: first + choice,
                text: String::new(),
                logprobs: None,
                finish_reason: Some(reason(finish)),
            },
            Event::Failed(_) => return,
        };
        let usage = (self.counted == Counted::All).then_some(usage);
        self.send(vec![choice], usage, events);
    }

    fn end(&mut self, usage: Usage, events: &mut Events) {
        if self.counted != Counted::None {
            self.send(Vec::new(), Some(usage), events);
        }
    }
}
