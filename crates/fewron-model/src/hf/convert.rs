//! A Hugging Face directory as a GGUF file that llama.cpp reads too.
//!
//! Names, values and the order of rows are those of llama.cpp's `convert_hf_to_gguf.py`. What a GGUF
//! file cannot say is refused by name, or noted where the converter of llama.cpp leaves it out too.

mod architecture;
mod layout;

use std::collections::HashSet;

use fewron_kernels::DType;
use thiserror::Error;

use super::HfDirectory;
use crate::chat::{ChatError, ChatTemplate};
use crate::error::ModelError;
use crate::gguf::{Change, Data, Field, NewFile, NewTensor, Recipe, Weights, is_matrix};
use crate::source::Tensor;
use crate::tokenizer::{GgufVocabulary, Tokenizer, TokenizerError};

/// Where the data of tensors starts: at multiples of this (ggml's default).
const ALIGNMENT: u64 = 32;

/// Why a directory cannot be written as a GGUF file.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// There is no GGUF architecture for the family.
    #[error(
        "GGUF has no architecture for {family} models, so neither llama.cpp nor fewron could read \
         the file; fewron runs the directory itself"
    )]
    NoArchitecture {
        /// As `config.json` has it.
        family: String,
    },
    /// A value that GGUF files cannot say, or that llama.cpp does not honour.
    #[error("config.json: {key} is {value}, but {allowed}; fewron runs the directory itself")]
    NoKey {
        /// Key of `config.json`.
        key: &'static str,
        /// Its value, in words.
        value: String,
        /// What is possible.
        allowed: String,
    },
    /// A tensor is missing or has a wrong shape.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer cannot be read or written.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template cannot be read.
    #[error(transparent)]
    Chat(#[from] ChatError),
}

/// A GGUF file that is to be written from a directory.
#[derive(Debug)]
pub struct Conversion<'a> {
    /// The file.
    pub file: NewFile<'a>,
    /// What readers of the file may do otherwise, in words.
    pub notes: Vec<String>,
}

impl HfDirectory {
    /// The float type that holds all matrices without loss: theirs, or F32 where they differ.
    pub fn float_type(&self) -> DType {
        let mut types = self
            .weights
            .entries()
            .filter(|entry| entry.shape.len() > 1 && !self.names.is_ignored(&entry.name));
        let first = types.next().and_then(super::safetensors::Entry::dtype);
        first.filter(|first| types.all(|e| e.dtype() == Some(*first))).unwrap_or(DType::F32)
    }

    /// The GGUF file of this model: weights in the types of the recipe, norms and biases in F32,
    /// tokenizer and chat template.
    ///
    /// # Errors
    /// When GGUF files cannot say what the directory says, or the directory is incomplete.
    pub fn to_gguf(&self, recipe: &Recipe) -> Result<Conversion<'_>, ConvertError> {
        let arch = self.architecture()?;
        let tensors = self.new_tensors(arch, recipe)?;
        let GgufVocabulary { fields: vocabulary, notes } =
            Tokenizer::gguf_vocabulary(self, self.config.vocab)?;
        let mut fields = self.general(arch);
        fields.extend(self.hyperparameters(arch));
        fields.extend(vocabulary);
        if let Some(source) = ChatTemplate::source_in(self)? {
            fields.push(("tokenizer.chat_template".into(), Field::Str(source)));
        }
        Ok(Conversion { file: NewFile::new(fields, ALIGNMENT, tensors, recipe), notes })
    }

    fn general(&self, arch: &str) -> Vec<(String, Field)> {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        vec![
            ("general.architecture".into(), Field::Str(arch.into())),
            ("general.type".into(), Field::Str("model".into())),
            ("general.name".into(), Field::Str(name)),
        ]
    }

    fn new_tensors(&self, arch: &str, recipe: &Recipe) -> Result<Vec<NewTensor<'_>>, ModelError> {
        let mut tensors = Vec::new();
        let mut used = HashSet::new();
        for (name, shape) in layout::tensors(&self.config) {
            tensors.push(self.new_tensor(arch, &name, shape, recipe)?);
            used.insert(name);
        }
        if let Some(tensor) = self.unused(&used) {
            return Err(ModelError::UnknownTensor { tensor });
        }
        if let Some(factors) = &self.config.rope_factors {
            tensors.push(NewTensor {
                name: "rope_freqs.weight".into(),
                shape: vec![factors.len()],
                change: Change { from: DType::F32, to: DType::F32, instead_of: None },
                data: Data::Owned(factors.iter().flat_map(|f| f.to_le_bytes()).collect()),
                weights: Weights::AsTheyAre,
            });
        }
        Ok(tensors)
    }

    fn new_tensor(
        &self,
        arch: &str,
        name: &str,
        shape: Vec<usize>,
        recipe: &Recipe,
    ) -> Result<NewTensor<'_>, ModelError> {
        let in_files = || self.name_in_files(name).unwrap_or_else(|| name.to_owned());
        let Some(Tensor { file, dtype, shape: got, bytes }) = self.find(name) else {
            return Err(ModelError::MissingTensor { tensor: in_files() });
        };
        if got != shape {
            return Err(ModelError::Shape { tensor: in_files(), expected: shape, got });
        }
        let change = if is_matrix(name, &shape) {
            recipe.change(name, dtype, &shape, !self.config.untied_head)
        } else {
            Change { from: dtype, to: DType::F32, instead_of: None }
        };
        let data = Data::Mapped(self.weights.map(file), bytes);
        let weights = self.weights_of(arch, name);
        Ok(NewTensor { name: name.to_owned(), shape, change, data, weights })
    }

    /// What is done to the weights of a tensor.
    fn weights_of(&self, arch: &str, name: &str) -> Weights {
        let part = name.rsplit('.').nth(1).unwrap_or_default();
        if part.ends_with("norm") && self.norm_offset() != 0.0 {
            Weights::Plus(self.norm_offset())
        } else if arch == "llama" && matches!(part, "attn_q" | "attn_k") {
            Weights::Interleaved { head_dim: self.config.head_dim }
        } else {
            Weights::AsTheyAre
        }
    }
}
