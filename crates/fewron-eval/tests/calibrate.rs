//! Plans from calibration, on a small trained model and the built-in text.

use fewron_eval::calibrate::{
    CalibrateError, Calibrator, Made, Part, Settings, Windows, WindowsError, openings, write_on,
};
use fewron_eval::sweep::Text;
use fewron_model::hf::HfDirectory;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{Model, Pool, Session, Source};
use fewron_sparsity::plan::file::to_bytes;
use fewron_sparsity::plan::record::{CalibrationRecord, PlanModel, PlanRecord};
use fewron_sparsity::{Cut, PolicyKind, Selection, Weighting};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn tiny(name: &str) -> (Arc<Model>, Tokenizer) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny").join(name);
    let directory = HfDirectory::open(&path).unwrap();
    let tokenizer = Tokenizer::from_hf(&directory).unwrap();
    (Arc::new(Model::from_source(Source::HuggingFace(directory)).unwrap()), tokenizer)
}

fn settings(policy: PolicyKind) -> Settings {
    Settings {
        policy,
        selection: Selection::Threshold,
        compensation: 32,
        predictor: 32,
        uniform: false,
        single_stage: false,
        heads: false,
        weighting: Some(Weighting::Rms),
        traced_tokens: 64,
        seed: 3,
    }
}

fn windows(model: &Model, tokenizer: &Tokenizer) -> Windows {
    Windows::new(vec![Part::of_text("builtin", tokenizer, model.config().context, 1_800).unwrap()])
        .unwrap()
}

fn make(
    (model, tokenizer): &(Arc<Model>, Tokenizer),
    settings: Settings,
    sparsity: f32,
    threads: usize,
) -> Result<Made, CalibrateError> {
    let windows = windows(model, tokenizer);
    let (pool, stop) = (Arc::new(Pool::new(threads)), AtomicBool::new(false));
    let mut calibrator =
        Calibrator::new(Arc::clone(model), pool, &windows, settings, &|_, _, _| {}, &stop);
    let basis = calibrator.basis(sparsity)?;
    calibrator.plan(&basis, sparsity)
}

#[test]
fn a_plan_keeps_its_share_and_compensation_pays() {
    let tiny = tiny("tiny-llama");
    let with = |sparsity| make(&tiny, settings(PolicyKind::Gate), sparsity, 1).unwrap().held_out;
    let (low, high) = (with(0.3), with(0.7));
    for (held_out, sparsity) in [(&low, 0.3), (&high, 0.7)] {
        let off = 1.0 - held_out.active;
        assert!((off - sparsity).abs() < 0.06, "{off} for {sparsity}");
        assert!(held_out.bytes_per_token < held_out.dense_bytes_per_token);
    }
    assert!(low.kl < high.kl, "{} {}", low.kl, high.kl);
    let bare = Settings { compensation: 0, ..settings(PolicyKind::Gate) };
    let without = make(&tiny, bare, 0.7, 1).unwrap();
    assert!(without.plan.layers.iter().all(|layer| layer.compensation.is_none()));
    assert!(high.kl < without.held_out.kl, "{} {}", high.kl, without.held_out.kl);
}

/// Two stages know more than one at the same share.
#[test]
fn the_second_stage_pays() {
    let tiny = tiny("tiny-llama");
    let two = make(&tiny, settings(PolicyKind::Gate), 0.5, 1).unwrap();
    let single = Settings { single_stage: true, ..settings(PolicyKind::Gate) };
    let one = make(&tiny, single, 0.5, 1).unwrap();
    assert!(two.held_out.kl < one.held_out.kl, "{} {}", two.held_out.kl, one.held_out.kl);
    assert!((two.held_out.active - one.held_out.active).abs() < 0.03);
}

#[test]
fn every_policy_that_needs_no_training_makes_a_plan() {
    let tiny = tiny("tiny-llama");
    for policy in [PolicyKind::Static, PolicyKind::Prompt, PolicyKind::Input, PolicyKind::Magnitude]
    {
        let made = make(&tiny, settings(policy), 0.4, 1).unwrap();
        let h = made.held_out;
        assert!(h.kl > 0.0 && h.kl < 3.0 && h.tokens > 100, "{policy} {h:?}");
        assert!((h.active - 0.6).abs() < 0.06, "{policy}: {}", h.active);
    }
}

fn bytes(made: &Made) -> Vec<u8> {
    let model = PlanModel {
        name: String::new(),
        sha256: String::new(),
        quantized: None,
        layers: 1,
        hidden: 1,
        intermediate: 1,
        heads: 1,
    };
    let calibration =
        CalibrationRecord { data: String::new(), sha256: String::new(), tokens: 0, seed: 0 };
    let record = PlanRecord {
        version: String::new(),
        model,
        policy: made.plan.policy,
        sparsity: 0.0,
        selection: String::new(),
        weighting: String::new(),
        compensation: 0,
        predictor: 0,
        calibration,
        recall: None,
        held_out: Some(made.held_out),
        compared: Vec::new(),
        layers: made.layers.clone(),
        recovery: None,
    };
    to_bytes(&made.plan, &record, fewron_kernels::Isa::detect())
}

#[test]
fn plans_do_not_depend_on_threads() {
    let tiny = tiny("tiny-llama");
    let all = Settings { heads: true, ..settings(PolicyKind::Gate) };
    let one = make(&tiny, all.clone(), 0.5, 1).unwrap();
    let three = make(&tiny, all, 0.5, 3).unwrap();
    assert!(bytes(&one) == bytes(&three));
}

#[test]
fn uniform_shares_and_counts() {
    let tiny = tiny("tiny-llama");
    let counted = Settings {
        selection: Selection::Layer,
        uniform: true,
        single_stage: true,
        ..settings(PolicyKind::Gate)
    };
    let made = make(&tiny, counted, 0.5, 1).unwrap();
    let half = tiny.0.config().intermediate / 2;
    assert!(made.plan.layers.iter().all(|layer| layer.cut == Cut::Best(half)));
    assert!(made.plan.layers.iter().all(|layer| !layer.frequency.is_empty()));
}

/// What is written side by side is what each text alone would be.
#[test]
fn a_model_writes_on_by_its_seed() {
    let (model, tokenizer) = tiny("tiny-llama");
    let mut session = Session::new(Arc::clone(&model), Arc::new(Pool::new(2)));
    let (begun, most) = openings(&tokenizer, model.config().context, 1_500);
    let begun: Vec<&[u32]> = begun.iter().map(Vec::as_slice).collect();
    assert!(begun.len() > 2 && begun.iter().all(|opening| opening.len() == begun[0].len()));
    struct Endless;
    impl Text for Endless {
        fn decode(&self, _: &[u32]) -> String {
            String::new()
        }
        fn is_end(&self, _: u32) -> bool {
            false
        }
    }
    let mut written = |openings: &[&[u32]], seed: u64| {
        write_on(&mut session, &Endless, openings, most, seed, &mut |_, _| true).unwrap()
    };
    let (texts, other) = (written(&begun, 0), written(&begun, 1));
    for (window, opening) in texts.iter().zip(&begun) {
        assert_eq!((&window.tokens[..window.dense], window.sparse()), (*opening, most));
    }
    assert!(texts.iter().zip(&other).all(|(a, b)| a != b), "seeds differ");
    assert_eq!(written(&begun[..1], 0)[0], texts[0], "the first text, alone");
}

#[test]
fn what_cannot_be_made_is_refused() {
    let phi = tiny("tiny-phi");
    let error = make(&phi, settings(PolicyKind::Gate), 0.5, 1).unwrap_err().to_string();
    assert!(error.contains("use predict"), "{error}");

    let (model, tokenizer) = tiny("tiny-llama");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("short.txt");
    std::fs::write(&file, "Too short.").unwrap();
    let file = file.to_str().unwrap();
    let error = Part::of_text(file, &tokenizer, 256, 1_000)
        .and_then(|part| Windows::new(vec![part]))
        .unwrap_err();
    assert!(matches!(error, WindowsError::TooShort { .. }));
    assert!(error.to_string().contains("at least 512 are needed"), "{error}");

    let windows = windows(&model, &tokenizer);
    let (pool, stop) = (Arc::new(Pool::new(1)), AtomicBool::new(true));
    let settings = settings(PolicyKind::Gate);
    let mut calibrator = Calibrator::new(model, pool, &windows, settings, &|_, _, _| {}, &stop);
    assert!(matches!(calibrator.basis(0.5), Err(CalibrateError::Interrupted)));
}
