//! What is changed in a model's weights while it is loaded.

use super::weight::Weight;
use crate::error::ModelError;
use crate::source::Source;
use fewron_kernels::DType;
use std::collections::{HashMap, HashSet};

/// Changes to a model's weights, by the names of GGUF tensors (`blk.3.attn_q.weight`).
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Steps of single weights of quantised matrices.
    pub edits: HashMap<String, Vec<Edit>>,
    /// Norms and biases in place of the file's. That of an RMS norm is what it multiplies by.
    pub vectors: HashMap<String, Vec<f32>>,
}

/// A step of a weight on the grid that its block's scales give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Place of the weight, row after row.
    pub place: u32,
    /// Codes up or down; at the end of the type's range it goes no further.
    pub step: i8,
}

impl Changes {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.vectors.is_empty()
    }

    /// Refuses changes of what is not among the weights that were changed.
    pub(crate) fn check_all(&self, changed: &HashSet<String>) -> Result<(), ModelError> {
        let mut names: Vec<_> = self.edits.keys().chain(self.vectors.keys()).collect();
        names.sort_unstable();
        match names.into_iter().find(|name| !changed.contains(*name)) {
            Some(name) => Err(cannot(name, "the model has no such weights of its own")),
            None => Ok(()),
        }
    }

    /// A norm or bias in place of one of `len` elements; `None` where it stays.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(values) = self.vectors.get(name) else { return Ok(None) };
        if values.len() != len {
            let problem = format!("it has {len} elements, not {}", values.len());
            return Err(cannot(name, problem));
        }
        Ok(Some(values.clone()))
    }

    /// The edits of a matrix of so many weights; `None` where it has none.
    pub(crate) fn edits_of(
        &self,
        name: &str,
        dtype: DType,
        places: usize,
    ) -> Result<Option<&[Edit]>, ModelError> {
        let Some(edits) = self.edits.get(name) else { return Ok(None) };
        if !dtype.is_quantized() {
            return Err(cannot(name, format!("it is {dtype}, and has no codes to step")));
        }
        match edits.iter().find(|edit| edit.place as usize >= places) {
            Some(edit) => {
                Err(cannot(name, format!("it has {places} weights, none at {}", edit.place)))
            }
            None => Ok(Some(edits)),
        }
    }

    /// The bytes of a matrix with its edits; `None` where it has none.
    pub(super) fn edited(
        &self,
        name: &str,
        weight: &Weight,
        source: &Source,
    ) -> Result<Option<Vec<u8>>, ModelError> {
        let (tensor, places) = (&weight.tensor, weight.rows * weight.cols);
        let edits = self.edits_of(name, tensor.dtype, places)?;
        Ok(edits.map(|edits| {
            Edit::make(edits, tensor.dtype, &source.bytes(tensor.file)[tensor.bytes.clone()])
        }))
    }
}

impl Edit {
    /// The bytes of a quantised matrix with edits whose places it has.
    pub(crate) fn make(edits: &[Self], dtype: DType, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let (len, size) = (dtype.block_len(), dtype.block_bytes());
        for edit in edits {
            let place = edit.place as usize;
            let block = &mut bytes[place / len * size..][..size];
            dtype.step_code(block, place % len, edit.step.into());
        }
        bytes
    }
}

pub(crate) fn cannot(name: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Change { tensor: name.to_owned(), problem: problem.into() }
}
