use std::path::Path;

use fewron_model::gguf::Gguf;
use fewron_sparsity::{Plan, Policy, PolicyKind, Scope, Selection};

use super::*;

fn tiny(name: &str) -> (Arc<Model>, Tokenizer) {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/goldens/tiny");
    let gguf = Gguf::open(&goldens.join(name)).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    (Arc::new(Model::from_gguf(gguf).unwrap()), tokenizer)
}

fn measured(model: &Arc<Model>, tokenizer: &Tokenizer) -> Calibration {
    let mut last = (0, 0);
    let pool = Arc::new(Pool::new(1));
    let calibration =
        calibrate(model, &pool, tokenizer, &mut |done, total| last = (done, total)).unwrap();
    assert_eq!(last, (MAX_TOKENS, MAX_TOKENS));
    calibration
}

#[test]
fn survives_its_file() {
    for name in ["tiny-llama.gguf", "tiny-gemma3.gguf"] {
        let (model, tokenizer) = tiny(name);
        let calibration = measured(&model, &tokenizer);
        let bytes = to_bytes(&calibration);
        assert_eq!(from_bytes(&bytes, &model), Some(calibration));
        assert!(bytes.len() < 1 << 18, "{} bytes", bytes.len());
    }
}

#[test]
fn quantiles_are_few_and_say_what_a_share_lies_under() {
    let (model, tokenizer) = tiny("tiny-llama.gguf");
    let calibration = measured(&model, &tokenizer);
    for layer in calibration.gate_scores.iter().chain(&calibration.magnitudes) {
        assert!(layer.len() <= 1024 && layer.is_sorted() && layer[0] < layer[layer.len() - 1]);
    }
    let config = model.config();
    let (mlp, threshold) = (Scope::Mlp, Selection::Threshold);
    let plan = Plan::uniform(config, PolicyKind::Gate, mlp, threshold, 0.5, &calibration).unwrap();
    let mut session = Session::new(Arc::clone(&model), Arc::new(Pool::new(1)));
    let mut policy = Policy::new(&plan);
    let mut recorder = fewron_sparsity::Recorder::new(&mut policy, config);
    let tokens = tokenizer.encode(CALIBRATION_TEXT, Specials::Plain);
    session.forward(&tokens[..64], Some(&mut recorder), None, Logits::None).unwrap();
    let lists = recorder.kept.iter().flat_map(|kept| &kept.neurons);
    let kept: usize = lists.map(Vec::len).sum();
    let share = kept as f64 / (64 * config.layers.len() * config.intermediate) as f64;
    assert!((0.4..0.6).contains(&share), "{share}");
}

#[test]
fn refuses_files_that_are_damaged_or_of_another_model() {
    let (model, tokenizer) = tiny("tiny-llama.gguf");
    let bytes = to_bytes(&measured(&model, &tokenizer));
    assert!(from_bytes(&bytes[..bytes.len() - 1], &model).is_none());
    assert!(from_bytes(&[], &model).is_none());
    assert!(from_bytes(&bytes, &tiny("tiny-llama-odd.gguf").0).is_none());
    let mut nan = bytes.clone();
    let last = nan.len() - 4;
    nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(from_bytes(&nan, &model).is_none());
    let version = |v: &str| format!("\"format_version\":\"{v}\"").into_bytes();
    let at = bytes.windows(20).position(|w| w == &version("1")[..20]).unwrap();
    let mut other = bytes;
    other[at..at + 20].copy_from_slice(&version("9")[..20]);
    assert!(from_bytes(&other, &model).is_none());
}
