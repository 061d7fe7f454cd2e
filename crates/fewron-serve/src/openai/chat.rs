//! Requests of `/v1/chat/completions`.

use fewron_model::chat::Message;
use serde::Deserialize;
use utoipa::ToSchema;

use super::sampling::{refuse, request};
use super::{Content, Loose};
use crate::api::ApiError;

/// A message of a conversation.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatMessage {
    /// `system`, `user`, `assistant`, `tool` or `developer`.
    pub(crate) role: String,
    /// A text, or a list of `{"type": "text", "text": …}`.
    #[schema(value_type = String)]
    pub(crate) content: Option<Content>,
    #[schema(ignore)]
    name: Option<Loose>,
    #[schema(ignore)]
    tool_calls: Option<Loose>,
    #[schema(ignore)]
    tool_call_id: Option<Loose>,
    #[schema(ignore)]
    function_call: Option<Loose>,
    #[schema(ignore)]
    refusal: Option<Loose>,
    #[schema(ignore)]
    audio: Option<Loose>,
    #[serde(default, rename = "annotations")]
    #[schema(ignore)]
    _annotations: Option<Loose>,
}

impl ChatMessage {
    /// The message as chat templates have it; `at` is its place.
    fn message(&self, at: usize) -> Result<Message, ApiError> {
        refuse(&[
            ("messages.name", &self.name, &[]),
            ("messages.tool_calls", &self.tool_calls, &[]),
            ("messages.tool_call_id", &self.tool_call_id, &[]),
            ("messages.function_call", &self.function_call, &[]),
            ("messages.refusal", &self.refusal, &[]),
            ("messages.audio", &self.audio, &[]),
        ])?;
        let Some(Content(text)) = &self.content else {
            let parameter = format!("messages[{at}].content");
            return Err(ApiError::parameter(&parameter, format!("{parameter} is missing")));
        };
        Ok(Message::new(&self.role, text))
    }
}

request! {
    /// A conversation to go on with.
    ChatRequest {
        /// The conversation so far.
        messages: Vec<ChatMessage>,
        /// Longest answer in tokens (default: what the context leaves). The new name of `max_tokens`.
        max_completion_tokens: Option<usize>,
        /// Whether the answer comes with the log-probabilities of its tokens.
        logprobs: Option<bool>,
        /// And with those of so many of the likeliest tokens in each place, 0 to 20.
        top_logprobs: Option<usize>,
        #[schema(ignore)]
        response_format: Option<ResponseFormat>,
        #[schema(ignore)]
        tools: Option<Loose>,
        #[schema(ignore)]
        tool_choice: Option<Loose>,
        #[schema(ignore)]
        parallel_tool_calls: Option<bool>,
        #[schema(ignore)]
        functions: Option<Loose>,
        #[schema(ignore)]
        function_call: Option<Loose>,
        #[schema(ignore)]
        modalities: Option<Vec<String>>,
        #[schema(ignore)]
        audio: Option<Loose>,
        #[schema(ignore)]
        prediction: Option<Loose>,
        #[schema(ignore)]
        reasoning_effort: Option<Loose>,
        #[schema(ignore)]
        verbosity: Option<Loose>,
        #[schema(ignore)]
        web_search_options: Option<Loose>,
        #[schema(ignore)]
        service_tier: Option<Loose>,
        #[schema(ignore)]
        store: Option<Loose>,
        #[schema(ignore)]
        metadata: Option<Loose>,
    }
}

/// The form of the answer.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ResponseFormat {
    /// `text`, or what is refused.
    #[serde(rename = "type")]
    kind: String,
}

impl ChatRequest {
    /// Refuses what means nothing here.
    ///
    /// # Errors
    /// Names the parameter.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        self.common().check()?;
        // Whether tools may be called side by side means nothing without tools.
        let _ = self.parallel_tool_calls;
        if self.response_format.as_ref().is_some_and(|format| format.kind != "text") {
            return Err(ApiError::unsupported("response_format", "only {\"type\": \"text\"} is"));
        }
        if self.modalities.iter().flatten().any(|kind| kind != "text") {
            return Err(ApiError::unsupported("modalities", "only [\"text\"] is"));
        }
        let Self { tools, tool_choice, functions, function_call, audio, prediction, .. } = self;
        refuse(&[
            ("tools", tools, &[]),
            ("tool_choice", tool_choice, &["none", "auto"]),
            ("functions", functions, &[]),
            ("function_call", function_call, &["none", "auto"]),
            ("audio", audio, &[]),
            ("prediction", prediction, &[]),
            ("reasoning_effort", &self.reasoning_effort, &["none"]),
            ("verbosity", &self.verbosity, &[]),
            ("web_search_options", &self.web_search_options, &[]),
            ("service_tier", &self.service_tier, &["auto", "default"]),
            ("store", &self.store, &[]),
            ("metadata", &self.metadata, &[]),
        ])
    }

    /// The conversation as chat templates have it.
    ///
    /// # Errors
    /// When a message has no text, or there is no message.
    pub(crate) fn conversation(&self) -> Result<Vec<Message>, ApiError> {
        conversation(&self.messages)
    }

    /// Likeliest tokens whose log-probabilities are wanted beside those of the answer's tokens.
    ///
    /// # Errors
    /// When there are more than 20, or `logprobs` is not set.
    pub(crate) fn logprobs(&self) -> Result<Option<usize>, ApiError> {
        let wanted = self.logprobs.unwrap_or(false);
        match self.top_logprobs {
            Some(top) if top > super::completion::MAX_LOGPROBS => {
                Err(ApiError::parameter("top_logprobs", "top_logprobs is 0 to 20"))
            }
            Some(top) if top > 0 && !wanted => Err(ApiError::parameter(
                "top_logprobs",
                "top_logprobs is only for logprobs: set logprobs to true",
            )),
            top => Ok(wanted.then_some(top.unwrap_or(0))),
        }
    }

    /// Longest answer in tokens, if one is asked for.
    ///
    /// # Errors
    /// When both names are there and differ.
    pub(crate) fn longest(&self) -> Result<Option<usize>, ApiError> {
        match (self.max_tokens, self.max_completion_tokens) {
            (Some(old), Some(new)) if old != new => Err(ApiError::parameter(
                "max_tokens",
                "max_tokens and max_completion_tokens are the same; give one of them",
            )),
            (old, new) => Ok(new.or(old)),
        }
    }
}

/// Messages as chat templates have them.
///
/// # Errors
/// When a message has no text, or there is no message.
pub(crate) fn conversation(messages: &[ChatMessage]) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::parameter("messages", "messages is empty"));
    }
    messages.iter().enumerate().map(|(at, message)| message.message(at)).collect()
}
