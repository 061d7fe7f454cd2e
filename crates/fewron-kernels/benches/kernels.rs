//! Speed of the kernels on the shapes of SmolLM2-135M, as weight bytes a second, on one thread:
//! `cargo bench -p fewron-kernels --bench kernels`.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use fewron_kernels::{
    Activations, DType, Isa, Matrix, Memory, NeuronMajor, Packed, Pool, Weights, matmul,
    matmul_each, matvec_rows,
};

fn main() {
    divan::main();
}

/// Portable code and the best that this processor has.
fn isas() -> Vec<&'static str> {
    let mut names = vec![Isa::SCALAR.name(), Isa::detect().name()];
    names.dedup();
    names
}

fn isa(name: &str) -> Isa {
    Isa::named(name).expect("the names come from here")
}

/// Weights of any type: speed does not depend on the values, only on their being normal numbers.
fn weights(dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
    let len = rows * dtype.row_bytes(cols).expect("whole blocks");
    let mut bytes: Vec<u8> = (0..len).map(|i| (i * 89 % 251) as u8).collect();
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        // 0.0038 and, where there is a minimum, the same.
        block[..2].copy_from_slice(&[0xd9, 0x1b]);
        if dtype == DType::Q4_1 {
            block[2..4].copy_from_slice(&[0xd9, 0x9b]);
        }
    }
    bytes
}

fn vector(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

fn product(bencher: Bencher, name: &str, dtype: DType, rows: usize, cols: usize, tokens: usize) {
    let (isa, pool) = (isa(name), Pool::new(1));
    let bytes = weights(dtype, rows, cols);
    let matrix = Matrix::new(dtype, rows, cols, &bytes).expect("the bytes fit");
    let packed = Packed::new(isa, &pool, &mut Memory::default(), &matrix);
    let matrix = Weights::Packed(&packed);
    let mut x = Activations::default();
    x.set(isa, &pool, &vector(tokens * cols), cols, matrix.layout());
    let mut out = vec![0.0; tokens * rows];
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        matmul(isa, &pool, &matrix, black_box(&x), &mut out);
        black_box(out[0])
    });
}

/// Tokens of a batch: decode, and a small prefill.
const TOKENS: [usize; 2] = [1, 32];

#[divan::bench(args = isas(), consts = TOKENS)]
fn matmul_q4_1_576x1536<const N: usize>(bencher: Bencher, isa: &str) {
    product(bencher, isa, DType::Q4_1, 576, 1536, N);
}

#[divan::bench(args = isas(), consts = TOKENS, max_time = 2)]
fn head_q8_0_49152x576<const N: usize>(bencher: Bencher, isa: &str) {
    product(bencher, isa, DType::Q8_0, 49152, 576, N);
}

/// Streams that a server decodes at once.
const STREAMS: [usize; 6] = [1, 2, 4, 8, 12, 16];

/// Instruction sets that compute the same on most processors, with numbers of tokens.
fn streams() -> Vec<String> {
    let vector = Isa::available().into_iter().filter(|&isa| isa != Isa::SCALAR);
    vector.flat_map(|isa| STREAMS.map(|tokens| format!("{} {tokens}", isa.name()))).collect()
}

/// What [`streams`] lists.
fn stream(case: &str) -> (&str, usize) {
    let (isa, tokens) = case.split_once(' ').expect("two words");
    (isa, tokens.parse().expect("a number"))
}

/// A few tokens at once, each step with the weights' bytes in the cache; compare a line with the one of
/// 1 token.
#[divan::bench(args = streams(), consts = [192, 576, 1536], max_time = 0.5)]
fn few_tokens_q4_1_by_576<const ROWS: usize>(bencher: Bencher, case: &str) {
    let (isa, tokens) = stream(case);
    product(bencher, isa, DType::Q4_1, ROWS, 576, tokens);
}

#[divan::bench(args = streams(), max_time = 1)]
fn few_tokens_head_q8_0_49152x576(bencher: Bencher, case: &str) {
    let (isa, tokens) = stream(case);
    product(bencher, isa, DType::Q8_0, 49152, 576, tokens);
}

#[divan::bench(args = streams(), max_time = 0.5)]
fn few_tokens_down_q4_1(bencher: Bencher, case: &str) {
    let (name, tokens) = stream(case);
    let (isa, pool) = (isa(name), Pool::new(1));
    let (down, o, mut y) = (down(isa), vector(tokens * 1536), vec![0.0; tokens * 576]);
    let mut x = Activations::default();
    bencher.counter(BytesCount::new(down.bytes())).bench_local(|| {
        x.set(isa, &pool, black_box(&o), 1536, down.layout());
        down.forward(isa, &pool, &x, &mut y);
        black_box(y[0])
    });
}

/// The products of SmolLM2-135M for a few tokens, on two threads: 30 layers and the head, which no
/// cache of a core holds. Attention's output and down projections lie by input.
#[divan::bench(args = streams(), max_time = 2)]
fn few_tokens_model(bencher: Bencher, case: &str) {
    let (name, tokens) = stream(case);
    let (isa, pool, mut memory) = (isa(name), Pool::new(2), Memory::default());
    let mut by_row = |dtype, rows, cols| {
        let bytes = weights(dtype, rows, cols);
        let matrix = Matrix::new(dtype, rows, cols, &bytes).expect("the bytes fit");
        Packed::new(isa, &pool, &mut memory, &matrix)
    };
    let shapes = [576, 192, 192, 1536, 1536];
    let layers: Vec<_> =
        (0..30).map(|_| shapes.map(|rows| by_row(DType::Q4_1, rows, 576))).collect();
    let head = by_row(DType::Q8_0, 49152, 576);
    let downs: Vec<_> = (0..30)
        .map(|_| [down_of(isa, &mut memory, 576), down_of(isa, &mut memory, 1536)])
        .collect();
    let (hidden, neurons) = (vector(tokens * 576), vector(tokens * 1536));
    let mut out: Vec<_> = shapes.map(|rows| vec![0.0; tokens * rows]).into();
    let (mut y, mut logits) = (vec![0.0; tokens * 576], vec![0.0; tokens * 49152]);
    let mut x = Activations::default();
    bencher.bench_local(|| {
        for (rows, [output, down]) in layers.iter().zip(&downs) {
            let [q, k, v, gate, up] = rows.each_ref().map(Weights::Packed);
            let [q_out, k_out, v_out, gate_out, up_out] = &mut out[..] else { unreachable!() };
            x.set(isa, &pool, black_box(&hidden), 576, q.layout());
            matmul_each(isa, &pool, &x, [(q, q_out), (k, k_out), (v, v_out)]);
            x.set(isa, &pool, black_box(&hidden), 576, output.layout());
            output.forward(isa, &pool, &x, &mut y);
            x.set(isa, &pool, black_box(&hidden), 576, gate.layout());
            matmul_each(isa, &pool, &x, [(gate, gate_out), (up, up_out)]);
            x.set(isa, &pool, black_box(&neurons), 1536, down.layout());
            down.forward(isa, &pool, &x, &mut y);
        }
        let head = Weights::Packed(&head);
        x.set(isa, &pool, black_box(&hidden), 576, head.layout());
        matmul(isa, &pool, &head, &x, &mut logits);
        black_box(logits[0])
    });
}

/// Every other row, chosen at random; the counter counts their bytes alone.
#[divan::bench(args = isas())]
fn half_of_the_rows_q4_1_1536x576(bencher: Bencher, name: &str) {
    let (isa, pool) = (isa(name), Pool::new(1));
    let bytes = weights(DType::Q4_1, 1536, 576);
    let matrix = Matrix::new(DType::Q4_1, 1536, 576, &bytes).expect("the bytes fit");
    let packed = Packed::new(isa, &pool, &mut Memory::default(), &matrix);
    let matrix = Weights::Packed(&packed);
    let mut x = Activations::default();
    x.set(isa, &pool, &vector(576), 576, matrix.layout());
    let rows: Vec<u32> = (0..1536).filter(|row| row * 7919 % 1536 < 768).collect();
    let mut out = vec![0.0; rows.len()];
    bencher.counter(BytesCount::new(packed.bytes() * rows.len() / 1536)).bench_local(|| {
        matvec_rows(isa, &pool, &matrix, black_box(&rows), &x, &mut out);
        black_box(out[0])
    });
}

fn down(isa: Isa) -> NeuronMajor {
    down_of(isa, &mut Memory::default(), 1536)
}

fn down_of(isa: Isa, memory: &mut Memory, neurons: usize) -> NeuronMajor {
    let bytes = weights(DType::Q4_1, 576, neurons);
    let matrix = Matrix::new(DType::Q4_1, 576, neurons, &bytes).expect("the bytes fit");
    NeuronMajor::new(isa, &Pool::new(1), memory, &matrix)
}

#[divan::bench(args = isas())]
fn neuron_major_dense(bencher: Bencher, name: &str) {
    let (isa, pool) = (isa(name), Pool::new(1));
    let (down, o, mut y) = (down(isa), vector(1536), vec![0.0; 576]);
    let mut x = Activations::default();
    bencher.counter(BytesCount::new(down.bytes())).bench_local(|| {
        x.set(isa, &pool, black_box(&o), 1536, down.layout());
        down.forward(isa, &pool, &x, &mut y);
        black_box(y[0])
    });
}

/// A fifth of the neurons; the counter counts their bytes alone.
#[divan::bench(args = isas())]
fn neuron_major_fifth(bencher: Bencher, name: &str) {
    let (isa, pool) = (isa(name), Pool::new(1));
    let (down, mut y) = (down(isa), vec![0.0; 576]);
    let active: Vec<u32> = (0..1536).step_by(5).collect();
    let o = vector(active.len());
    let bytes = down.bytes() * active.len() / down.neurons();
    let mut x = Activations::default();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        x.set_sparse(isa, &pool, black_box(&active), black_box(&o), 1536, down.layout());
        down.forward(isa, &pool, &x, &mut y);
        black_box(y[0])
    });
}

/// Matrices of SmolLM2's size that no cache holds together, few of their neurons neither: 221 MB.
const COLD: usize = 400;

/// Per cent of the neurons that are off, chosen at random; time is that of all [`COLD`] matrices.
fn active(neurons: u32, off: u32) -> Vec<u32> {
    // The finaliser of MurmurHash3.
    let hash = |i: u32| {
        let i = (i ^ i >> 16).wrapping_mul(0x85eb_ca6b);
        let i = (i ^ i >> 13).wrapping_mul(0xc2b2_ae35);
        i ^ i >> 16
    };
    let mut order: Vec<u32> = (0..neurons).collect();
    order.sort_by_key(|&i| (hash(i + 1), i));
    let mut active = order[..(neurons - neurons * off / 100) as usize].to_vec();
    active.sort_unstable();
    active
}

#[divan::bench(args = OFF, consts = [1, 2], max_time = 2)]
fn cold_down_q4_1<const THREADS: usize>(bencher: Bencher, off: u32) {
    let (isa, pool, mut memory) = (Isa::detect(), Pool::new(THREADS), Memory::default());
    let bytes = weights(DType::Q4_1, 576, 1536);
    let matrix = Matrix::new(DType::Q4_1, 576, 1536, &bytes).expect("the bytes fit");
    let layers: Vec<NeuronMajor> =
        (0..COLD).map(|_| NeuronMajor::new(isa, &pool, &mut memory, &matrix)).collect();
    let (active, mut y) = (active(1536, off), vec![0.0; 576]);
    let mut o = Activations::default();
    let layout = layers[0].layout();
    o.set_sparse(isa, &pool, &active, &vector(active.len()), 1536, layout);
    bencher.bench_local(|| {
        layers.iter().for_each(|down| down.forward(isa, &pool, black_box(&o), &mut y));
        black_box(y[0])
    });
}

#[divan::bench(args = OFF, consts = [1, 2], max_time = 2)]
fn cold_up_q4_1<const THREADS: usize>(bencher: Bencher, off: u32) {
    let (isa, pool, mut memory) = (Isa::detect(), Pool::new(THREADS), Memory::default());
    let bytes = weights(DType::Q4_1, 1536, 576);
    let matrix = Matrix::new(DType::Q4_1, 1536, 576, &bytes).expect("the bytes fit");
    let layers: Vec<Packed> =
        (0..COLD).map(|_| Packed::new(isa, &pool, &mut memory, &matrix)).collect();
    let active = active(1536, off);
    let (mut x, mut out) = (Activations::default(), vec![0.0; active.len()]);
    x.set(isa, &pool, &vector(576), 576, [layers[0].layout()]);
    bencher.bench_local(|| {
        for up in &layers {
            let up = Weights::Packed(up);
            if off == 0 {
                matmul(isa, &pool, &up, black_box(&x), &mut out);
            } else {
                matvec_rows(isa, &pool, &up, &active, black_box(&x), &mut out);
            }
        }
        black_box(out[0])
    });
}

/// MLPs of Phi-2's size, without a gate: 2,560 inputs, 10,240 neurons. Several, so that no cache holds
/// them.
struct Phi2 {
    isa: Isa,
    pool: Pool,
    layers: Vec<(Packed, NeuronMajor)>,
    up: Activations,
    down: Activations,
    neurons: Vec<f32>,
    y: Vec<f32>,
}

const PHI2_HIDDEN: usize = 2560;
const PHI2_NEURONS: usize = 10_240;

impl Phi2 {
    fn new(dtype: DType, threads: usize) -> Self {
        let (isa, pool) = (Isa::detect(), Pool::new(threads));
        let mut memory = Memory::default();
        let bytes = weights(dtype, PHI2_NEURONS, PHI2_HIDDEN);
        let layers = (0..4)
            .map(|_| {
                let up = Matrix::new(dtype, PHI2_NEURONS, PHI2_HIDDEN, &bytes).expect("it fits");
                let down = Matrix::new(dtype, PHI2_HIDDEN, PHI2_NEURONS, &bytes).expect("it fits");
                (
                    Packed::new(isa, &pool, &mut memory, &up),
                    NeuronMajor::new(isa, &pool, &mut memory, &down),
                )
            })
            .collect();
        let (up, down) = (Activations::default(), Activations::default());
        let y = vec![0.0; PHI2_HIDDEN];
        Self { isa, pool, layers, up, down, neurons: Vec::new(), y }
    }

    /// One token through all layers, with the neurons of `active` alone if there are fewer.
    fn token(&mut self, x: &[f32], active: &[u32]) -> f32 {
        let Self { isa, pool, layers, up, down, neurons, y } = self;
        neurons.resize(active.len(), 0.0);
        for (up_proj, down_proj) in layers.iter() {
            let weights = Weights::Packed(up_proj);
            up.set(*isa, pool, x, PHI2_HIDDEN, weights.layout());
            if active.len() == PHI2_NEURONS {
                matmul(*isa, pool, &weights, up, neurons);
                down.set(*isa, pool, neurons, PHI2_NEURONS, down_proj.layout());
            } else {
                matvec_rows(*isa, pool, &weights, active, up, neurons);
                let layout = down_proj.layout();
                down.set_sparse(*isa, pool, active, neurons, PHI2_NEURONS, layout);
            }
            down_proj.forward(*isa, pool, down, y);
        }
        y[0]
    }
}

/// Per cent of the neurons that are off, chosen at random; time is that of four layers. Compare a line
/// with the one of 0.
fn phi2(bencher: Bencher, dtype: DType, threads: usize, off: u32) {
    let mut mlp = Phi2::new(dtype, threads);
    let x = vector(PHI2_HIDDEN);
    let active = active(PHI2_NEURONS as u32, off);
    bencher.bench_local(|| black_box(mlp.token(black_box(&x), &active)));
}

const OFF: [u32; 4] = [0, 50, 80, 90];

#[divan::bench(args = OFF, consts = [1, 2], max_time = 3)]
fn phi2_mlp_q8_0<const THREADS: usize>(bencher: Bencher, off: u32) {
    phi2(bencher, DType::Q8_0, THREADS, off);
}

#[divan::bench(args = OFF, consts = [1, 2], max_time = 3)]
fn phi2_mlp_q4_0<const THREADS: usize>(bencher: Bencher, off: u32) {
    phi2(bencher, DType::Q4_0, THREADS, off);
}
