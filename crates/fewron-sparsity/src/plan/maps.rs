//! Maps of low rank in a plan file.
//!
//! A map `NAME` has two matrices, `NAME.first` `[rank, inputs]` and `NAME.second` `[outputs, rank]`, and
//! `NAME.bias` `[outputs]` (f32). A matrix is `….q` (i8) and `….scale` (f16, one for 32 elements of a
//! row), `w = scale · q`, where its rows are made of whole 32s; else f32 under its own name.

use super::file::{PlanError, Tensors, floats};
use fewron_kernels::{DType, Isa, Memory};
use fewron_model::{LowRank, Pool};
use safetensors::tensor::{Dtype, SafeTensors};

/// Elements that share a scale.
const BLOCK: usize = 32;

/// Bytes of a block of Q8_0: a scale in half precision, then the integers.
const BLOCK_BYTES: usize = 2 + BLOCK;

pub(super) fn write_map(tensors: &mut Tensors, name: &str, map: &LowRank, isa: Isa) {
    let (first, second, bias) = map.weights(isa);
    write_matrix(tensors, &format!("{name}.first"), map.inputs(), &first);
    write_matrix(tensors, &format!("{name}.second"), map.rank(), &second);
    tensors.add_floats(format!("{name}.bias"), vec![bias.len()], bias);
}

fn write_matrix(tensors: &mut Tensors, name: &str, cols: usize, values: &[f32]) {
    let rows = values.len() / cols;
    if !cols.is_multiple_of(BLOCK) {
        return tensors.add_floats(name.into(), vec![rows, cols], values);
    }
    let (mut q, mut scales) = (Vec::new(), Vec::new());
    let mut block = [0; BLOCK_BYTES];
    for values in values.chunks_exact(BLOCK) {
        DType::Q8_0.encode_row(values, &mut block).expect("the map's weights have this type");
        scales.extend_from_slice(&block[..2]);
        q.extend_from_slice(&block[2..]);
    }
    tensors.add(format!("{name}.q"), Dtype::I8, vec![rows, cols], q);
    tensors.add(format!("{name}.scale"), Dtype::F16, vec![rows, cols / BLOCK], scales);
}

/// The map `name`, if the file has it.
pub(super) fn read_map(
    file: &SafeTensors,
    name: &str,
    inputs: usize,
    outputs: usize,
    isa: Isa,
    pool: &Pool,
    memory: &mut Memory,
) -> Result<Option<LowRank>, PlanError> {
    let Ok(bias) = file.tensor(&format!("{name}.bias")) else { return Ok(None) };
    let bias = floats(name, bias.data())?;
    let first = read_matrix(file, &format!("{name}.first"), inputs)?;
    let rank = first.len() / inputs;
    if rank == 0 {
        return Err(PlanError::tensor(name, "has rank 0"));
    }
    let second = read_matrix(file, &format!("{name}.second"), rank)?;
    if (second.len(), bias.len()) != (outputs * rank, outputs) {
        let problem = format!("has {} outputs, the model wants {outputs}", second.len() / rank);
        return Err(PlanError::tensor(name, problem));
    }
    let map = LowRank::new(isa, pool, memory, inputs, &first, &second, bias);
    map.map(Some).map_err(|error| PlanError::tensor(name, error.to_string()))
}

/// A matrix of rows of `cols`.
fn read_matrix(file: &SafeTensors, name: &str, cols: usize) -> Result<Vec<f32>, PlanError> {
    let tensor = |part: &str, dtype: Dtype, cols: usize| {
        let name = format!("{name}{part}");
        let tensor = file.tensor(&name).map_err(|_| PlanError::tensor(&name, "is missing"))?;
        match tensor.shape() {
            &[_, width] if width == cols && tensor.dtype() == dtype => Ok(tensor.data().to_vec()),
            shape => {
                let problem = format!("is {:?} {shape:?}, not rows of {cols}", tensor.dtype());
                Err(PlanError::tensor(&name, problem))
            }
        }
    };
    if !cols.is_multiple_of(BLOCK) {
        return floats(name, &tensor("", Dtype::F32, cols)?);
    }
    let q = tensor(".q", Dtype::I8, cols)?;
    let scales = tensor(".scale", Dtype::F16, cols / BLOCK)?;
    if q.len() / BLOCK != scales.len() / 2 {
        return Err(PlanError::tensor(name, "has not one scale for 32 weights"));
    }
    let blocks = q.chunks_exact(BLOCK).zip(scales.chunks_exact(2));
    let values = blocks.flat_map(|(q, scale)| {
        let scale = half::f16::from_le_bytes([scale[0], scale[1]]).to_f32();
        q.iter().map(move |&q| scale * f32::from(q as i8))
    });
    let values: Vec<f32> = values.collect();
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(PlanError::tensor(name, "has a scale that is no finite number")),
    }
}
