//! What clients send and get: the JSON of OpenAI's API, as far as it means something here.
//!
//! Requests are read field by field, so that an error names the parameter. What has no meaning here is
//! accepted at the value that asks for nothing, and refused at any other.

mod chat;
mod completion;
mod content;
mod loose;
mod prompt;
mod response;
mod sampling;
mod tokens;

pub(crate) use chat::{ChatMessage, ChatRequest, conversation};
pub(crate) use completion::CompletionRequest;
pub(crate) use content::Content;
pub(crate) use loose::Loose;
pub(crate) use prompt::{Prompt, Prompts};
pub(crate) use response::{
    ChatAnswer, ChatChoice, ChatChunk, ChatCompletion, ChatDelta, ChatLogprobs, ChunkChoice,
    Completion, CompletionChoice, CompletionLogprobs, FewronInfo, ModelInfo, ModelList,
    PromptDetails, TokenLogprob, TopLogprob, TopLogprobs, Usage,
};
pub(crate) use sampling::{Common, Counted, Sparsity, StreamOptions, Texts};
pub(crate) use tokens::{
    Detokenize, DetokenizeReply, Rearm, Tokenize, TokenizeReply, TokenizerInfo,
};
