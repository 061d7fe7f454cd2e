//! Logits, gradients and masks of tiny random-weight models against PyTorch
//! (`fixtures/goldens/part_tiny.py`).

mod goldens;

use fewron_kernels::Isa;
use fewron_model::gguf::Gguf;
use fewron_model::{Choice, KvType, Logits, MaskSource, Model, Pool, Resume, Session, Stop, Trace};
use goldens::{Goldens, assert_close};
use std::sync::Arc;

const MODELS: [&str; 3] = ["tiny-llama", "tiny-llama-odd", "tiny-gemma3"];

fn session(name: &str, isa: Isa, threads: usize) -> Session {
    let path = goldens::folder().join("tiny").join(format!("{name}.gguf"));
    let model = Model::with_isa(Gguf::open(&path).unwrap(), isa).unwrap();
    Session::with_kv_type(Arc::new(model), Arc::new(Pool::new(threads)), KvType::F32)
}

/// Smaller keys and values cost little.
#[test]
fn kv_types_agree() {
    for name in MODELS {
        let goldens = Goldens::open(&format!("tiny/{name}.safetensors"));
        let model = session(name, Isa::detect(), 1).model().clone();
        for (kind, tolerance) in [(KvType::F16, 2e-3), (KvType::Q8, 3e-2)] {
            let pool = Arc::new(Pool::new(2));
            let mut session = Session::with_kv_type(Arc::clone(&model), pool, kind);
            let logits = session.forward(&goldens.tokens(), None, None, Logits::All).unwrap();
            assert_close(&format!("{name} {kind:?}"), logits, &goldens.f32("logits"), tolerance);
        }
    }
}

#[test]
fn logits_equal_transformers() {
    for name in MODELS {
        let goldens = Goldens::open(&format!("tiny/{name}.safetensors"));
        for isa in Isa::available() {
            let mut session = session(name, isa, 2);
            let logits = session.forward(&goldens.tokens(), None, None, Logits::All).unwrap();
            assert_close(&format!("{name} {}", isa.name()), logits, &goldens.f32("logits"), 1e-4);
        }
    }
}

#[test]
fn batch_and_threads_do_not_change_a_bit() {
    for name in MODELS {
        let tokens = Goldens::open(&format!("tiny/{name}.safetensors")).tokens();
        let mut one = session(name, Isa::detect(), 1);
        let mut all = session(name, Isa::detect(), 3);
        let batch = all.forward(&tokens, None, None, Logits::All).unwrap().to_vec();
        let vocab = one.model().config().vocab;
        for (token, expected) in tokens.iter().zip(batch.chunks_exact(vocab)) {
            let logits = one.forward(&[*token], None, None, Logits::Last).unwrap();
            assert!(logits == expected, "{name}: decode differs from prefill");
        }
    }
}

/// Keeps every third neuron, from this plus the token's index on.
struct Third(usize);

impl MaskSource for Third {
    fn neurons(&mut self, _: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        kept.extend((0..8).filter(|i| *i as usize % 3 == (self.0 + token) % 3));
        Choice::Listed
    }
}

#[test]
fn texts_of_one_batch_go_on_as_if_alone() {
    for name in MODELS {
        let tokens = Goldens::open(&format!("tiny/{name}.safetensors")).tokens();
        let mut session = session(name, Isa::detect(), 2);
        let vocab = session.model().config().vocab;
        // Texts with a common beginning, of different lengths.
        let lens = [tokens.len() - 1, 1, tokens.len() / 2];
        session.forward(&tokens, None, None, Logits::None).unwrap();
        let fork = |len| {
            let mut text = session.cache().clone();
            text.truncate(len);
            text
        };
        let mut texts = lens.map(fork);
        let steps = [[&tokens[..1], &tokens[2..7], &tokens[1..2]], [&tokens[3..4]; 3]];
        let got = steps.map(|step| {
            session
                .forward_each(&mut texts, &step, |_| Logits::All, Some(&mut Third(0)))
                .unwrap()
                .to_vec()
        });
        let added = |lane: usize| steps.iter().map(|step| step[lane].len()).sum::<usize>();
        for (lane, len) in lens.into_iter().enumerate() {
            assert_eq!(texts[lane].position(), len + added(lane));
            session.truncate(0);
            session.forward(&tokens[..len], None, None, Logits::None).unwrap();
            for (step, got) in steps.iter().zip(&got) {
                let first = step[..lane].concat().len();
                for (index, token) in step[lane].iter().enumerate() {
                    let mut masks = Third(first + index);
                    let alone = session.forward(&[*token], Some(&mut masks), None, Logits::Last);
                    let logits = &got[(first + index) * vocab..][..vocab];
                    assert!(alone.unwrap() == logits, "{name} text {lane} token {index}");
                }
            }
        }
    }
}

#[test]
fn gradients_equal_autograd() {
    for name in MODELS {
        let goldens = Goldens::open(&format!("tiny/{name}.safetensors"));
        let tokens = goldens.tokens();
        let mut session = session(name, Isa::detect(), 1);
        let mut trace = Trace::new(session.model().config());
        let (last, prompt) = tokens.split_last().unwrap();
        session.forward(prompt, None, None, Logits::None).unwrap();
        let logits =
            session.forward(&[*last], None, Some(&mut trace), Logits::Last).unwrap().to_vec();
        let grads = session.backward(&trace, &logits, &[goldens.label()], Stop::Everything);
        for layer in 0..session.model().config().layers.len() {
            let check = |what: &str, got: &[f32]| {
                let expected = goldens.f32(&format!("{what}.{layer}.grad").replace(".out.", "."));
                assert_close(&format!("{name} {what} {layer}"), got, &expected, 1e-3);
            };
            check("mlp", &grads.neurons[layer]);
            check("heads", &grads.heads[layer]);
            assert_close(
                "mlp",
                trace.neuron_outputs(layer),
                &goldens.f32(&format!("mlp.{layer}.out")),
                1e-4,
            );
            assert_close(
                "heads",
                trace.head_outputs(layer),
                &goldens.f32(&format!("heads.{layer}.out")),
                1e-4,
            );
        }
    }
}

/// Tracing and differentiating all positions at once gives each position's own gradients.
#[test]
fn batched_gradients_equal_single_ones() {
    for name in MODELS {
        let tokens = Goldens::open(&format!("tiny/{name}.safetensors")).tokens();
        let mut session = session(name, Isa::detect(), 2);
        let config = session.model().config().clone();
        let labels: Vec<u32> = tokens[1..].to_vec();
        let inputs = &tokens[..tokens.len() - 1];
        let mut all = Trace::new(&config);
        let logits = session.forward(inputs, None, Some(&mut all), Logits::All).unwrap().to_vec();
        let batched = session.backward(&all, &logits, &labels, Stop::Everything);
        session.truncate(0);
        for (t, (&token, &label)) in inputs.iter().zip(&labels).enumerate() {
            let mut trace = Trace::new(&config);
            let logits =
                session.forward(&[token], None, Some(&mut trace), Logits::Last).unwrap().to_vec();
            let single = session.backward(&trace, &logits, &[label], Stop::Everything);
            assert_eq!(single.loss[0], batched.loss[t]);
            for layer in 0..config.layers.len() {
                let rows = |all: &[f32], width: usize| all[t * width..(t + 1) * width].to_vec();
                let name = format!("{name} token {t} layer {layer}");
                let expected = rows(&batched.neurons[layer], config.intermediate);
                assert_close(&name, &single.neurons[layer], &expected, 1e-5);
                let expected = rows(&batched.heads[layer], config.query_width());
                assert_close(&name, &single.heads[layer], &expected, 1e-5);
            }
        }
    }
}

/// Gradients against central differences of the loss, by resuming with one output nudged.
#[test]
fn gradients_equal_finite_differences() {
    for name in MODELS {
        let goldens = Goldens::open(&format!("tiny/{name}.safetensors"));
        let tokens = goldens.tokens();
        let label = goldens.label();
        let mut session = session(name, Isa::detect(), 1);
        let config = session.model().config().clone();
        let mut trace = Trace::new(&config);
        let (last, prompt) = tokens.split_last().unwrap();
        session.forward(prompt, None, None, Logits::None).unwrap();
        let logits =
            session.forward(&[*last], None, Some(&mut trace), Logits::Last).unwrap().to_vec();
        let grads = session.backward(&trace, &logits, &[label], Stop::Everything);
        let step = 2e-2;
        for layer in 0..config.layers.len() {
            let mut nudged = |outputs: &[f32], unit: usize, neurons: bool| {
                let mut rows = [outputs, outputs].concat();
                rows[unit] += step;
                rows[outputs.len() + unit] -= step;
                let from = if neurons { Resume::Neurons(&rows) } else { Resume::Heads(&rows) };
                let (changed, logits) = session.resume(&trace, 0, layer, from);
                let logits = logits.to_vec();
                let losses = session
                    .backward(
                        &changed,
                        &logits,
                        &[label; 2],
                        Stop::Neurons(config.layers.len() - 1),
                    )
                    .loss;
                (losses[0] - losses[1]) / (2.0 * step)
            };
            for unit in [0, 7, 23] {
                let got = nudged(trace.neuron_outputs(layer), unit, true);
                let expected = grads.neurons[layer][unit];
                let scale = grads.neurons[layer].iter().fold(0.0f32, |m, g| m.max(g.abs()));
                assert!(
                    (got - expected).abs() < 0.02 * scale,
                    "{name} mlp {layer} {unit}: {got} {expected}"
                );
                let got = nudged(trace.head_outputs(layer), unit, false);
                let expected = grads.heads[layer][unit];
                let scale = grads.heads[layer].iter().fold(0.0f32, |m, g| m.max(g.abs()));
                assert!(
                    (got - expected).abs() < 0.02 * scale,
                    "{name} head {layer} {unit}: {got} {expected}"
                );
            }
        }
    }
}

struct Lists {
    neurons: Vec<Vec<u32>>,
    heads: Vec<Vec<u32>>,
    by_output: bool,
}

impl MaskSource for Lists {
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        if self.by_output {
            return Choice::ByOutput;
        }
        self.select_neurons(layer, token, &[], kept);
        Choice::Listed
    }

    fn select_neurons(&mut self, layer: usize, _: usize, _: &[f32], kept: &mut Vec<u32>) {
        kept.extend(&self.neurons[layer]);
    }

    fn heads(&mut self, layer: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        kept.extend(&self.heads[layer]);
        Choice::Listed
    }
}

/// The law: skipping a neuron equals running dense with its output set to zero.
#[test]
fn masked_logits_equal_transformers_and_skipping_equals_zeroing() {
    for name in MODELS {
        let goldens = Goldens::open(&format!("tiny/{name}.safetensors"));
        let tokens = goldens.tokens();
        let (last, prompt) = tokens.split_last().unwrap();
        for isa in Isa::available() {
            let mut session = session(name, isa, 2);
            let layers = session.model().config().layers.len();
            let lists = |kind: &str| {
                (0..layers).map(|l| goldens.u32(&format!("mask.{kind}.{l}"))).collect()
            };
            let mut masks =
                Lists { neurons: lists("mlp"), heads: lists("heads"), by_output: false };
            session.forward(prompt, None, None, Logits::None).unwrap();
            let mut run = |masks: &mut Lists| {
                session.truncate(prompt.len());
                session.forward(&[*last], Some(masks), None, Logits::Last).unwrap().to_vec()
            };
            let skipped = run(&mut masks);
            assert_close(name, &skipped, &goldens.f32("masked.logits"), 1e-4);
            masks.by_output = true;
            assert!(
                run(&mut masks) == skipped,
                "{name} {}: skipping differs from zeroing",
                isa.name()
            );
        }
    }
}

#[test]
fn a_mask_that_keeps_everything_changes_nothing() {
    for name in MODELS {
        let tokens = Goldens::open(&format!("tiny/{name}.safetensors")).tokens();
        let mut session = session(name, Isa::detect(), 1);
        let config = session.model().config().clone();
        let everything = |n: usize| vec![(0..n as u32).collect::<Vec<_>>(); config.layers.len()];
        let mut masks = Lists {
            neurons: everything(config.intermediate),
            heads: everything(config.heads),
            by_output: false,
        };
        let dense = session.forward(&tokens, None, None, Logits::All).unwrap().to_vec();
        for (t, token) in tokens.iter().enumerate() {
            session.truncate(t);
            let sparse = session.forward(&[*token], Some(&mut masks), None, Logits::Last).unwrap();
            assert!(sparse == &dense[t * config.vocab..(t + 1) * config.vocab], "{name}");
        }
    }
}
