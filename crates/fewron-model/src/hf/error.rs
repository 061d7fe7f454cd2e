//! What can be wrong with a Hugging Face directory.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A problem with a Hugging Face directory, and the file or folder that has it.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct HfError {
    /// The file, or the folder where a file is missing.
    pub path: PathBuf,
    /// What is wrong with it; told by this error, so that it is no source of it.
    pub problem: Box<HfProblem>,
}

impl HfError {
    pub(super) fn new(path: &Path, problem: HfProblem) -> Self {
        HfError { path: path.to_path_buf(), problem: Box::new(problem) }
    }
}

/// What is wrong with a Hugging Face directory.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum HfProblem {
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("is not a folder; name the folder that holds config.json")]
    NotADirectory,
    #[error("has no {file}; is it a complete Hugging Face model folder? Download it again")]
    MissingFile { file: &'static str },
    #[error("has {len} bytes, more than the {most} that such a file has; download it again")]
    TooLong { len: u64, most: u64 },
    #[error("is damaged: {problem}; download it again")]
    Json { problem: String },
    #[error(
        "has no model.safetensors and no model.safetensors.index.json; download the weights as \
         safetensors"
    )]
    NoWeights,
    #[error(
        "has weights as {file} only, which is a Python pickle; convert them with \
         `AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR)` of the Python package \
         transformers, which writes safetensors"
    )]
    OnlyPickle { file: String },
    #[error(
        "has both model.safetensors and model.safetensors.index.json; remove the one that does not \
         belong to this model"
    )]
    TwoKindsOfWeights,
    #[error(
        "names the file {file:?} for tensor {tensor}; only files in the same folder are opened, \
         download the model again from a place you trust"
    )]
    OutsideFolder { tensor: String, file: String },
    #[error("names no tensors (weight_map is empty); download it again")]
    EmptyIndex,
    #[error("the file {file}, which {index} names, is missing; download it again")]
    MissingShard { file: String, index: &'static str },
    #[error("has no tensor {tensor}, which {index} promises; download the file again")]
    BrokenPromise { tensor: String, index: &'static str },
    #[error("has the tensor {tensor}, as {other} does too; download the model again")]
    InTwoFiles { tensor: String, other: String },
    #[error(
        "the file is truncated: {what} needs {needed} bytes, the file has {len}; download it again"
    )]
    Truncated { what: String, needed: u64, len: u64 },
    #[error(
        "is damaged or no safetensors file: its header says to have {len} bytes, {most} are the most; \
         download it again"
    )]
    HugeHeader { len: u64, most: u64 },
    #[error("is damaged or no safetensors file: its header {problem}; download it again")]
    Header { problem: String },
    #[error("tensor {tensor} has type {dtype}, which no safetensors file has; download it again")]
    UnknownType { tensor: String, dtype: String },
    #[error(
        "tensor {tensor} has type {dtype}, which fewron cannot compute with; use a model with F32, \
         F16 or BF16 weights"
    )]
    UnsupportedType { tensor: String, dtype: String },
    #[error("tensor {tensor} has shape {shape:?}, more elements than a file can hold")]
    HugeTensor { tensor: String, shape: Vec<u64> },
    #[error(
        "tensor {tensor} of shape {shape:?} and type {dtype} needs {expected} bytes, but has {found} \
         (data_offsets {start}..{end}); the file is damaged, download it again"
    )]
    Size {
        tensor: String,
        shape: Vec<u64>,
        dtype: String,
        expected: u64,
        found: u64,
        start: u64,
        end: u64,
    },
    #[error("tensors {first} and {second} overlap; the file is damaged, download it again")]
    Overlap { first: String, second: String },
    #[error(
        "{bytes} bytes before tensor {tensor} belong to none; the file is damaged, download it again"
    )]
    Gap { tensor: String, bytes: u64 },
    #[error(
        "{bytes} bytes after the last tensor belong to none; the file is damaged, download it again"
    )]
    Trailing { bytes: u64 },
}
