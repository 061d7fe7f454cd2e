//! Unpacked weights against the `gguf` package (`fixtures/goldens/part_dequant.py`).

use crate::naive::assert_same_bits;
use fewron_kernels::{DType, Isa, Matrix};
use safetensors::SafeTensors;

#[test]
fn every_type_equals_the_gguf_package() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/goldens/dequant.safetensors");
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    for dtype in DType::ALL {
        let bytes = tensors.tensor(&format!("{dtype}.bytes")).unwrap();
        let golden = tensors.tensor(&format!("{dtype}.values")).unwrap();
        let &[rows, cols] = golden.shape() else { panic!("values are a matrix") };
        // Adding 0 makes −0 and 0 the same.
        let expected: Vec<f32> =
            golden.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b) + 0.0).collect();
        let matrix = Matrix::new(dtype, rows, cols, bytes.data()).unwrap();
        for isa in Isa::available() {
            for (row, expected) in expected.chunks_exact(cols).enumerate() {
                let mut got = vec![f32::NAN; cols];
                matrix.dequantize_row(isa, row, &mut got);
                got.iter_mut().for_each(|x| *x += 0.0);
                assert_same_bits(&format!("{dtype} {} row {row}", isa.name()), &got, expected);
            }
        }
    }
}

#[test]
fn a_matrix_has_whole_rows_of_whole_blocks() {
    for dtype in DType::ALL {
        let row = vec![0u8; dtype.block_bytes()];
        assert!(Matrix::new(dtype, 1, dtype.block_len(), &row).is_some(), "{dtype}");
        assert!(Matrix::new(dtype, 2, dtype.block_len(), &row).is_none(), "{dtype}: too short");
        assert!(Matrix::new(dtype, 1, 0, &[]).is_none(), "{dtype}: no columns");
        assert!(Matrix::new(dtype, usize::MAX, dtype.block_len(), &row).is_none(), "{dtype}");
        assert!(Matrix::new(dtype, 1, usize::MAX - 255, &row).is_none(), "{dtype}: overflow");
        if dtype.is_quantized() {
            assert!(Matrix::new(dtype, 1, dtype.block_len() / 2, &row).is_none(), "{dtype}");
        }
    }
}

#[test]
fn ggml_ids_name_every_type_once() {
    let mut named: Vec<DType> = (0..64).filter_map(DType::from_ggml).collect();
    assert_eq!(named.len(), DType::ALL.len());
    named.retain(|dtype| !DType::ALL.contains(dtype));
    assert!(named.is_empty());
    assert_eq!(DType::from_ggml(30), Some(DType::Bf16));
    assert_eq!(DType::from_ggml(4), None, "Q4_2 is gone");
}
