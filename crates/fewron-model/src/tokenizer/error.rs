//! What can be wrong with a tokenizer.

use thiserror::Error;

use crate::gguf::GgufError;
use crate::hf::HfError;

/// A tokenizer that cannot be built from a model's files.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum TokenizerError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    HuggingFace(#[from] HfError),
    #[error(
        "there is no tokenizer.json; make it with `AutoTokenizer.from_pretrained(DIR)\
         .save_pretrained(DIR)` of the Python package transformers"
    )]
    MissingTokenizerJson,
    #[error("tokenizer.json is damaged: {problem}; download it again")]
    Json { problem: String },
    #[error(
        "tokenizer.json {problem}, which fewron does not have; a GGUF file of the model may work"
    )]
    Unsupported { problem: String },
    #[error(
        "tokenizer.json {problem}, which GGUF files cannot say; fewron runs the directory itself"
    )]
    NotInGguf { problem: String },
    #[error(
        "tokenizer.ggml.model is {found:?}; fewron reads \"gpt2\" (byte-level BPE) and \"llama\" \
         (SentencePiece); use a model of one of these kinds"
    )]
    UnknownModel { found: String },
    #[error(
        "tokenizer.ggml.pre is {found}; known splits are {known}; convert the model again with a \
         recent converter, or use a model with one of these"
    )]
    UnknownPre { found: String, known: String },
    #[error(
        "the file has no {key}, so text cannot be turned into tokens; use a complete model file"
    )]
    MissingVocabulary { key: &'static str },
    #[error(
        "{key} has {found} entries, but tokenizer.ggml.tokens has {expected}; the file is damaged"
    )]
    LengthMismatch { key: &'static str, expected: usize, found: usize },
    #[error("{key} is {id}, but the vocabulary ends at {last}; the file is damaged")]
    BadId { key: String, id: u32, last: usize },
    #[error("merge rule {at} is {text:?}: {problem}; the file is damaged")]
    BadMerge { at: usize, text: String, problem: &'static str },
    #[error("token {id} has type {found}; types 1 to 6 are known")]
    BadTokenType { id: usize, found: i32 },
    #[error("the vocabulary was refused: {0}")]
    Refused(String),
}
