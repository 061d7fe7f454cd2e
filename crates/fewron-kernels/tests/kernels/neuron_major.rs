//! Products with the down projection stored by neuron, and the law that skipping a neuron equals
//! setting its output to zero.

use crate::naive::{
    Case, Rng, Weights, assert_near, assert_same_bits, cases, pool, product, rounded,
};
use fewron_kernels::{Activations, DType, Isa, Memory, NeuronMajor};
use proptest::prelude::*;

/// Share of Σ|o·w| that a product in f32 may be off.
const TOLERANCE: f64 = 1e-5;

fn forward(isa: Isa, threads: usize, w: &NeuronMajor, o: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; o.len() / w.neurons() * w.outputs()];
    let mut activations = Activations::default();
    activations.set(isa, pool(2), o, w.neurons(), w.layout());
    w.forward(isa, pool(threads), &activations, &mut y);
    y
}

fn sparse(isa: Isa, threads: usize, w: &NeuronMajor, active: &[u32], o: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; w.outputs()];
    let mut activations = Activations::default();
    activations.set_sparse(isa, pool(2), active, o, w.neurons(), w.layout());
    w.forward(isa, pool(threads), &activations, &mut y);
    y
}

fn backward(isa: Isa, threads: usize, w: &NeuronMajor, g: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; g.len() / w.outputs() * w.neurons()];
    w.backward(isa, pool(threads), g, &mut out);
    out
}

/// Sparse lists to try: none, one, all, and a random share.
fn lists(neurons: usize, rng: &mut Rng) -> Vec<Vec<u32>> {
    let all = 0..neurons as u32;
    let share = 1 + rng.below(10);
    vec![
        Vec::new(),
        vec![rng.below(neurons) as u32],
        all.clone().collect(),
        all.filter(|_| rng.below(10) < share).collect(),
    ]
}

fn at(o: &[f32], active: &[u32]) -> Vec<f32> {
    active.iter().map(|&i| o[i as usize]).collect()
}

/// `o` with everything off that is not active.
fn zeroed(o: &[f32], active: &[u32]) -> Vec<f32> {
    let mut zeroed = vec![0.0; o.len()];
    active.iter().for_each(|&i| zeroed[i as usize] = o[i as usize]);
    zeroed
}

proptest! {
    #[test]
    fn transposing_loses_nothing(case in cases()) {
        let (w, _) = case.weights();
        for isa in Isa::available() {
            let down = NeuronMajor::new(isa, pool(2), &mut Memory::default(), &w.matrix());
            prop_assert_eq!((down.neurons(), down.outputs()), (w.cols, w.rows));
            let norms = down.row_norms(isa);
            prop_assert_eq!(norms.len(), w.cols);
            let mut row = vec![f32::NAN; w.rows];
            for (neuron, &length) in norms.iter().enumerate() {
                let expected = w.column(neuron);
                down.weights(isa, neuron, &mut row);
                prop_assert_eq!(&row, &expected, "{} neuron {}", w.dtype, neuron);
                let norm = product(&expected, &expected).0.sqrt();
                assert_near("row norm", length, norm, norm, 1e-6);
            }
        }
    }

    #[test]
    fn forward_equals_the_naive_product(case in cases()) {
        let Case { tokens, threads, .. } = case;
        let (w, mut rng) = case.weights();
        let o = rng.with_zeros(tokens * w.cols);
        for isa in Isa::available() {
            let down = NeuronMajor::new(isa, pool(2), &mut Memory::default(), &w.matrix());
            let y = forward(isa, threads, &down, &o);
            for (token, o) in o.chunks_exact(w.cols).enumerate() {
                let seen = if w.dtype.is_quantized() { rounded(o) } else { o.to_vec() };
                for output in 0..w.rows {
                    let (sum, size) = w.row_product(output, &seen);
                    let what = format!("{} {} token {token} output {output}", isa.name(), w.dtype);
                    assert_near(&what, y[token * w.rows + output], sum, size, TOLERANCE);
                }
            }
        }
    }

    #[test]
    fn backward_equals_the_naive_product(case in cases()) {
        let Case { tokens, threads, .. } = case;
        let (w, mut rng) = case.weights();
        let g = rng.with_zeros(tokens * w.rows);
        for isa in Isa::available() {
            let down = NeuronMajor::new(isa, pool(2), &mut Memory::default(), &w.matrix());
            let out = backward(isa, threads, &down, &g);
            for (g, out) in g.chunks_exact(w.rows).zip(out.chunks_exact(w.cols)) {
                assert_same_bits(isa.name(), out, &backward(isa, 1, &down, g));
                for (neuron, &out) in out.iter().enumerate() {
                    let (sum, size) = w.column_product(neuron, g);
                    let what = format!("{} {} neuron {neuron}", isa.name(), w.dtype);
                    assert_near(&what, out, sum, size, TOLERANCE);
                }
            }
        }
    }

    /// Alone or in a batch, on any number of threads, by list or by zeros: not a bit differs.
    #[test]
    fn skipping_a_neuron_equals_zeroing_its_output(case in cases()) {
        let Case { tokens, threads, .. } = case;
        let (w, mut rng) = case.weights();
        let o = rng.with_zeros(tokens * w.cols);
        let mut choices: Vec<Vec<u32>> =
            (0..tokens).flat_map(|_| lists(w.cols, &mut rng)).collect();
        choices.truncate(tokens.max(4));
        for isa in Isa::available() {
            let down = NeuronMajor::new(isa, pool(2), &mut Memory::default(), &w.matrix());
            let tokens = choices.iter().zip(o.chunks_exact(w.cols).cycle());
            let masked: Vec<f32> = tokens.clone().flat_map(|(on, o)| zeroed(o, on)).collect();
            let batch = forward(isa, threads, &down, &masked);
            for ((active, o), batch) in tokens.zip(batch.chunks_exact(w.rows)) {
                let what = format!("{} {} keeps {active:?}", isa.name(), w.dtype);
                let skipped = sparse(isa, threads, &down, active, &at(o, active));
                assert_same_bits(&what, &skipped, &forward(isa, 1, &down, &zeroed(o, active)));
                assert_same_bits(&what, &skipped, &sparse(isa, 1, &down, active, &at(o, active)));
                assert_same_bits(&what, &skipped, batch);
            }
        }
    }
}

/// Every way in which a batch of tokens is served: some neurons off for one token, some for several,
/// some groups for all.
#[test]
fn any_number_of_tokens_gives_the_bits_of_single_ones() {
    let mut rng = Rng::new(6);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        let w = Weights::random(dtype, 333, 512, &mut rng);
        let mut o = rng.with_zeros(20 * w.cols);
        for (token, o) in o.chunks_exact_mut(w.cols).enumerate() {
            o[64..128].fill(0.0);
            o[256..256 + 8 * token].fill(0.0);
        }
        for isa in Isa::available() {
            let down = NeuronMajor::new(isa, pool(2), &mut Memory::default(), &w.matrix());
            let single: Vec<f32> =
                o.chunks_exact(w.cols).flat_map(|o| forward(isa, 1, &down, o)).collect();
            for tokens in 1..=20 {
                let what = format!("{} {dtype}, {tokens} tokens", isa.name());
                let y = forward(isa, 2, &down, &o[..tokens * w.cols]);
                assert_same_bits(&what, &y, &single[..tokens * w.rows]);
            }
        }
    }
}

/// No token, no result.
#[test]
fn no_tokens_are_no_work() {
    let w = Weights::random(DType::Q4_1, 45, 64, &mut Rng::new(3));
    for isa in Isa::available() {
        let down = NeuronMajor::new(isa, pool(2), &mut Memory::default(), &w.matrix());
        assert_eq!(forward(isa, 2, &down, &[]), [0.0; 0]);
    }
}

#[test]
fn no_neuron_gives_zeros() {
    let w = Weights::random(DType::Q4_1, 45, 64, &mut Rng::new(3));
    for isa in Isa::available() {
        let down = NeuronMajor::new(isa, pool(2), &mut Memory::default(), &w.matrix());
        assert_eq!(sparse(isa, 2, &down, &[], &[]), [0.0; 45]);
        assert_eq!(forward(isa, 2, &down, &[0.0; 64]), [0.0; 45]);
    }
}

/// Weights of neurons that are off are not read: not-a-number there does no harm.
#[test]
fn only_active_neurons_are_read() {
    let value = |i: usize| if i % 10 < 5 { f32::NAN } else { 1.0 };
    let bytes = (0..33 * 10).flat_map(|i| value(i).to_le_bytes()).collect();
    let w = Weights::new(DType::F32, 33, 10, bytes);
    for isa in Isa::available() {
        let down = NeuronMajor::new(isa, pool(2), &mut Memory::default(), &w.matrix());
        assert_eq!(sparse(isa, 2, &down, &[5, 9], &[2.0, 3.0]), [5.0; 33]);
        let dense = [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0];
        assert_eq!(forward(isa, 2, &down, &dense), [5.0; 33]);
    }
}

fn refused(active: &[u32]) -> bool {
    let w = Weights::random(DType::Q8_0, 5, 32, &mut Rng::new(4));
    let down = NeuronMajor::new(Isa::SCALAR, pool(2), &mut Memory::default(), &w.matrix());
    let o = vec![1.0; active.len()];
    std::panic::catch_unwind(|| sparse(Isa::SCALAR, 1, &down, active, &o)).is_err()
}

#[test]
fn lists_that_are_not_ascending_or_too_long_are_refused() {
    assert!(refused(&[3, 2]));
    assert!(refused(&[3, 3]));
    assert!(refused(&[31, 32]));
    assert!(!refused(&[30, 31]));
}
