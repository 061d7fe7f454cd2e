//! Replies of both kinds of completions, and lists of models.

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// The variant that served a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FewronInfo {
    /// Its name.
    pub(crate) variant: String,
    /// `gate` and so on; null for the dense one.
    pub(crate) policy: Option<String>,
    /// Share of the MLP neurons that is off, as asked for.
    pub(crate) sparsity: f32,
}

/// Tokens that a request cost.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Usage {
    /// Of all prompts.
    pub(crate) prompt_tokens: usize,
    /// Of all answers.
    pub(crate) completion_tokens: usize,
    /// Both.
    pub(crate) total_tokens: usize,
    /// More about the prompts.
    pub(crate) prompt_tokens_details: PromptDetails,
}

/// More about prompts.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct PromptDetails {
    /// Tokens whose keys and values were known already.
    pub(crate) cached_tokens: usize,
}

/// A whole answer to a conversation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatCompletion {
    pub(crate) id: String,
    /// `chat.completion`.
    pub(crate) object: &'static str,
    /// Seconds since the Unix epoch.
    pub(crate) created: u64,
    /// `NAME:VARIANT` of what served.
    pub(crate) model: String,
    pub(crate) system_fingerprint: &'static str,
    pub(crate) choices: Vec<ChatChoice>,
    pub(crate) usage: Usage,
    pub(crate) fewron: FewronInfo,
}

/// One of the answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    pub(crate) index: usize,
    pub(crate) message: ChatAnswer,
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// `stop` or `length`.
    pub(crate) finish_reason: &'static str,
}

/// The assistant's message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatAnswer {
    /// `assistant`.
    pub(crate) role: &'static str,
    pub(crate) content: String,
    /// Always null.
    #[schema(value_type = Option<String>)]
    pub(crate) refusal: (),
}

/// A part of an answer to a conversation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatChunk {
    pub(crate) id: String,
    /// `chat.completion.chunk`.
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) system_fingerprint: &'static str,
    pub(crate) choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Option<Usage>>,
    /// In the first event alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fewron: Option<FewronInfo>,
}

/// A part of one of the answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChunkChoice {
    pub(crate) index: usize,
    pub(crate) delta: ChatDelta,
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// `stop` or `length` in the last event of the answer.
    pub(crate) finish_reason: Option<&'static str>,
}

/// What an event adds to a message.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct ChatDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
}

/// Log-probabilities of an answer to a conversation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    pub(crate) content: Vec<TokenLogprob>,
    /// Always null.
    #[schema(value_type = Option<String>)]
    pub(crate) refusal: (),
}

/// A token of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TokenLogprob {
    /// The token's number. Not part of OpenAI's API.
    pub(crate) id: u32,
    pub(crate) token: String,
    /// Natural logarithm of its probability, −9999 for 0.
    pub(crate) logprob: f32,
    /// Its bytes, which may be part of a character.
    pub(crate) bytes: Vec<u8>,
    /// The likeliest tokens in its place.
    pub(crate) top_logprobs: Vec<TopLogprob>,
}

/// One of the likeliest tokens.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TopLogprob {
    /// The token's number. Not part of OpenAI's API.
    pub(crate) id: u32,
    pub(crate) token: String,
    pub(crate) logprob: f32,
    pub(crate) bytes: Vec<u8>,
}

/// An answer to a prompt, or a part of it in a stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Completion {
    pub(crate) id: String,
    /// `text_completion`.
    pub(crate) object: &'static str,
    /// Seconds since the Unix epoch.
    pub(crate) created: u64,
    /// `NAME:VARIANT` of what served.
    pub(crate) model: String,
    pub(crate) system_fingerprint: &'static str,
    pub(crate) choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Option<Usage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fewron: Option<FewronInfo>,
}

/// One of the answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    /// Prompts one after the other, each with all its answers.
    pub(crate) index: usize,
    pub(crate) text: String,
    pub(crate) logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; null while the answer goes on.
    pub(crate) finish_reason: Option<&'static str>,
}

/// Log-probabilities of a text, token by token.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    pub(crate) tokens: Vec<String>,
    /// Null for the first token of a prompt.
    pub(crate) token_logprobs: Vec<Option<f32>>,
    /// The likeliest tokens in each place, and the token itself; null for the first token of a prompt.
    #[schema(value_type = Vec<Object>)]
    pub(crate) top_logprobs: Vec<Option<TopLogprobs>>,
    /// Characters of the text before each token.
    pub(crate) text_offset: Vec<usize>,
}

/// Log-probabilities by the texts of tokens, in this order.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopLogprobs(pub(crate) Vec<(String, f32)>);

impl Serialize for TopLogprobs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(token, logprob)| (token, logprob)))
    }
}

/// A model that can be named in requests.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ModelInfo {
    /// `NAME`, or `NAME:VARIANT`.
    pub(crate) id: String,
    /// `model`.
    pub(crate) object: &'static str,
    /// When the server started, in seconds since the Unix epoch.
    pub(crate) created: u64,
    /// `fewron`.
    pub(crate) owned_by: &'static str,
    /// Tokens of the context.
    pub(crate) max_model_len: usize,
    /// The variant; null where the traffic's shares choose.
    pub(crate) fewron: Option<FewronInfo>,
}

/// All of them.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`.
    pub(crate) object: &'static str,
    pub(crate) data: Vec<ModelInfo>,
}
