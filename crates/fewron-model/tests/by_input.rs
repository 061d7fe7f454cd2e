//! Models whose matrices all lie by input, against those that lie by row.

mod goldens;

use fewron_kernels::DType;
use fewron_model::gguf::{Gguf, Recipe};
use fewron_model::hf::HfDirectory;
use fewron_model::sampler::argmax;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{
    Choice, InputSite, KvType, LoadOptions, Logits, MaskSource, Model, Pool, Session, Source, Stop,
    Trace,
};
use goldens::{Goldens, assert_close};
use std::sync::Arc;

const TRAINED: [&str; 6] =
    ["tiny-gemma3", "tiny-llama", "tiny-mobillama", "tiny-opt", "tiny-phi", "tiny-qwen3"];

fn session(source: Source, by_input: bool, dtype: Option<DType>) -> Session {
    let recipe = dtype.map(|dtype| Recipe { dtype, output: None, embedding: None });
    let options = LoadOptions { recipe, by_input, ..LoadOptions::default() };
    let model = Model::load(source, &options, &mut |_, _| {}).unwrap();
    Session::with_kv_type(Arc::new(model), Arc::new(Pool::new(2)), KvType::F32)
}

fn trained(name: &str, by_input: bool, dtype: Option<DType>) -> Session {
    let directory = goldens::folder().join("../../models/tiny").join(name);
    session(HfDirectory::open(&directory).unwrap().into(), by_input, dtype)
}

fn prompt(name: &str) -> Vec<u32> {
    let goldens = Goldens::open(&format!("families/{name}.safetensors"));
    goldens.i64("prompt").iter().map(|&t| t as u32).collect()
}

/// Logits of a prompt and of the text that follows it.
fn greedy(session: &mut Session, prompt: &[u32], steps: usize) -> (Vec<f32>, Vec<u32>) {
    let mut logits = session.forward(prompt, None, None, Logits::All).unwrap().to_vec();
    let vocab = session.model().config().vocab;
    let mut text = vec![argmax(&logits[logits.len() - vocab..])];
    for _ in 0..steps {
        let last = *text.last().unwrap();
        let next = session.forward(&[last], None, None, Logits::Last).unwrap();
        logits.extend_from_slice(next);
        text.push(argmax(next));
    }
    (logits, text)
}

/// Float weights, and quantised ones, with how far logits may lie apart. A sum that is rounded in
/// another way can turn an 8-bit input of the next product up instead of down, which weighs far more
/// than the rounding.
const TYPES: [(Option<DType>, f32); 3] =
    [(None, 1e-4), (Some(DType::Q8_0), 3e-2), (Some(DType::Q4_1), 3e-2)];

#[test]
fn results_are_those_of_matrices_by_row() {
    for name in TRAINED {
        for (dtype, tolerance) in TYPES {
            let run = |by_input| greedy(&mut trained(name, by_input, dtype), &prompt(name), 16);
            let (expected, text) = run(false);
            let (got, same) = run(true);
            let what = format!("{name} as {dtype:?}");
            assert_close(&what, &got, &expected, tolerance);
            assert_eq!(same, text, "{what}");
        }
    }
}

#[test]
fn a_quantised_file_by_input() {
    let Some(path) = goldens::real_file("smollm2") else { return };
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
    let tokens = tokenizer.encode_prompt("The capital of France is Paris. The capital of Spain is");
    let run = |by_input| {
        greedy(&mut session(Gguf::open(&path).unwrap().into(), by_input, None), &tokens, 3)
    };
    let ((expected, text), (got, same)) = (run(false), run(true));
    assert_eq!(same, text);
    // Either lies as far from the dequantised model: 0.2 in the mean, 1.1 at most.
    assert_close("smollm2", &got, &expected, 5e-2);
}

/// Sets every third channel of every input to 0, and keeps the neurons of a list.
struct Thin {
    kept: Option<Vec<u32>>,
}

impl MaskSource for Thin {
    fn neurons(&mut self, _: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        self.kept.as_ref().map_or(Choice::Dense, |list| {
            kept.extend(list);
            Choice::Listed
        })
    }

    fn thins(&mut self, _: usize) -> bool {
        true
    }

    fn thin(&mut self, site: InputSite, layer: usize, _: usize, values: &mut [f32]) {
        let first = (layer + site as usize) % 3;
        values.iter_mut().skip(first).step_by(3).for_each(|x| *x = 0.0);
    }
}

/// A single token skips what a batch multiplies with 0.
#[test]
fn skipped_channels_equal_zeroed_ones() {
    for name in TRAINED {
        for (dtype, tolerance) in TYPES {
            let tokens = prompt(name);
            for kept in [None, Some((0..48).step_by(2).collect())] {
                let run = |by_input: bool, parts: usize| {
                    let mut session = trained(name, by_input, dtype);
                    let mut masks = Thin { kept: kept.clone() };
                    let parts = tokens.chunks(parts).map(|part| {
                        session.forward(part, Some(&mut masks), None, Logits::All).unwrap().to_vec()
                    });
                    parts.collect::<Vec<_>>().concat()
                };
                let (batch, single) = (run(true, tokens.len()), run(true, 1));
                assert!(batch == single, "{name} as {dtype:?}: skipping differs from zero");
                assert_close(name, &single, &run(false, 1), tolerance);
                assert!(run(false, 1) == run(false, tokens.len()), "{name} as {dtype:?}");
            }
        }
    }
}

#[test]
fn gradients_are_those_of_matrices_by_row() {
    for name in TRAINED {
        let run = |by_input| {
            let mut session = trained(name, by_input, None);
            let mut trace = Trace::new(session.model().config());
            let tokens = prompt(name);
            let logits = session.forward(&tokens, None, Some(&mut trace), Logits::All).unwrap();
            let logits = logits.to_vec();
            session.backward(&trace, &logits, &tokens, Stop::Everything)
        };
        let (expected, got) = (run(false), run(true));
        for layer in 0..expected.neurons.len() {
            assert_close(name, &got.neurons[layer], &expected.neurons[layer], 1e-3);
            assert_close(name, &got.heads[layer], &expected.heads[layer], 1e-3);
        }
    }
}
