//! Requests of `/v1/completions`.

use super::sampling::{refuse, request};
use super::{Loose, Prompts};
use crate::api::ApiError;

/// Most tokens of one place whose log-probabilities can be had.
pub(super) const MAX_LOGPROBS: usize = 20;

/// Longest answer in tokens where none is asked for.
const DEFAULT_MAX_TOKENS: usize = 16;

request! {
    /// Prompts to go on with.
    CompletionRequest {
        /// A text, a list of texts, a list of tokens, or a list of lists of tokens.
        #[schema(value_type = String)]
        prompt: Prompts,
        /// Log-probabilities of the answer's tokens and of so many of the likeliest ones, 0 to 20.
        logprobs: Option<usize>,
        /// Whether the prompt comes back before the answer, with its log-probabilities if asked for.
        echo: Option<bool>,
        #[schema(ignore)]
        best_of: Option<usize>,
        #[schema(ignore)]
        suffix: Option<Loose>,
    }
}

impl CompletionRequest {
    /// Refuses what means nothing here.
    ///
    /// # Errors
    /// Names the parameter.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        self.common().check()?;
        if self.best_of.is_some_and(|best| best != self.n.unwrap_or(1)) {
            return Err(ApiError::unsupported("best_of", "it may only be n"));
        }
        if self.logprobs.is_some_and(|top| top > MAX_LOGPROBS) {
            return Err(ApiError::parameter("logprobs", "logprobs is 0 to 20"));
        }
        if self.prompt.0.is_empty() {
            return Err(ApiError::parameter("prompt", "prompt is empty"));
        }
        refuse(&[("suffix", &self.suffix, &[""])])
    }

    /// Longest answer in tokens.
    pub(crate) fn longest(&self) -> usize {
        self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)
    }

    /// Whether the prompt comes back.
    pub(crate) fn echoes(&self) -> bool {
        self.echo.unwrap_or(false)
    }
}
