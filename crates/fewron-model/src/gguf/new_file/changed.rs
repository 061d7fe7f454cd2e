//! The model of a file with changes to its weights.

use std::collections::HashSet;

use fewron_kernels::DType;

use super::{Change, Data, NewFile, NewTensor, Weights, fields_of};
use crate::error::ModelError;
use crate::gguf::{Gguf, TensorInfo};
use crate::model::{Changes, cannot};

impl<'a> NewFile<'a> {
    /// The model of another file with changes to its weights: what [`crate::LoadOptions::changes`] makes
    /// of it in memory. Everything else is copied byte for byte.
    ///
    /// # Errors
    /// [`ModelError::Change`] for a change that cannot be made, and as [`Self::requantized`].
    pub fn changed(gguf: &'a Gguf, changes: &'a Changes) -> Result<Self, ModelError> {
        let mut changed = HashSet::new();
        let tensors = gguf.tensors().map(|info| {
            let tensor = changed_tensor(gguf, info, changes)?;
            if !matches!(tensor.data, Data::Mapped(..)) {
                changed.insert(info.name.clone());
            }
            Ok(tensor)
        });
        let tensors = tensors.collect::<Result<_, ModelError>>()?;
        changes.check_all(&changed)?;
        Ok(Self { fields: fields_of(gguf)?, alignment: gguf.index.alignment, tensors })
    }
}

/// A tensor of a file with what is changed in it.
fn changed_tensor<'a>(
    gguf: &'a Gguf,
    info: &TensorInfo,
    changes: &'a Changes,
) -> Result<NewTensor<'a>, ModelError> {
    let view = gguf.tensor(&info.name)?;
    let (mut dtype, len) = (view.dtype, info.shape.iter().product());
    let vector = match info.shape.len() {
        1 => changes.vector(&info.name, len)?,
        _ => None,
    };
    let data = match (changes.edits_of(&info.name, dtype, len)?, vector) {
        (Some(edits), _) => {
            if has_twin(gguf, info) {
                return Err(cannot(&info.name, "layers share it, and a file has it once for each"));
            }
            Data::Edited(&gguf.map, info.range.clone(), edits)
        }
        (None, Some(values)) => {
            dtype = DType::F32;
            Data::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        (None, None) => Data::Mapped(&gguf.map, info.range.clone()),
    };
    let change = Change { from: dtype, to: dtype, instead_of: None };
    let (name, shape) = (info.name.clone(), info.shape.clone());
    Ok(NewTensor { name, shape, change, data, weights: Weights::AsTheyAre })
}

/// Whether another layer has the same matrix.
fn has_twin(gguf: &Gguf, info: &TensorInfo) -> bool {
    let part = |info: &TensorInfo| info.name.splitn(3, '.').nth(2).map(str::to_owned);
    let same = |other: &TensorInfo| gguf.map[other.range.clone()] == gguf.map[info.range.clone()];
    gguf.tensors().any(|other| other.name != info.name && part(other) == part(info) && same(other))
}
