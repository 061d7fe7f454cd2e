//! Speed of the engine on SmolLM2-135M: prefill, decode, masked decode and backward.
//!
//! `cargo bench -p fewron-model` (needs the file in the cache, see `fewron pull smollm2`, or named by
//! `FEWRON_SMOLLM2`).

use divan::Bencher;
use divan::counter::ItemsCount;
use fewron_model::gguf::Gguf;
use fewron_model::{
    Choice, InputSite, LoadOptions, Logits, MaskSource, Model, Pool, Session, Stop, Trace,
};
use std::sync::{Arc, OnceLock};

fn main() {
    divan::main();
}

fn session(threads: usize) -> Session {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    session_of(&MODEL, false, threads)
}

/// With all matrices by input.
fn session_by_input(threads: usize) -> Session {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    session_of(&MODEL, true, threads)
}

fn session_of(model: &OnceLock<Arc<Model>>, by_input: bool, threads: usize) -> Session {
    let model = model.get_or_init(|| {
        let path =
            std::env::var_os("FEWRON_SMOLLM2").map(std::path::PathBuf::from).unwrap_or_else(|| {
                let home = std::env::var("HOME").expect("HOME is set");
                format!("{home}/.cache/fewron/models/SmolLM2-135M-Instruct.Q4_1.gguf").into()
            });
        let gguf = Gguf::open(&path).expect("the model is in the cache");
        let options = LoadOptions { by_input, ..LoadOptions::default() };
        Arc::new(Model::load(gguf.into(), &options, &mut |_, _| {}).expect("it loads"))
    });
    Session::new(Arc::clone(model), Arc::new(Pool::new(threads)))
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 300 + i * 37 % 20_000).collect()
}

/// Keeps this share of the neurons, in percent, at random; another choice for each layer and call.
struct Share(u64, u64);

impl MaskSource for Share {
    fn neurons(&mut self, _: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        for neuron in 0..1536 {
            // xorshift64
            self.1 ^= self.1 << 13;
            self.1 ^= self.1 >> 7;
            self.1 ^= self.1 << 17;
            if (self.1 >> 32) % 100 < self.0 {
                kept.push(neuron);
            }
        }
        Choice::Listed
    }
}

#[divan::bench(args = [1, 2], sample_count = 10)]
fn prefill_128(bencher: Bencher, threads: usize) {
    let mut session = session(threads);
    let tokens = tokens(128);
    bencher.counter(ItemsCount::new(128usize)).bench_local(|| {
        session.truncate(0);
        session.forward(&tokens, None, None, Logits::Last).unwrap()[0]
    });
}

#[divan::bench(args = [1, 2], sample_count = 10)]
fn decode_32(bencher: Bencher, threads: usize) {
    let mut session = session(threads);
    session.forward(&tokens(40), None, None, Logits::Last).unwrap();
    bencher.counter(ItemsCount::new(32usize)).bench_local(|| {
        session.truncate(40);
        for token in tokens(32) {
            session.forward(&[token], None, None, Logits::Shortlist(0.0)).unwrap();
        }
    });
}

/// On one thread, with this share of the neurons in percent.
#[divan::bench(args = [20, 50], sample_count = 10)]
fn decode_32_masked(bencher: Bencher, percent: u64) {
    let (mut session, mut masks) = (session(1), Share(percent, 88_172_645_463_325_252));
    session.forward(&tokens(40), None, None, Logits::Last).unwrap();
    bencher.counter(ItemsCount::new(32usize)).bench_local(|| {
        session.truncate(40);
        for token in tokens(32) {
            session.forward(&[token], Some(&mut masks), None, Logits::Shortlist(0.0)).unwrap();
        }
    });
}

/// Sets this share of every input's channels to 0, those of the smallest values, in percent.
struct Smallest(usize, Vec<f32>);

impl MaskSource for Smallest {
    fn thins(&mut self, _: usize) -> bool {
        self.0 > 0
    }

    fn thin(&mut self, _: InputSite, _: usize, _: usize, values: &mut [f32]) {
        self.1.clear();
        self.1.extend(values.iter().map(|x| x.abs()));
        let off = values.len() * self.0 / 100;
        let (_, &mut least, _) = self.1.select_nth_unstable_by(off, f32::total_cmp);
        values.iter_mut().filter(|x| x.abs() < least).for_each(|x| *x = 0.0);
    }
}

/// On one thread, with all matrices by input and this share of the channels off, in percent.
#[divan::bench(args = [0, 50, 80], sample_count = 10)]
fn decode_32_by_input(bencher: Bencher, percent: usize) {
    let (mut session, mut masks) = (session_by_input(1), Smallest(percent, Vec::new()));
    session.forward(&tokens(40), None, None, Logits::Last).unwrap();
    bencher.counter(ItemsCount::new(32usize)).bench_local(|| {
        session.truncate(40);
        for token in tokens(32) {
            session.forward(&[token], Some(&mut masks), None, Logits::Shortlist(0.0)).unwrap();
        }
    });
}

#[divan::bench(args = [1, 31], sample_count = 5)]
fn backward(bencher: Bencher, steps: usize) {
    let mut session = session(1);
    session.forward(&tokens(40), None, None, Logits::Last).unwrap();
    let mut trace = Trace::new(session.model().config());
    let inputs = tokens(steps);
    let logits = session.forward(&inputs, None, Some(&mut trace), Logits::All).unwrap().to_vec();
    bencher
        .counter(ItemsCount::new(steps))
        .bench_local(|| session.backward(&trace, &logits, &inputs, Stop::Everything));
}
