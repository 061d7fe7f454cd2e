//! Where a model's weights come from: one way to read them, whatever the files.

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::hf::HfDirectory;
use fewron_kernels::DType;
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

/// A model's files, opened and checked. Tensors go by the names that GGUF files give them
/// (`blk.3.attn_q.weight`), whatever the files call them.
pub enum Source {
    /// A GGUF file.
    Gguf(Gguf),
    /// A Hugging Face directory.
    HuggingFace(HfDirectory),
}

impl From<Gguf> for Source {
    fn from(gguf: Gguf) -> Self {
        Source::Gguf(gguf)
    }
}

impl From<HfDirectory> for Source {
    fn from(directory: HfDirectory) -> Self {
        Source::HuggingFace(directory)
    }
}

/// A tensor as it lies in its file.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    /// Index of the mapped file.
    pub(crate) file: usize,
    pub(crate) dtype: DType,
    /// Elements of a row first, as in GGUF files.
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Range<usize>,
}

impl Source {
    /// The file or directory.
    pub fn path(&self) -> &Path {
        match self {
            Source::Gguf(gguf) => gguf.path(),
            Source::HuggingFace(directory) => directory.path(),
        }
    }

    /// The GGUF file, if it is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        match self {
            Source::Gguf(gguf) => Some(gguf),
            Source::HuggingFace(_) => None,
        }
    }

    /// Shape and wiring.
    ///
    /// # Errors
    /// See [`ModelConfig::from_gguf`] and [`HfDirectory::model_config`].
    pub fn config(&self) -> Result<ModelConfig, ModelError> {
        match self {
            Source::Gguf(gguf) => ModelConfig::from_gguf(gguf),
            Source::HuggingFace(directory) => directory.model_config(),
        }
    }

    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        match self {
            Source::Gguf(gguf) => {
                gguf.tensors().map(|t| t.shape.iter().product::<usize>() as u64).sum()
            }
            Source::HuggingFace(directory) => directory.parameters(),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Result<Option<Tensor>, ModelError> {
        match self {
            Source::HuggingFace(directory) => Ok(directory.find(name)),
            Source::Gguf(gguf) => Ok(gguf.find_tensor(name)?.map(|tensor| {
                let start = tensor.data.as_ptr() as usize - gguf.bytes().as_ptr() as usize;
                Tensor {
                    file: 0,
                    dtype: tensor.dtype,
                    shape: tensor.shape.to_vec(),
                    bytes: start..start + tensor.data.len(),
                }
            })),
        }
    }

    /// What the files call a tensor, for messages.
    pub(crate) fn name_in_files(&self, name: &str) -> String {
        match self {
            Source::Gguf(_) => None,
            Source::HuggingFace(directory) => directory.name_in_files(name),
        }
        .unwrap_or_else(|| name.to_owned())
    }

    /// What is added to the weights of RMS norms: 1 where files hold them less 1.
    pub(crate) fn norm_offset(&self) -> f32 {
        match self {
            Source::Gguf(_) => 0.0,
            Source::HuggingFace(directory) => directory.norm_offset(),
        }
    }

    /// A tensor that is not among the names `used`.
    pub(crate) fn unused(&self, used: &HashSet<String>) -> Option<String> {
        match self {
            Source::Gguf(gguf) => {
                gguf.tensors().map(|t| &t.name).find(|name| !used.contains(*name)).cloned()
            }
            Source::HuggingFace(directory) => directory.unused(used),
        }
    }

    /// A mapped file.
    pub(crate) fn bytes(&self, file: usize) -> &[u8] {
        match self {
            Source::Gguf(gguf) => gguf.bytes(),
            Source::HuggingFace(directory) => directory.bytes(file),
        }
    }

    /// Says that a range of a file is not needed any more.
    pub(crate) fn release(&self, file: usize, range: Range<usize>) {
        match self {
            Source::Gguf(gguf) => gguf.release(range),
            Source::HuggingFace(directory) => directory.release(file, range),
        }
    }
}
