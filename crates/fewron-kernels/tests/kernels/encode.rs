//! Encoded rows against the `gguf` package and ggml (`fixtures/goldens/part_encode.py`).

use crate::naive::{Rng, assert_same_bits};
use fewron_kernels::{DType, EncodeError, Isa, Matrix};
use proptest::prelude::*;
use proptest::sample::select;
use safetensors::SafeTensors;

fn encode(dtype: DType, row: &[f32]) -> Result<Vec<u8>, EncodeError> {
    let mut out = vec![0xaa; dtype.row_bytes(row.len()).unwrap_or(0)];
    dtype.encode_row(row, &mut out).map(|()| out)
}

fn decode(dtype: DType, bytes: &[u8], cols: usize) -> Vec<f32> {
    let mut row = vec![f32::NAN; cols];
    let matrix = Matrix::new(dtype, 1, cols, bytes).unwrap();
    matrix.dequantize_row(Isa::detect(), 0, &mut row);
    row
}

#[test]
fn every_type_has_the_bytes_of_gguf_and_ggml() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/goldens/encode.safetensors");
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let values = tensors.tensor("values").unwrap();
    let &[rows, cols] = values.shape() else { panic!("values are a matrix") };
    let values: Vec<f32> =
        values.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::F32) {
        let golden = tensors.tensor(&format!("{dtype}.bytes")).unwrap();
        let row_bytes = dtype.row_bytes(cols).unwrap();
        assert_eq!(golden.shape(), [rows, row_bytes], "{dtype}");
        let expected = golden.data().chunks_exact(row_bytes);
        for (index, (row, expected)) in values.chunks_exact(cols).zip(expected).enumerate() {
            let got = encode(dtype, row).unwrap();
            let blocks =
                |bytes: &[u8]| bytes.chunks(dtype.block_bytes()).map(<[u8]>::to_vec).collect();
            let (got, expected): (Vec<_>, Vec<_>) = (blocks(&got), blocks(expected));
            for (block, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert_eq!(got, expected, "{dtype} row {index} block {block}");
            }
        }
    }
}

#[test]
fn floats_of_full_size_are_copied() {
    let row = [1.5, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX];
    assert_same_bits("F32", &decode(DType::F32, &encode(DType::F32, &row).unwrap(), 4), &row);
}

#[test]
fn what_a_type_cannot_hold_is_an_error_that_names_it() {
    for dtype in DType::ALL {
        let mut row = vec![0.25; 512];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            row[300] = bad;
            let error = encode(dtype, &row).unwrap_err();
            assert!(matches!(error, EncodeError::NotFinite { index: 300, .. }), "{dtype}: {error}");
        }
        for large in [1e10, -3e38] {
            row[300] = large;
            let refused = Err(EncodeError::TooLarge { dtype, index: 300, value: large });
            let fits = matches!(dtype, DType::F32 | DType::Bf16);
            assert_eq!(encode(dtype, &row).map(|_| ()), if fits { Ok(()) } else { refused });
        }
        row[300] = 0.5;
        if dtype.is_quantized() {
            let error = encode(dtype, &row[1..]).unwrap_err();
            assert_eq!(error, EncodeError::PartialBlock { dtype, cols: 511 });
            assert!(error.to_string().starts_with("a row of 511 elements is no whole number of"));
        }
    }
    let row = [[0.0; 32], [9e6; 32]].concat();
    let refused = EncodeError::TooLarge { dtype: DType::Q8_0, index: 32, value: 9e6 };
    assert!(matches!(encode(DType::Q8_0, &row), Err(EncodeError::TooLarge { index: 32..64, .. })));
    assert_eq!(refused.to_string(), "element 32 is 9e6, too large for Q8_0; BF16 can hold it");
    assert!(encode(DType::Bf16, &[f32::MAX]).is_err(), "rounds to infinity");
}

/// Largest error of an element, relative to the largest magnitude within 256 elements.
///
/// Blocks of 32 round to half a step of `2/15`, `2/31` or `2/254` of the range, with a little for
/// their scale in half precision; the two that use only one sign's eight or sixteen steps lose up to a whole
/// one at the other end. K-quants share a scale among sub-blocks and weigh errors: measured.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::F32 => 0.0,
        DType::F16 => 0.5f32.powi(10),
        DType::Bf16 => 0.5f32.powi(8),
        DType::Q4_0 => 1.0 / 8.0 + 0.001,
        DType::Q4_1 => 1.0 / 15.0 + 0.001,
        DType::Q5_0 => 1.0 / 16.0 + 0.001,
        DType::Q5_1 => 1.0 / 31.0 + 0.001,
        DType::Q8_0 => 0.5 / 127.0 + 0.001,
        DType::Q2_K => 0.6,
        DType::Q3_K => 0.4,
        DType::Q4_K => 0.15,
        DType::Q5_K => 0.08,
        DType::Q6_K => 0.05,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn decoding_gives_back_what_was_encoded(
        dtype in select(DType::ALL.to_vec()),
        blocks in 1usize..4,
        exponent in 0i32..3,
        seed: u64,
    ) {
        let cols = 256 * blocks;
        let size = 10f32.powi(exponent);
        let row: Vec<f32> = Rng::new(seed).inputs(cols).iter().map(|x| x * size).collect();
        let back = decode(dtype, &encode(dtype, &row).unwrap(), cols);
        for (row, back) in row.chunks(256).zip(back.chunks(256)) {
            let largest = row.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            for (x, y) in row.iter().zip(back) {
                let error = (x - y).abs() / largest.max(f32::MIN_POSITIVE);
                prop_assert!(error <= tolerance(dtype), "{dtype}: {x} became {y} among {largest}");
            }
        }
    }

    /// What has the form of a type already keeps its values.
    #[test]
    fn encoding_is_stable(
        dtype in select(vec![DType::F32, DType::F16, DType::Bf16, DType::Q4_0, DType::Q8_0]),
        seed: u64,
    ) {
        let row = Rng::new(seed).inputs(512);
        let once = decode(dtype, &encode(dtype, &row).unwrap(), 512);
        let again = decode(dtype, &encode(dtype, &once).unwrap(), 512);
        prop_assert_eq!(once, again, "{}", dtype);
    }

    /// No bits of a float make it panic.
    #[test]
    fn any_bits_are_encoded_or_refused(
        dtype in select(DType::ALL.to_vec()),
        bits in proptest::collection::vec(any::<u32>(), 256),
    ) {
        let row: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        let sane: Vec<f32> = row.iter().map(|x| if x.abs() < 1e4 { *x } else { 0.0 }).collect();
        prop_assert!(encode(dtype, &row).is_err() || row.iter().all(|x| x.is_finite()));
        let back = decode(dtype, &encode(dtype, &sane).unwrap(), 256);
        prop_assert!(back.iter().all(|x| x.is_finite()));
    }
}
