//! Sweeps on a tiny random-weight model: what must hold whatever the numbers are.

use fewron_eval::record::{DataRecord, ModelRecord, Settings, SweepRun};
use fewron_eval::sweep::{Masks, Prompt, RuntimeMask, Sweep, SweepConfig, SweepError, Text};
use fewron_model::Model;
use fewron_model::gguf::Gguf;
use fewron_sparsity::{Calibration, Metric, Plan, PolicyKind, Scope, Selection};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

struct Numbers;

impl Text for Numbers {
    fn decode(&self, tokens: &[u32]) -> String {
        tokens.iter().map(|t| format!("w{t} ")).collect()
    }

    fn is_end(&self, _: u32) -> bool {
        false
    }
}

fn model() -> Arc<Model> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/goldens/tiny/tiny-llama.gguf");
    Arc::new(Model::from_gguf(Gguf::open(&path).unwrap()).unwrap())
}

fn config(masks: Masks, ratios: &[f32]) -> SweepConfig {
    SweepConfig {
        masks,
        ratios: ratios.to_vec(),
        scope: Scope::Mlp,
        selection: Selection::Layer,
        correction: 0.5,
        ig_steps: 4,
        max_new_tokens: 8,
        seed: 7,
        raw: true,
    }
}

fn settings() -> Settings {
    Settings {
        version: "test".into(),
        command: "test".into(),
        scope: "mlp".into(),
        selection: "layer".into(),
        correction: 0.5,
        ig_steps: 4,
        max_new_tokens: 8,
        raw: true,
        cpu: "test".into(),
        threads: 1,
        wall_s: 0.0,
        finished_at: "2026-01-01T00:00:00Z".into(),
    }
}

/// Runs a sweep over four prompts; stops once `stop_after` steps are done.
fn run(
    config: SweepConfig,
    threads: usize,
    checkpoint: Option<PathBuf>,
    stop_after: u64,
) -> Result<SweepRun, SweepError> {
    let model = model();
    let plans = plans(&model, &config);
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    Sweep {
        model,
        config,
        model_record: ModelRecord {
            name: "tiny".into(),
            sha256: "00".into(),
            arch: "llama".into(),
            parameters: 1,
        },
        data: DataRecord { name: "test".into(), sha256: "11".into(), samples: 4, tokens: 0 },
        prompts: (0..4)
            .map(|i| Prompt { question: format!("q{i}"), tokens: vec![5 + i, 40, 41 + 3 * i, 9] })
            .collect(),
        text: &Numbers,
        plans,
        threads,
        checkpoint,
        progress: &|_, _| {
            if done.fetch_add(1, Ordering::Relaxed) >= stop_after {
                stop.store(true, Ordering::Relaxed);
            }
        },
        stop: &stop,
    }
    .run(settings())
}

/// The plans of a runtime sweep, from a calibration that weighs all neurons alike.
fn plans(model: &Model, config: &SweepConfig) -> Vec<Vec<Plan>> {
    let Masks::Runtime(masks) = &config.masks else { return Vec::new() };
    let shape = model.config();
    let calibration = Calibration {
        gate_weights: vec![vec![1.0; shape.intermediate]; shape.layers.len()],
        ..Calibration::default()
    };
    let plan = |mask: &RuntimeMask, &ratio: &f32| {
        let policy = mask.name.parse().unwrap();
        Plan::uniform(shape, policy, config.scope, config.selection, ratio, &calibration).unwrap()
    };
    masks.iter().map(|mask| config.ratios.iter().map(|r| plan(mask, r)).collect()).collect()
}

fn runtime(policies: &[PolicyKind]) -> Masks {
    let mask = |policy: &PolicyKind| RuntimeMask { name: policy.to_string(), plan: None };
    Masks::Runtime(policies.iter().map(mask).collect())
}

fn oracle() -> Masks {
    Masks::Oracle(vec![Metric::CorGxo, Metric::Magnitude, Metric::Random])
}

fn json(run: &SweepRun) -> String {
    let mut run = run.clone();
    run.settings.wall_s = 0.0;
    serde_json::to_string(&run).unwrap()
}

#[test]
fn nothing_masked_is_the_dense_answer_to_the_last_bit() {
    let policies = [PolicyKind::Gate, PolicyKind::Magnitude, PolicyKind::Prompt];
    for masks in [oracle(), runtime(&policies)] {
        let run = run(config(masks, &[0.0]), 2, None, u64::MAX).unwrap();
        for point in &run.points {
            assert_eq!((point.agreement.mean, point.kl.mean), (1.0, 0.0), "{}", point.name());
            assert!((point.bleu.mean - 100.0).abs() < 1e-9, "{}", point.name());
            assert_eq!((point.actual.mlp, point.actual.bytes), (0.0, 0.0));
        }
    }
}

#[test]
fn more_sparsity_costs_more_and_is_reported_as_it_came_out() {
    let run = run(config(oracle(), &[0.5, 0.9]), 1, None, u64::MAX).unwrap();
    assert_eq!((run.data.samples, run.data.tokens), (4, 28));
    for pair in run.points.chunks_exact(2) {
        assert!(pair[0].kl.mean > 0.0 && pair[0].kl.mean < pair[1].kl.mean, "{}", pair[0].name());
        // 80 neurons: 40 and 72 are off.
        assert!((pair[0].actual.mlp - 0.5).abs() < 1e-6 && (pair[1].actual.mlp - 0.9).abs() < 1e-6);
        assert!(pair[0].agreement.low <= pair[0].agreement.mean);
    }
}

#[test]
fn threads_change_nothing() {
    let one = run(config(oracle(), &[0.5, 0.8]), 1, None, u64::MAX).unwrap();
    let three = run(config(oracle(), &[0.5, 0.8]), 3, None, u64::MAX).unwrap();
    assert_eq!(json(&one), json(&three));
}

#[test]
fn an_interrupted_sweep_goes_on_to_the_same_result() {
    let whole = run(config(oracle(), &[0.5, 0.8]), 1, None, u64::MAX).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.safetensors");
    let first = run(config(oracle(), &[0.5, 0.8]), 1, Some(file.clone()), 14);
    let Err(SweepError::Interrupted { done, total: 4 }) = first else { panic!("{first:?}") };
    assert!((1..4).contains(&done), "{done}");
    let second = run(config(oracle(), &[0.5, 0.8]), 1, Some(file), u64::MAX).unwrap();
    assert_eq!(json(&whole), json(&second));
}

#[test]
fn checkpoints_of_other_sweeps_and_damaged_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.safetensors");
    run(config(oracle(), &[0.5]), 1, Some(file.clone()), u64::MAX).unwrap();
    let other = run(config(oracle(), &[0.6]), 1, Some(file.clone()), u64::MAX).unwrap_err();
    assert!(other.to_string().contains("another setting"), "{other}");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let damaged = run(config(oracle(), &[0.5]), 1, Some(file), u64::MAX).unwrap_err();
    assert!(damaged.to_string().contains("--restart"), "{damaged}");
}

#[test]
fn an_unwritable_folder_shows_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let inside = file.path().join("checkpoint.safetensors");
    let error = run(config(oracle(), &[0.5]), 1, Some(inside), 0).unwrap_err();
    assert!(error.to_string().contains("--out"), "{error}");
}

#[test]
fn heads_and_both_scopes_run() {
    for scope in [Scope::Heads, Scope::Both] {
        let config = SweepConfig { scope, ..config(oracle(), &[0.5]) };
        let run = run(config, 1, None, u64::MAX).unwrap();
        let point = &run.points[0];
        assert!((point.actual.heads - 0.5).abs() < 1e-6 && point.actual.bytes > 0.0);
        assert_eq!(point.kept_mlp.is_empty(), scope == Scope::Heads);
        assert_eq!(run.analysis.activity[0].head_importance.len(), run.analysis.layers);
    }
}
