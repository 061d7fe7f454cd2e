//! Errors of loading and running a model.

use crate::gguf::GgufError;
use crate::hf::HfError;
use thiserror::Error;

/// What can go wrong between a file and its logits.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A weight that the asked type cannot hold.
    #[error("tensor {tensor}, row {row}: {problem}")]
    Encode {
        /// The tensor.
        tensor: String,
        /// The row, from 0.
        row: usize,
        /// What is in the way.
        problem: String,
    },
    /// A change to weights that cannot be made.
    #[error("tensor {tensor} cannot be changed: {problem}")]
    Change {
        /// The tensor.
        tensor: String,
        /// What is in the way.
        problem: String,
    },
    /// A budget that does not even hold what must stay in memory.
    #[error(
        "the weights cannot run in {budget} bytes: the scales of the down projections stay in memory \
         and take about {least}"
    )]
    Budget {
        /// Bytes asked for.
        budget: usize,
        /// Bytes that must stay.
        least: usize,
    },
    /// A budget for weights by input.
    #[error("weights by input all stay in memory; load them without a budget, or by row")]
    BudgetByInput,
    /// Heat of another model's neurons.
    #[error("the heat of neurons does not fit the model, which has {layers} layers of {neurons}")]
    Heat {
        /// Layers of the model.
        layers: usize,
        /// Neurons of each layer.
        neurons: usize,
    },
    /// The file for weights that do not stay in memory.
    #[error("cannot keep weights in a file in {}: {error}; name a folder with room", folder.display())]
    ColdFile {
        /// Its folder.
        folder: std::path::PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// `FEWRON_ISA` asks for an instruction set that this processor does not have.
    #[error("FEWRON_ISA: {0}")]
    Isa(#[from] fewron_kernels::UnknownIsa),
    /// The file cannot be read as GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The directory cannot be read as a Hugging Face model.
    #[error(transparent)]
    HuggingFace(#[from] HfError),
    /// A key asks for something fewron does not have.
    #[error("{key} is {value:?}, which fewron does not have (it has: {supported})")]
    Unsupported {
        /// Metadata key.
        key: String,
        /// Its value.
        value: String,
        /// Values that work.
        supported: String,
    },
    /// A key that may change the arithmetic.
    #[error(
        "the file has the key {key}, which fewron does not know; running on could give wrong results"
    )]
    UnknownKey {
        /// Metadata key.
        key: String,
    },
    /// A key with an impossible value.
    #[error("{key} {problem}; the file is damaged or of a kind fewron does not know")]
    BadKey {
        /// Metadata key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor is not there.
    #[error("the model has no tensor {tensor}; it is incomplete or of a kind fewron does not know")]
    MissingTensor {
        /// Its name.
        tensor: String,
    },
    /// A tensor has the wrong shape.
    #[error("tensor {tensor} has shape {got:?}, expected {expected:?} (columns first)")]
    Shape {
        /// Its name.
        tensor: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// A tensor that would be ignored.
    #[error(
        "the file has the tensor {tensor}, which fewron does not know; running on could give wrong results"
    )]
    UnknownTensor {
        /// Its name.
        tensor: String,
    },
    /// A token id beyond the vocabulary.
    #[error("token {token} is not in the vocabulary of {vocab} tokens")]
    Token {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// More tokens than the context holds.
    #[error("{needed} tokens do not fit the model's context of {context}; shorten the text")]
    ContextFull {
        /// Tokens asked for.
        needed: usize,
        /// The model's limit.
        context: usize,
    },
}
