//! Steps of single codes against what dequantisation makes of the block.

use crate::naive::Rng;
use fewron_kernels::{DType, Isa, Matrix};

fn decode(dtype: DType, block: &[u8]) -> Vec<f32> {
    let mut row = vec![f32::NAN; dtype.block_len()];
    let matrix = Matrix::new(dtype, 1, row.len(), block).unwrap();
    matrix.dequantize_row(Isa::detect(), 0, &mut row);
    row
}

/// Codes of a type.
fn codes(dtype: DType) -> usize {
    match dtype {
        DType::Q2_K => 4,
        DType::Q3_K => 8,
        DType::Q4_0 | DType::Q4_1 | DType::Q4_K => 16,
        DType::Q5_0 | DType::Q5_1 | DType::Q5_K => 32,
        DType::Q6_K => 64,
        DType::Q8_0 => 255,
        DType::F32 | DType::F16 | DType::Bf16 => 0,
    }
}

#[test]
fn a_step_moves_one_weight_by_a_step_of_its_grid() {
    let mut rng = Rng::new(7);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        let mut block = vec![0; dtype.block_bytes()];
        dtype.encode_row(&rng.vector(dtype.block_len()), &mut block).unwrap();
        let before = decode(dtype, &block);
        for element in 0..dtype.block_len() {
            let mut stepped = block.clone();
            dtype.step_code(&mut stepped, element, i32::MIN);
            // From the lowest code to the highest, and not further.
            let mut values = Vec::new();
            for _ in 0..=codes(dtype) {
                let after = decode(dtype, &stepped);
                let others = |row: &[f32]| [&row[..element], &row[element + 1..]].concat();
                assert_eq!(others(&after), others(&before), "{dtype} {element}");
                values.push(after[element]);
                dtype.step_code(&mut stepped, element, 1);
            }
            assert_eq!(values.pop(), values.last().copied(), "{dtype} {element}: the end");
            let steps: Vec<f32> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let size = values.iter().fold(0.0f32, |size, value| size.max(value.abs()));
            let same = |step: &f32| (step - steps[0]).abs() <= 1e-5 * size;
            assert!(steps.iter().all(same), "{dtype} {element}: {steps:?}");
            // And back to where it was.
            let code = values.iter().position(|value| *value == before[element]).unwrap();
            dtype.step_code(&mut stepped, element, i32::MIN);
            dtype.step_code(&mut stepped, element, code as i32);
            if steps[0] != 0.0 {
                assert_eq!(stepped, block, "{dtype} {element}");
            }
        }
    }
}
