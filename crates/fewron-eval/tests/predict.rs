//! Policy `predict` from text to plan file, on a tiny trained model without gates.

use fewron_eval::calibrate::{CalibrateError, Calibrator, Made, Part, Settings, Windows};
use fewron_model::hf::HfDirectory;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{Model, Pool};
use fewron_sparsity::plan::file::{from_bytes, to_bytes};
use fewron_sparsity::plan::record::{CalibrationRecord, PlanModel, PlanRecord};
use fewron_sparsity::{Plan, PolicyKind, Selection};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SPARSITY: f32 = 0.5;

fn directory() -> HfDirectory {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tiny-phi");
    HfDirectory::open(&path).unwrap()
}

fn model() -> Arc<Model> {
    Arc::new(Model::from_source(directory().into()).unwrap())
}

fn settings() -> Settings {
    Settings {
        policy: PolicyKind::Predict,
        selection: Selection::Threshold,
        compensation: 0,
        predictor: 32,
        uniform: true,
        single_stage: false,
        heads: false,
        weighting: None,
        traced_tokens: 32,
        seed: 1,
    }
}

/// A plan from the built-in text; told to stop at the step `stop_at`.
fn calibrate(model: &Arc<Model>, stop_at: &str) -> Result<(Made, usize), CalibrateError> {
    let tokenizer = Tokenizer::from_hf(&directory()).unwrap();
    let windows =
        Windows::new(vec![Part::of_text("builtin", &tokenizer, 512, 2048).unwrap()]).unwrap();
    let stop = AtomicBool::new(false);
    let progress = |what: &str, _: usize, _: usize| {
        if what == stop_at {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let (model, pool) = (Arc::clone(model), Arc::new(Pool::new(2)));
    let mut calibrator = Calibrator::new(model, pool, &windows, settings(), &progress, &stop);
    let basis = calibrator.basis(SPARSITY)?;
    Ok((calibrator.plan(&basis, SPARSITY)?, windows.tokens()))
}

fn record(model: &Model, made: &Made, tokens: usize) -> PlanRecord {
    let config = model.config();
    PlanRecord {
        version: "test".into(),
        model: PlanModel {
            name: "tiny-phi".into(),
            sha256: "0".repeat(64),
            quantized: None,
            layers: config.layers.len(),
            hidden: config.hidden,
            intermediate: config.intermediate,
            heads: config.heads,
        },
        policy: PolicyKind::Predict,
        sparsity: SPARSITY,
        selection: "threshold".into(),
        weighting: String::new(),
        compensation: 0,
        predictor: 32,
        calibration: CalibrationRecord {
            data: "builtin".into(),
            sha256: "0".repeat(64),
            tokens,
            seed: 1,
        },
        held_out: Some(made.held_out),
        recall: made.recall,
        compared: Vec::new(),
        layers: made.layers.clone(),
        recovery: None,
    }
}

#[test]
fn a_plan_of_predictors_from_text_to_file() {
    let model = model();
    let (made, tokens) = calibrate(&model, "").unwrap();
    assert!((made.held_out.active - 0.5).abs() < 0.05, "{}", made.held_out.active);
    // Half of the neurons would be found where nothing is known.
    let recall = made.recall.unwrap();
    assert!(recall > 0.6 && recall < 1.0, "{recall}");
    assert!(made.held_out.bytes_per_token < made.held_out.dense_bytes_per_token);
    assert!(made.held_out.kl > 0.0 && made.held_out.agreement > 0.3, "{:?}", made.held_out);

    let record = record(&model, &made, tokens);
    let bytes = to_bytes(&made.plan, &record, model.isa());
    let (isa, pool) = (model.isa(), Pool::new(1));
    let (plan, again) = from_bytes(&bytes, &record.model, model.config(), isa, &pool).unwrap();
    assert!((again.recall.unwrap() - recall).abs() < 1e-12);
    assert_same(&plan, &made.plan, &model);
    // The same seed trains the same predictors, whatever the threads do.
    assert_same(&calibrate(&model, "").unwrap().0.plan, &made.plan, &model);
}

/// Cuts and predictors are the same, to the last bit.
fn assert_same(a: &Plan, b: &Plan, model: &Model) {
    assert_eq!(a.layers.len(), b.layers.len());
    for (a, b) in a.layers.iter().zip(&b.layers) {
        let (map_a, map_b) = (a.predictor.as_ref().unwrap(), b.predictor.as_ref().unwrap());
        assert_eq!((a.cut, map_a.rank()), (b.cut, 32));
        assert!(map_a.weights(model.isa()) == map_b.weights(model.isa()));
    }
}

#[test]
fn training_can_be_interrupted() {
    for step in ["training predictors", "recall"] {
        assert!(matches!(calibrate(&model(), step), Err(CalibrateError::Interrupted)), "{step}");
    }
}
