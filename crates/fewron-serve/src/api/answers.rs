//! Answers to the prompts of one request, as they come.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Shared;
use super::error::ApiError;
use crate::engine::{Answer, ChosenToken, Event, Failure, Finish, Request, Variant};
use crate::openai::{PromptDetails, Usage};

/// Answers to the prompts of one request. Dropping it cancels what is left of them.
pub(super) struct Answers {
    open: Vec<Open>,
    /// What serves them.
    variant: Option<Arc<Variant>>,
    /// The one that is looked at first next time.
    first: usize,
    usage: Usage,
}

/// A prompt with answers that have not ended.
struct Open {
    prompt: usize,
    answer: Answer,
    choices_left: usize,
    /// Tokens of each choice so far.
    counted: Vec<usize>,
}

impl Answers {
    /// Submits a request for each prompt; `param` is the parameter that holds the prompts.
    ///
    /// # Errors
    /// When one of them is refused; the others are cancelled.
    pub(super) fn submit(
        app: &Shared,
        requests: Vec<Request>,
        param: &str,
    ) -> Result<Self, ApiError> {
        let mut answers =
            Self { open: Vec::new(), variant: None, first: 0, usage: Usage::default() };
        for (prompt, request) in requests.into_iter().enumerate() {
            let choices_left = request.choices;
            answers.usage.prompt_tokens += request.prompt.len();
            let answer = app.engine.submit(request);
            let answer = answer.map_err(|refused| ApiError::refused(&refused, param))?;
            answers.variant = Some(Arc::clone(&answer.variant));
            let counted = vec![0; choices_left];
            answers.open.push(Open { prompt, answer, choices_left, counted });
        }
        Ok(answers)
    }

    /// What serves them: dense where the variant asked for has fallen back.
    pub(super) fn variant(&self) -> Option<&Arc<Variant>> {
        self.variant.as_ref()
    }

    /// The next event with the prompt that it is of; `None` once all answers have ended. Nothing is lost
    /// where nobody waits for it to the end.
    pub(super) async fn next(&mut self) -> Option<(usize, Event)> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Event)>> {
        if self.open.is_empty() {
            return Poll::Ready(None);
        }
        let count = self.open.len();
        for at in (self.first..count).chain(0..self.first.min(count)) {
            let open = &mut self.open[at];
            if let Poll::Ready(event) = open.answer.events.poll_recv(context) {
                let gone = || Event::Failed(Failure::Internal("the engine has ended".to_owned()));
                let (prompt, event) = (open.prompt, event.unwrap_or_else(gone));
                self.first = at + 1;
                self.note(at, &event);
                return Poll::Ready(Some((prompt, event)));
            }
        }
        Poll::Pending
    }

    fn note(&mut self, at: usize, event: &Event) {
        match event {
            Event::Prompt { reused, .. } => {
                self.usage.prompt_tokens_details.cached_tokens += reused;
            }
            Event::Piece { choice, piece } => {
                self.usage.completion_tokens += piece.tokens.len();
                self.open[at].counted[*choice] += piece.tokens.len();
            }
            Event::End { choice, tokens, .. } => {
                // A token that ended the answer was in no piece.
                self.usage.completion_tokens += tokens - self.open[at].counted[*choice];
                self.open[at].choices_left -= 1;
            }
            Event::Failed(_) => self.open[at].choices_left = 0,
        }
        if self.open[at].choices_left == 0 {
            self.open.remove(at);
        }
    }

    /// Tokens so far.
    pub(super) fn usage(&self) -> Usage {
        let Usage { prompt_tokens, completion_tokens, .. } = self.usage;
        let cached_tokens = self.usage.prompt_tokens_details.cached_tokens;
        Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens },
        }
    }
}

/// An answer that has come to its end.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) text: String,
    pub(super) tokens: Vec<ChosenToken>,
    pub(super) finish: Finish,
}

/// Everything that came of a request.
pub(super) struct Collected {
    /// By prompt, its tokens if they were asked for.
    pub(super) prompts: Vec<Vec<ChosenToken>>,
    /// By prompt and choice.
    pub(super) answers: Vec<Vec<Whole>>,
    pub(super) usage: Usage,
}

impl Collected {
    /// Waits for all answers to so many prompts with so many choices each.
    ///
    /// # Errors
    /// When one of them fails.
    pub(super) async fn all(
        mut answers: Answers,
        prompts: usize,
        choices: usize,
    ) -> Result<Self, ApiError> {
        let empty = Whole { text: String::new(), tokens: Vec::new(), finish: Finish::Stop };
        let mut of_prompts = vec![Vec::new(); prompts];
        let mut whole = vec![vec![empty; choices]; prompts];
        while let Some((prompt, event)) = answers.next().await {
            match event {
                Event::Prompt { tokens, .. } => of_prompts[prompt] = tokens,
                Event::Piece { choice, piece } => {
                    whole[prompt][choice].text.push_str(&piece.text);
                    whole[prompt][choice].tokens.extend(piece.tokens);
                }
                Event::End { choice, finish, .. } => whole[prompt][choice].finish = finish,
                Event::Failed(failure) => return Err((&failure).into()),
            }
        }
        Ok(Self { prompts: of_prompts, answers: whole, usage: answers.usage() })
    }
}

/// Why an answer ended, as OpenAI's API says it.
pub(super) fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}
