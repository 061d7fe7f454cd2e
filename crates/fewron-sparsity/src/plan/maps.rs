//! Maps of low rank in a plan file.
//!
//! A map `NAME` has two matrices, `NAME.first` `[rank, inputs]` and `NAME.second` `[outputs, rank]`, and
//! `NAME.bias` `[outputs]` (f32). A matrix is `….q` (i8) and `….scale` (f16, one for 32 elements of a
//! row), `w = scale · q`, where its rows are made of whole 32s; else f32 under its own name.

use super::file::{PlanError, Tensors, floats};
use fewron_kernels::{DType, Isa, Memory};
use fewron_model::{LowRank, Pool};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

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
    let bias = floats(name, &bias)?;
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
            &[_, width] if width == cols && tensor.dtype() == dtype => Ok(tensor),
            shape => {
                let problem = format!("is {:?} {shape:?}, not rows of {cols}", tensor.dtype());
                Err(PlanError::tensor(&name, problem))
            }
        }
    };
    if let (Ok(codes), Ok(scales)) =
        (file.tensor(&format!("{name}.q4")), file.tensor(&format!("{name}.scale")))
    {
        return read_nibbles(name, cols, &codes, &scales);
    }
    if !cols.is_multiple_of(BLOCK) {
        return floats(name, &tensor("", Dtype::F32, cols)?);
    }
    let (q, scales) = (tensor(".q", Dtype::I8, cols)?, tensor(".scale", Dtype::F16, cols / BLOCK)?);
    let scales = floats(&format!("{name}.scale"), &scales)?;
    if q.data().len() / BLOCK != scales.len() {
        return Err(PlanError::tensor(name, "has not one scale for 32 weights"));
    }
    let blocks = q.data().chunks_exact(BLOCK).zip(scales);
    Ok(blocks.flat_map(|(q, scale)| q.iter().map(move |&q| scale * f32::from(q as i8))).collect())
}

/// A matrix of four bits: two codes in a byte, the first in its low bits, `w = scale · (code − 8)`.
fn read_nibbles(
    name: &str,
    cols: usize,
    codes: &TensorView,
    scales: &TensorView,
) -> Result<Vec<f32>, PlanError> {
    let (&[rows, bytes], &[scale_rows, blocks]) = (codes.shape(), scales.shape()) else {
        return Err(PlanError::tensor(name, "is no matrix"));
    };
    let types = (codes.dtype(), scales.dtype()) == (Dtype::U8, Dtype::F16);
    let whole = rows == scale_rows && blocks > 0 && cols.is_multiple_of(2 * blocks);
    if !types || bytes * 2 != cols || !whole {
        return Err(PlanError::tensor(name, format!("has no whole rows of {cols} in four bits")));
    }
    let scales = floats(&format!("{name}.scale"), scales)?;
    let blocks = codes.data().chunks_exact(bytes / blocks).zip(scales);
    let code = |code: u8| f32::from(code) - 8.0;
    let weights = blocks.flat_map(|(codes, scale)| {
        let pairs = codes.iter().flat_map(move |byte| [code(byte & 15), code(byte >> 4)]);
        pairs.map(move |code| scale * code)
    });
    Ok(weights.collect())
}
