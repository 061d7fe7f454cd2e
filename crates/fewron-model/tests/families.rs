//! Every model family against transformers, from Hugging Face directories: random models of awkward
//! shapes (`fixtures/goldens/part_families.py`) and trained ones (`part_tiny_trained.py`).

mod goldens;

use fewron_kernels::Isa;
use fewron_model::hf::HfDirectory;
use fewron_model::sampler::argmax;
use fewron_model::{Choice, KvType, Logits, MaskSource, Model, Pool, Session, Source, Stop, Trace};
use goldens::{Goldens, assert_close};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directories, and the goldens they share.
const RANDOM: [(&str, &str); 12] = [
    ("gemma3", "gemma3"),
    ("gemma3-bf16", "gemma3-bf16"),
    ("llama-bias", "llama-bias"),
    ("llama-f16", "llama-f16"),
    ("llama3-scaled", "llama3-scaled"),
    ("mobillama", "mobillama"),
    ("mobillama-repeated", "mobillama"),
    ("opt", "opt"),
    ("phi", "phi"),
    ("phi-gqa", "phi-gqa"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
];

const TRAINED: [&str; 6] =
    ["tiny-gemma3", "tiny-llama", "tiny-mobillama", "tiny-opt", "tiny-phi", "tiny-qwen3"];

fn families() -> PathBuf {
    goldens::folder().join("families")
}

fn session(directory: &Path, isa: Isa) -> Session {
    let source = Source::HuggingFace(HfDirectory::open(directory).unwrap());
    let model = Model::with_isa(source, isa).unwrap();
    Session::with_kv_type(Arc::new(model), Arc::new(Pool::new(2)), KvType::F32)
}

fn random(name: &str, isa: Isa) -> Session {
    session(&families().join(name), isa)
}

fn trained(name: &str, isa: Isa) -> Session {
    session(&goldens::folder().join("../../models/tiny").join(name), isa)
}

#[test]
fn logits_equal_transformers() {
    for (name, file) in RANDOM {
        let goldens = Goldens::open(&format!("families/{file}.safetensors"));
        for isa in Isa::available() {
            let mut session = random(name, isa);
            let logits = session.forward(&goldens.tokens(), None, None, Logits::All).unwrap();
            let what = format!("{name} {}", isa.name());
            assert_close(&what, logits, &goldens.f32("logits"), 1e-4);
        }
    }
}

#[test]
fn decode_equals_prefill() {
    for (name, file) in RANDOM {
        let tokens = Goldens::open(&format!("families/{file}.safetensors")).tokens();
        let (mut one, mut all) = (random(name, Isa::detect()), random(name, Isa::detect()));
        let vocab = one.model().config().vocab;
        let batch = all.forward(&tokens, None, None, Logits::All).unwrap().to_vec();
        for (token, expected) in tokens.iter().zip(batch.chunks_exact(vocab)) {
            let logits = one.forward(&[*token], None, None, Logits::Last).unwrap();
            assert!(logits == expected, "{name}: decode differs from prefill");
        }
    }
}

/// Outputs and gradients of the last position.
fn check_gradients(name: &str, goldens: &Goldens, session: &mut Session) {
    let tokens = goldens.tokens();
    let mut trace = Trace::new(session.model().config());
    let (last, prompt) = tokens.split_last().unwrap();
    session.forward(prompt, None, None, Logits::None).unwrap();
    let logits = session.forward(&[*last], None, Some(&mut trace), Logits::Last).unwrap().to_vec();
    let grads = session.backward(&trace, &logits, &[goldens.label()], Stop::Everything);
    for layer in 0..session.model().config().layers.len() {
        let check = |what: &str, got: &[f32], tolerance: f32| {
            let expected = goldens.f32(&what.replace('N', &layer.to_string()));
            assert_close(&format!("{name} {what} {layer}"), got, &expected, tolerance);
        };
        check("mlp.N.out", trace.neuron_outputs(layer), 1e-4);
        check("heads.N.out", trace.head_outputs(layer), 1e-4);
        check("mlp.N.grad", &grads.neurons[layer], 1e-3);
        check("heads.N.grad", &grads.heads[layer], 1e-3);
    }
}

#[test]
fn gradients_equal_autograd() {
    for (name, file) in RANDOM {
        let goldens = Goldens::open(&format!("families/{file}.safetensors"));
        check_gradients(name, &goldens, &mut random(name, Isa::detect()));
    }
}

/// The goldens' masks, for the last position.
struct Kept<'a> {
    goldens: &'a Goldens,
    listed: bool,
}

impl MaskSource for Kept<'_> {
    fn neurons(&mut self, layer: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        if !self.listed {
            return Choice::ByOutput;
        }
        kept.extend(self.goldens.u32(&format!("mask.mlp.{layer}")));
        Choice::Listed
    }

    fn select_neurons(&mut self, layer: usize, _: usize, _: &[f32], kept: &mut Vec<u32>) {
        kept.extend(self.goldens.u32(&format!("mask.mlp.{layer}")));
    }

    fn heads(&mut self, layer: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        kept.extend(self.goldens.u32(&format!("mask.heads.{layer}")));
        Choice::Listed
    }
}

#[test]
fn masked_logits_equal_transformers_and_skipping_equals_zero() {
    for (name, file) in RANDOM {
        let goldens = Goldens::open(&format!("families/{file}.safetensors"));
        let tokens = goldens.tokens();
        let (last, prompt) = tokens.split_last().unwrap();
        let run = |listed: bool| {
            let mut session = random(name, Isa::detect());
            session.forward(prompt, None, None, Logits::None).unwrap();
            let mut masks = Kept { goldens: &goldens, listed };
            session.forward(&[*last], Some(&mut masks), None, Logits::Last).unwrap().to_vec()
        };
        let (skipped, zeroed) = (run(true), run(false));
        assert_close(name, &skipped, &goldens.f32("masked.logits"), 1e-4);
        assert!(skipped == zeroed, "{name}: skipping differs from zero");
    }
}

#[test]
fn trained_models_equal_transformers() {
    for name in TRAINED {
        let goldens = Goldens::open(&format!("families/{name}.safetensors"));
        let tokens = goldens.tokens();
        let mut session = trained(name, Isa::detect());
        let logits = session.forward(&tokens, None, None, Logits::All).unwrap();
        let expected = goldens.f32("logits.last8");
        let got = &logits[logits.len() - expected.len()..];
        let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "{name}: logits differ by {worst:e}");
        session.truncate(0);
        check_gradients(name, &goldens, &mut session);
    }
}

#[test]
fn trained_models_write_the_text_that_transformers_writes() {
    for name in TRAINED {
        let goldens = Goldens::open(&format!("families/{name}.safetensors"));
        let prompt: Vec<u32> = goldens.i64("prompt").iter().map(|&t| t as u32).collect();
        let expected: Vec<u32> = goldens.i64("greedy").iter().map(|&t| t as u32).collect();
        let mut session = trained(name, Isa::detect());
        let mut next = argmax(session.forward(&prompt, None, None, Logits::Last).unwrap());
        let mut text = Vec::new();
        while text.len() < expected.len() {
            text.push(next);
            next = argmax(session.forward(&[next], None, None, Logits::Last).unwrap());
        }
        assert_eq!(text, expected, "{name}");
    }
}

#[test]
fn layers_share_the_mlp_that_the_file_gives_to_all() {
    let single = random("mobillama", Isa::detect());
    let repeated = random("mobillama-repeated", Isa::detect());
    let same = |session: &Session| {
        let model = session.model();
        std::ptr::eq(model.down_proj(0), model.down_proj(2))
    };
    assert!(same(&single) && same(&repeated));
    assert!(!same(&random("qwen3", Isa::detect())));
}
