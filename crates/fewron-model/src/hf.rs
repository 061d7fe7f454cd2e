//! Hugging Face model directories: `config.json`, `*.safetensors` and the tokenizer's files.
//!
//! Opening a directory reads its configuration and checks the headers of all weight files; weights
//! stay in mapped files, in which they need not be aligned to their type (kernels read bytes).

mod config;
mod convert;
mod error;
mod keys;
mod names;
mod rope;
mod safetensors;
mod weights;

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use convert::{Conversion, ConvertError};
pub use error::{HfError, HfProblem};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::source::Tensor;
use config::{HfConfig, Shapes};
use names::Names;
use weights::Weights;

const CONFIG: &str = "config.json";
/// Longest configuration that is read.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// An open Hugging Face model directory.
#[derive(Debug)]
pub struct HfDirectory {
    path: PathBuf,
    weights: Weights,
    names: Names,
    config: ModelConfig,
}

impl HfDirectory {
    /// Opens and checks the directory at `path`: `config.json`, and `model.safetensors` or the files
    /// that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// When a file is missing or damaged, weights are not F32, F16 or BF16, or the configuration has
    /// an unknown architecture or asks for arithmetic that fewron does not have.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if !path.is_dir() {
            return Err(HfError::new(path, HfProblem::NotADirectory).into());
        }
        let map = read_object(path, CONFIG, MAX_CONFIG_BYTES)?
            .ok_or_else(|| HfError::new(path, HfProblem::MissingFile { file: CONFIG }))?;
        let config = HfConfig::new(&map)?;
        let weights = Weights::open(path)?;
        let tensors = weights.len();
        let (layers, tied) = (config.layer_count(tensors)?, config.tied()?);
        let names = Names::new(config.family, config.nested, tied, layers, weights.names());
        weights.refuse_other_types(|name| names.is_ignored(name))?;
        let key = names.in_files("blk.0.attn_k.weight");
        let key_rows = key.and_then(|name| weights.get(&name)?.shape.first().copied());
        let shapes = Shapes { tensors, key_rows, shared_mlp: names.shared_mlp() };
        let config = config.model_config(shapes)?;
        Ok(HfDirectory { path: path.to_path_buf(), weights, names, config })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weight files, in the order of their names.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.weights.paths()
    }

    /// Bytes of the weight files together.
    pub fn len_bytes(&self) -> u64 {
        self.weights.len_bytes()
    }

    /// Shape and wiring, from `config.json`.
    ///
    /// # Errors
    /// None today: [`HfDirectory::open`] has checked everything.
    pub fn model_config(&self) -> Result<ModelConfig, ModelError> {
        Ok(self.config.clone())
    }

    /// Number of weights; those of one MLP for all layers count once.
    pub fn parameters(&self) -> u64 {
        let counted = self.weights.entries().filter(|entry| !self.names.is_ignored(&entry.name));
        counted.map(safetensors::Entry::elements).sum()
    }

    /// The weights in the order of their files: name, type and shape, rows first.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &str, &[usize])> {
        let entries = self.weights.entries().filter(|entry| !self.names.is_ignored(&entry.name));
        entries.map(|e| (e.name.as_str(), e.dtype.as_str(), e.shape.as_slice()))
    }

    /// What the files call the tensor that GGUF files call `name`.
    pub(crate) fn name_in_files(&self, name: &str) -> Option<String> {
        self.names.in_files(name)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Tensor> {
        let name = self.names.in_files(name)?;
        let (file, entry) = self.weights.find(&name)?;
        let shape = entry.shape.iter().rev().copied().collect();
        Some(Tensor { file, dtype: entry.dtype()?, shape, bytes: entry.bytes.clone() })
    }

    pub(crate) fn norm_offset(&self) -> f32 {
        if self.config.post_norm { 1.0 } else { 0.0 }
    }

    /// A weight that none of the names in `used` stands for.
    pub(crate) fn unused(&self, used: &HashSet<String>) -> Option<String> {
        let used: HashSet<String> =
            used.iter().filter_map(|name| self.names.in_files(name)).collect();
        let mut entries = self.weights.entries().map(|entry| &entry.name);
        entries.find(|name| !used.contains(*name) && !self.names.is_ignored(name)).cloned()
    }

    pub(crate) fn bytes(&self, file: usize) -> &[u8] {
        self.weights.map(file)
    }

    pub(crate) fn release(&self, file: usize, range: Range<usize>) {
        self.weights.map(file).release(range);
    }
}

/// Reads a JSON object of at most `most` bytes; `None` when there is no such file.
pub(crate) fn read_object(
    folder: &Path,
    file: &str,
    most: u64,
) -> Result<Option<Map<String, Value>>, HfError> {
    let path = folder.join(file);
    let Some(text) = read_text(folder, file, most)? else { return Ok(None) };
    let map = serde_json::from_str(&text)
        .map_err(|e| HfError::new(&path, HfProblem::Json { problem: e.to_string() }))?;
    Ok(Some(map))
}

/// Reads a text of at most `most` bytes; `None` when there is no such file.
pub(crate) fn read_text(folder: &Path, file: &str, most: u64) -> Result<Option<String>, HfError> {
    let path = folder.join(file);
    let fail = |problem| HfError::new(&path, problem);
    let open = match File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|e| fail(HfProblem::Io(e)))?,
    };
    let len = open.metadata().map_err(|e| fail(HfProblem::Io(e)))?.len();
    if len > most {
        return Err(fail(HfProblem::TooLong { len, most }));
    }
    let mut text = String::new();
    open.take(most).read_to_string(&mut text).map_err(|e| fail(HfProblem::Io(e)))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
