//! What a client asks of the engine, and what it gets.

use super::variant::Variant;
use fewron_model::sampler::{SamplerConfig, SamplerError};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc::UnboundedReceiver;

/// A prompt, and how it is to be answered.
#[derive(Clone, Debug)]
pub struct Request {
    /// Tokens of the prompt; at least one.
    pub prompt: Vec<u32>,
    /// Dense, or the plan that masks the answer.
    pub variant: Arc<Variant>,
    /// Answers to the one prompt. Answer `i` samples with `sampling.seed + i`.
    pub choices: usize,
    /// Most tokens of an answer. 0 reads the prompt and answers nothing.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplerConfig,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
    /// Log-probabilities of the chosen tokens, and of so many of the likeliest ones.
    pub logprobs: Option<usize>,
    /// The same of the prompt's tokens.
    pub prompt_logprobs: Option<usize>,
    /// After so long the request fails with [`Failure::TimedOut`]; the engine's own limit holds too.
    pub timeout: Option<Duration>,
    /// Whether the answer goes on behind a token that ends it: for measurements.
    pub ignore_end: bool,
}

/// A request that was taken on. Dropping it cancels the request.
#[derive(Debug)]
pub struct Answer {
    /// Number of the request.
    pub id: u64,
    /// What serves it: the variant asked for, or dense where that has fallen back.
    pub variant: Arc<Variant>,
    /// What happens, until [`Event::End`] of every choice or one [`Event::Failed`]; then the channel is
    /// closed.
    pub events: UnboundedReceiver<Event>,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Event {
    /// The prompt has been read.
    Prompt {
        /// Tokens of it that were known already.
        reused: usize,
        /// Its tokens if [`Request::prompt_logprobs`] asked for them: the first has no log-probability.
        tokens: Vec<ChosenToken>,
    },
    /// More of an answer.
    Piece {
        /// Which of the answers.
        choice: usize,
        /// Tokens and text.
        piece: Piece,
    },
    /// An answer has come to its end.
    End {
        /// Which of the answers.
        choice: usize,
        /// Why.
        finish: Finish,
        /// Tokens of the whole answer; an end token that the model wrote counts too.
        tokens: usize,
    },
    /// The request could not be answered; no other event follows.
    Failed(Failure),
}

/// Tokens of an answer, and text that is certain now: of these tokens or of earlier ones, since bytes are
/// held back until they are characters, and characters while they may begin a stop text.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// May be empty.
    pub text: String,
    /// May be empty, when only held back text is released. A token that ends the answer is not here.
    pub tokens: Vec<ChosenToken>,
}

/// A token of an answer or of a prompt.
#[derive(Clone, Debug)]
pub struct ChosenToken {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability (softmax of the raw logits), where asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens in its place with their log-probabilities, the likeliest first (the lowest id
    /// among equals).
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop text came.
    Stop,
    /// It is as long as it may be, or the context is full.
    Length,
}

/// Why a request that was taken on has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failure {
    /// It took longer than allowed.
    #[error("the request took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The server ends and does not wait any longer.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// A fault of the server.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Why a request is not taken on.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Refused {
    /// As many wait as may wait: ask again later.
    #[error("{waiting} requests are waiting already; try again in {} s", .retry_after.as_secs())]
    Busy {
        /// Requests in the queue.
        waiting: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// The server takes on nothing new.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// Prompt and answer do not fit the context.
    #[error(
        "this model's maximum context length is {context} tokens. However, your messages resulted in \
         {prompt} tokens"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// Keys and values of prompt and answer need more memory than there is for all requests.
    #[error(
        "keys and values of this request need {needed} bytes, and the server keeps {limit} bytes for them; \
         ask for fewer tokens or choices, or start it with a larger --kv-budget"
    )]
    TooLarge {
        /// Bytes needed.
        needed: usize,
        /// Bytes there are.
        limit: usize,
    },
    /// The prompt is empty or has tokens that the model does not know.
    #[error("{0}")]
    Prompt(String),
    /// No answer is wanted, or more to one prompt than run at once.
    #[error("n is {choices}, but this server gives 1 to {most} answers to a prompt")]
    Choices {
        /// Those wanted.
        choices: usize,
        /// Most that there can be.
        most: usize,
    },
    /// Tokens cannot be chosen so.
    #[error(transparent)]
    Sampling(#[from] SamplerError),
}
