//! What can be wrong with a GGUF file.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A problem with a GGUF file, and which file it is.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct GgufError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Box<GgufProblem>,
}

impl GgufError {
    pub(super) fn new(path: &Path, problem: GgufProblem) -> Self {
        GgufError { path: path.to_path_buf(), problem: Box::new(problem) }
    }
}

/// What is wrong with a GGUF file.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum GgufProblem {
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("is not a regular file; name a .gguf file")]
    NotAFile,
    #[error("is not a GGUF file: it starts with {found:02x?}, not with the letters GGUF")]
    NotGguf { found: Vec<u8> },
    #[error("is a big-endian GGUF file; convert it with `gguf-convert-endian FILE little`")]
    BigEndian,
    #[error("has GGUF version {0}; versions 2 and 3 can be read, convert the model again")]
    Version(u32),
    #[error(
        "is part of a model split into {parts} files; join them with `llama-gguf-split --merge` first"
    )]
    Split { parts: u64 },
    #[error(
        "the file is truncated: {what} needs {needed} bytes from byte {start}, the file has {len}; \
         download it again with `fewron pull`"
    )]
    TruncatedHeader { what: String, start: u64, needed: u64, len: u64 },
    #[error(
        "the file is truncated: tensor {tensor} needs bytes {start}..{end}, the file has {len}; \
         download it again with `fewron pull`"
    )]
    TruncatedTensor { tensor: String, start: u64, end: u64, len: u64 },
    #[error(
        "is damaged: it announces {count} {what}, but its {len} bytes can hold no more than {most}; \
         download it again with `fewron pull`"
    )]
    AbsurdCount { what: &'static str, count: u64, most: u64, len: u64 },
    #[error("is damaged: {what} is not UTF-8 text; download it again with `fewron pull`")]
    NotUtf8 { what: String },
    #[error("{key} has value type {id}; GGUF knows 0 to 12")]
    UnknownValueType { key: String, id: u32 },
    #[error("metadata key {key} holds arrays within an array, which no known model file does")]
    NestedArray { key: String },
    #[error("metadata key {key} appears twice")]
    DuplicateKey { key: String },
    #[error("general.alignment is {found}; it must be a power of two from 8 to 2^20")]
    Alignment { found: String },
    #[error("tensor {tensor} appears twice")]
    DuplicateTensor { tensor: String },
    #[error("tensor {tensor} has {n_dims} dimensions; one to four can be read")]
    Dimensions { tensor: String, n_dims: u32 },
    #[error("tensor {tensor} has shape {shape:?}: no extent may be zero")]
    ZeroExtent { tensor: String, shape: Vec<u64> },
    #[error("tensor {tensor} has shape {shape:?}, more elements than a file can hold")]
    HugeTensor { tensor: String, shape: Vec<u64> },
    #[error(
        "tensor {tensor} has rows of {cols} elements, not a whole number of {dtype} blocks of \
         {block_len}"
    )]
    PartialBlock { tensor: String, cols: usize, dtype: &'static str, block_len: usize },
    #[error(
        "tensor {tensor} starts at offset {offset}, not a multiple of the alignment {alignment}"
    )]
    Misaligned { tensor: String, offset: u64, alignment: u64 },
    #[error("tensors {first} and {second} overlap")]
    Overlap { first: String, second: String },
    #[error("has no tensor {tensor}; is it a complete model of this architecture?")]
    MissingTensor { tensor: String },
    #[error(
        "tensor {tensor} has type {ggml_type}, which fewron cannot compute with; use a file with \
         F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K tensors"
    )]
    UnsupportedType { tensor: String, ggml_type: String },
    #[error("has no metadata key {key}; convert the model again with a recent converter")]
    MissingKey { key: String },
    #[error("metadata key {key} should be {expected}, but is {found}")]
    WrongType { key: String, expected: &'static str, found: String },
}
