//! Products with row-major matrices.

use crate::naive::{Case, Rng, Weights, assert_near, assert_same_bits, cases, pool, rounded};
use fewron_kernels::{
    self as kernels, Activations, DType, Isa, Margin, Memory, Packed, matmul, matmul_transposed,
    matvec_rows, matvec_shortlist,
};
use proptest::prelude::*;

/// Share of Σ|w·x| that a product in f32 may be off.
const TOLERANCE: f64 = 1e-5;

fn run(isa: Isa, threads: usize, w: &Weights, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / w.cols * w.rows];
    let (cols, mut activations) = (w.cols, Activations::default());
    w.with_packed(isa, |w| {
        activations.set(isa, pool(2), x, cols, w.layout());
        matmul(isa, pool(threads), &w, &activations, &mut out);
    });
    out
}

fn run_rows(isa: Isa, threads: usize, w: &Weights, rows: &[u32], x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows.len()];
    let mut activations = Activations::default();
    w.with_packed(isa, |packed| {
        activations.set(isa, pool(2), x, w.cols, packed.layout());
        matvec_rows(isa, pool(threads), &packed, rows, &activations, &mut out);
    });
    out
}

fn run_transposed(isa: Isa, threads: usize, w: &Weights, c: &[f32], start: &[f32]) -> Vec<f32> {
    let mut y = start.to_vec();
    w.with_packed(isa, |w| matmul_transposed(isa, pool(threads), &w, c, &mut y));
    y
}

/// More than are served without laying rows side by side.
const MOST_TOKENS: usize = 20;

proptest! {
    #[test]
    fn matmul_equals_the_naive_product(case in cases()) {
        let Case { tokens, threads, .. } = case;
        let (w, mut rng) = case.weights();
        let x = rng.inputs(tokens * w.cols);
        for isa in Isa::available() {
            let out = run(isa, threads, &w, &x);
            for (token, x) in x.chunks_exact(w.cols).enumerate() {
                let seen = if w.dtype.is_quantized() { rounded(x) } else { x.to_vec() };
                for row in 0..w.rows {
                    let (sum, size) = w.row_product(row, &seen);
                    let what = format!("{} {} token {token} row {row}", isa.name(), w.dtype);
                    assert_near(&what, out[token * w.rows + row], sum, size, TOLERANCE);
                }
            }
        }
    }

    /// Neither the batch nor the threads nor the choice of rows change a bit.
    #[test]
    fn a_product_is_the_same_in_any_company(case in cases()) {
        let Case { tokens, threads, .. } = case;
        let (w, mut rng) = case.weights();
        let x = rng.inputs(tokens * w.cols);
        let rows: Vec<u32> =
            (0..rng.below(2 * w.rows)).map(|_| rng.below(w.rows) as u32).collect();
        for isa in Isa::available() {
            let batch = run(isa, threads, &w, &x);
            for (x, batch) in x.chunks_exact(w.cols).zip(batch.chunks_exact(w.rows)) {
                assert_same_bits(isa.name(), batch, &run(isa, 1, &w, x));
                let expected: Vec<f32> = rows.iter().map(|&row| batch[row as usize]).collect();
                assert_same_bits(isa.name(), &run_rows(isa, threads, &w, &rows, x), &expected);
            }
        }
    }

    #[test]
    fn transposed_equals_the_naive_product(case in cases()) {
        let Case { tokens, threads, .. } = case;
        let (w, mut rng) = case.weights();
        let c = rng.with_zeros(tokens * w.rows);
        let start = rng.vector(tokens * w.cols);
        for isa in Isa::available() {
            let y = run_transposed(isa, threads, &w, &c, &start);
            let alone = |token: usize| {
                let c = &c[token * w.rows..][..w.rows];
                run_transposed(isa, 1, &w, c, &start[token * w.cols..][..w.cols])
            };
            for token in 0..tokens {
                let got = &y[token * w.cols..][..w.cols];
                assert_same_bits(isa.name(), got, &alone(token));
                for (col, &got) in got.iter().enumerate() {
                    let (sum, size) = w.column_product(col, &c[token * w.rows..][..w.rows]);
                    let start = f64::from(start[token * w.cols + col]);
                    let what = format!("{} {} token {token} column {col}", isa.name(), w.dtype);
                    assert_near(&what, got, start + sum, start.abs() + size, TOLERANCE);
                }
            }
        }
    }
}

/// Every way in which a batch of tokens is served, on rows of every remainder of a group of sixteen
/// blocks that is served in its own way.
#[test]
fn any_number_of_tokens_gives_the_bits_of_single_ones() {
    let mut rng = Rng::new(5);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        let counts: &[usize] =
            if dtype.block_len() > 32 { &[1, 2, 3] } else { &[1, 2, 4, 8, 16, 18, 20, 24, 29] };
        for &blocks in counts {
            let w = Weights::random(dtype, 21, blocks * dtype.block_len(), &mut rng);
            let x = rng.inputs(MOST_TOKENS * w.cols);
            for isa in Isa::available() {
                let single: Vec<f32> =
                    x.chunks_exact(w.cols).flat_map(|x| run(isa, 1, &w, x)).collect();
                for tokens in 1..=MOST_TOKENS {
                    let what = format!("{} {dtype} {blocks} blocks, {tokens} tokens", isa.name());
                    let out = run(isa, 2, &w, &x[..tokens * w.cols]);
                    assert_same_bits(&what, &out, &single[..tokens * w.rows]);
                }
            }
        }
    }
}

/// Weights of 1 where they may be read, not-a-number where they must not.
fn poisoned(rows: usize, cols: usize, poison: impl Fn(usize) -> bool) -> Weights {
    let value = |i: usize| if poison(i / cols) { f32::NAN } else { 1.0 };
    let bytes = (0..rows * cols).flat_map(|i| value(i).to_le_bytes()).collect();
    Weights::new(DType::F32, rows, cols, bytes)
}

#[test]
fn transposed_reads_no_row_without_coefficient() {
    let (rows, cols, tokens) = (23, 70, 3);
    let off = |row: usize| row.is_multiple_of(3) || (5..12).contains(&row);
    let w = poisoned(rows, cols, off);
    let on = |index: usize| if off(index % rows) { -0.0 } else { 1.0 };
    let c: Vec<f32> = (0..tokens * rows).map(on).collect();
    let expected = c[..rows].iter().sum::<f32>();
    for isa in Isa::available() {
        let y = run_transposed(isa, 2, &w, &c, &vec![0.0; tokens * cols]);
        assert_eq!(y, vec![expected; tokens * cols], "{}", isa.name());
    }
}

#[test]
fn only_the_chosen_rows_are_read() {
    let w = poisoned(9, 41, |row| row % 2 == 1);
    for isa in Isa::available() {
        let x = vec![1.0; 41];
        assert_eq!(run_rows(isa, 3, &w, &[0, 2, 4, 6, 8], &x), [41.0; 5], "{}", isa.name());
        assert_eq!(run_rows(isa, 3, &w, &[], &x), [0.0; 0]);
    }
}

/// A packed row has the values of the file's row.
#[test]
fn packing_loses_nothing() {
    let mut rng = Rng::new(9);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        for blocks in [1, 2, 7, 18, 33] {
            let w = Weights::random(dtype, 5, blocks * dtype.block_len(), &mut rng);
            for isa in Isa::available() {
                let mut row = vec![f32::NAN; w.cols];
                w.with_packed(isa, |packed| {
                    for (index, expected) in w.values.chunks_exact(w.cols).enumerate() {
                        packed.dequantize_row(isa, index, &mut row);
                        assert_eq!(row, expected, "{} {dtype} row {index}", isa.name());
                    }
                });
            }
        }
    }
}

/// A matrix with its low bits apart gives the same products, and its high bits a good shortlist.
#[test]
fn a_split_matrix_gives_the_same_products_and_a_shortlist() {
    let mut rng = Rng::new(11);
    for (dtype, blocks) in [(DType::Q8_0, 18), (DType::Q8_0, 3), (DType::Q6_K, 2)] {
        // Scales of one size, as heads of models have.
        let values: Vec<f32> = rng.vector(701 * blocks * dtype.block_len());
        let w = Weights::quantized(dtype, 701, blocks * dtype.block_len(), &values);
        let x = rng.vector(MOST_TOKENS * w.cols);
        for isa in Isa::available() {
            let split = Packed::split(isa, pool(2), &mut Memory::default(), &w.matrix()).unwrap();
            let mut activations = Activations::default();
            let all: Vec<f32> = x.chunks_exact(w.cols).flat_map(|x| run(isa, 1, &w, x)).collect();
            for tokens in 1..=MOST_TOKENS {
                let mut out = vec![f32::NAN; tokens * w.rows];
                activations.set(isa, pool(2), &x[..tokens * w.cols], w.cols, [split.layout()]);
                matmul(isa, pool(2), &kernels::Weights::Packed(&split), &activations, &mut out);
                assert_same_bits(isa.name(), &out, &all[..tokens * w.rows]);
            }
            for (x, exact) in x.chunks_exact(w.cols).zip(all.chunks_exact(w.rows)) {
                activations.set(isa, pool(2), x, w.cols, [split.layout()]);
                let mut out = vec![f32::NAN; w.rows];
                let (margin, mut near) = (Margin { depth: 0.0, deviations: 8.0 }, vec![7]);
                matvec_shortlist(isa, pool(2), &split, &activations, margin, &mut near, &mut out);
                let count = near.len();
                assert!(count > 0 && count < w.rows / 4, "{} {dtype}: {count}", isa.name());
                assert_eq!(out.iter().zip(exact).filter(|(a, b)| a == b).count(), count);
                let largest = |x: &[f32]| (0..x.len()).max_by(|&a, &b| x[a].total_cmp(&x[b]));
                assert_eq!(largest(&out), largest(exact), "{} {dtype}", isa.name());
                // Nothing but the rounding of the low bits separates the two.
                let size = exact.iter().map(|x| x * x).sum::<f32>();
                let error = out.iter().zip(exact).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
                assert!(error < 0.02 * size, "{} {dtype}: {error} of {size}", isa.name());
            }
        }
    }
    let w = Weights::random(DType::Q4_1, 2, 64, &mut rng);
    assert!(Packed::split(Isa::SCALAR, pool(1), &mut Memory::default(), &w.matrix()).is_none());
}

/// Buffers that held a larger batch leave no trace in a smaller one.
#[test]
fn activations_can_be_used_again() {
    let mut rng = Rng::new(7);
    for isa in Isa::available() {
        let mut used = Activations::default();
        let larger = Weights::random(DType::Q8_0, 1, 512, &mut rng);
        let layout = larger.with_packed(isa, |w| w.layout());
        used.set(isa, pool(2), &rng.inputs(9 * 512), 512, layout);
        for cols in [96, 32, 224] {
            let w = Weights::random(DType::Q4_1, 11, cols, &mut rng);
            let x = rng.inputs(2 * cols);
            let mut out = vec![f32::NAN; 2 * 11];
            w.with_packed(isa, |w| {
                used.set(isa, pool(2), &x, cols, w.layout());
                matmul(isa, pool(1), &w, &used, &mut out);
            });
            assert_same_bits(isa.name(), &out, &run(isa, 1, &w, &x));
        }
    }
}

#[test]
#[should_panic(expected = "8-bit activations")]
fn quantised_weights_refuse_plain_activations() {
    let w = Weights::random(DType::Q8_0, 2, 64, &mut Rng::new(1));
    let mut x = Activations::default();
    x.set(Isa::SCALAR, pool(2), &[1.0; 64], 64, None);
    w.with_packed(Isa::SCALAR, |w| matmul(Isa::SCALAR, pool(1), &w, &x, &mut [0.0; 2]));
}

#[test]
#[should_panic(expected = "packed first")]
fn quantised_weights_are_not_read_from_the_file() {
    let w = Weights::random(DType::Q8_0, 2, 64, &mut Rng::new(1));
    let mut x = Activations::default();
    x.set(Isa::SCALAR, pool(2), &[1.0; 64], 64, None);
    let file = fewron_kernels::Weights::File(w.matrix());
    matmul(Isa::SCALAR, pool(1), &file, &x, &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "inputs of the matrix")]
fn inputs_of_another_width_are_refused() {
    let w = Weights::random(DType::F32, 2, 64, &mut Rng::new(1));
    let mut x = Activations::default();
    x.set(Isa::SCALAR, pool(2), &[1.0; 63], 63, None);
    w.with_packed(Isa::SCALAR, |w| matmul(Isa::SCALAR, pool(1), &w, &x, &mut [0.0; 2]));
}
