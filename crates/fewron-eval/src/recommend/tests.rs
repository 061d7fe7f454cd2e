use super::*;
use crate::record::{Actual, DataRecord, Interval, ModelRecord, Point, Settings, SweepRun};
use crate::tasks::{EvalRun, MetricResult, TaskRecord, VariantResult};

/// Configurations of sizes and losses, the dense one first, of 100 bytes and 10 tokens a second.
fn candidates(points: &[(f64, f64)]) -> Candidates {
    let candidate = |&(size, loss): &(f64, f64)| Candidate {
        name: format!("at-{size}"),
        sparsity: 1.0 - size,
        loss,
        bytes_per_token: Some(100.0 * size),
        speedup: Some(1.0 / size),
        tok_s: None,
    };
    let mut all = vec![Candidate::dense(Some(100.0))];
    all.extend(points.iter().map(candidate));
    let (model, metric) = ("m".to_owned(), "agreement".to_owned());
    let mut made = Candidates { model, metric, protocol: "runtime".to_owned(), all };
    made.set_speed(10.0);
    made
}

const CURVE: [(f64, f64); 5] = [(0.8, 0.01), (0.6, 0.03), (0.5, 0.1), (0.4, 0.4), (0.3, 0.9)];

fn run(points: &[(f64, f64)], target: Target) -> String {
    candidates(points).advise(&target).unwrap().run.name
}

fn problem(points: &[(f64, f64)], target: Target) -> String {
    candidates(points).advise(&target).unwrap_err().to_string()
}

fn loss(most: f64) -> Target {
    Target { max_loss: Some(most), ..Target::default() }
}

#[test]
fn the_smallest_that_loses_little_enough() {
    assert_eq!(run(&CURVE, loss(0.05)), "at-0.6");
    assert_eq!(run(&CURVE, loss(0.1)), "at-0.5");
    assert_eq!(run(&CURVE, loss(2.0)), "at-0.3");
    let error =
        "nothing sparse loses at most 0.0050 of agreement: at-0.8 comes nearest with 0.0100";
    assert_eq!(problem(&CURVE, loss(0.005)), error);
}

#[test]
fn the_best_that_is_fast_enough() {
    let speedup = |least| Target { min_speedup: Some(least), ..Target::default() };
    assert_eq!(run(&CURVE, speedup(1.5)), "at-0.6");
    assert_eq!(run(&CURVE, speedup(1.0)), "dense");
    assert_eq!(
        problem(&CURVE, speedup(4.0)),
        "nothing reaches 4.00x of the dense speed: at-0.3 comes nearest with 3.33x of the dense speed"
    );
    let rate = |least| Target { min_tok_s: Some(least), ..Target::default() };
    assert_eq!(run(&CURVE, rate(20.0)), "at-0.5");
    assert_eq!(
        problem(&CURVE, rate(50.0)),
        "nothing reaches 50.0 tokens/s: at-0.3 comes nearest with 33.3 tokens/s"
    );
    let both = |least, most| Target { max_loss: Some(most), ..speedup(least) };
    assert_eq!(run(&CURVE, both(1.5, 0.2)), "at-0.5");
    assert!(problem(&CURVE, both(2.0, 0.05)).contains("at that speed: at-0.5 comes nearest"));
    let mut unknown = candidates(&CURVE);
    unknown.all.iter_mut().for_each(|c| (c.speedup, c.tok_s) = (None, None));
    for target in [speedup(1.0), rate(1.0)] {
        let error = unknown.advise(&target).unwrap_err().to_string();
        assert!(error.ends_with("name the model with --model"), "{error}");
    }
}

#[test]
fn the_knee_is_farthest_below_the_chord() {
    let advice = candidates(&CURVE).advise(&Target::default()).unwrap();
    // Below the chord: .5/.7 − .1/.9 = .60 at 0.5; .57 − .03 = .54 at 0.6; .86 − .44 = .41 at 0.4.
    assert_eq!((advice.run.name.as_str(), advice.knee.as_ref()), ("at-0.5", Some(&advice.run)));
    let straight = candidates(&[(0.5, 0.5), (0.25, 0.75)]);
    let advice = straight.advise(&Target::default()).unwrap();
    assert_eq!((advice.run.name.as_str(), advice.knee), ("at-0.25", None));
    assert_eq!(candidates(&[(0.5, 0.1)]).advise(&Target::default()).unwrap().run.name, "at-0.5");
}

#[test]
fn what_others_beat_is_left_out() {
    let advice = candidates(&[(0.7, 0.3), (0.6, 0.2), (0.6, 0.25), (0.5, 0.5)])
        .advise(&Target::default())
        .unwrap();
    let names: Vec<&str> = advice.front.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["dense", "at-0.6", "at-0.5"]);
    // Something smaller that loses less than nothing leaves the dense model out.
    let advice = candidates(&[(0.6, -0.1)]).advise(&Target::default()).unwrap();
    assert_eq!(advice.front.len(), 1);
}

fn model_record() -> ModelRecord {
    ModelRecord { name: "m".into(), sha256: "0".into(), arch: "llama".into(), parameters: 1 }
}

fn data() -> DataRecord {
    DataRecord { name: "d".into(), sha256: "0".into(), samples: 1, tokens: 1 }
}

fn mean(mean: f64) -> Interval {
    Interval { mean, low: mean, high: mean }
}

fn sweep(points: &[(f32, f64, f64, f64)]) -> SweepRun {
    let point = |&(ratio, agreement, kl, bleu): &(f32, f64, f64, f64)| Point {
        metric: None,
        policy: Some("gate".into()),
        scope: "mlp".into(),
        ratio,
        actual: Actual { mlp: ratio, heads: 0.0, paper: 0.0, bytes: ratio / 2.0 },
        agreement: mean(agreement),
        kl: mean(kl),
        bleu: mean(bleu),
        kept_mlp: Vec::new(),
        kept_heads: Vec::new(),
    };
    let settings = serde_json::json!({
        "version": "", "command": "", "scope": "mlp", "selection": "layer", "correction": 0.5,
        "ig_steps": 1, "max_new_tokens": 1, "raw": false, "cpu": "", "threads": 1, "wall_s": 0.0,
        "finished_at": ""
    });
    let settings: Settings = serde_json::from_value(settings).unwrap();
    SweepRun {
        model: model_record(),
        protocol: "oracle".into(),
        data: data(),
        seed: 0,
        settings,
        points: points.iter().map(point).collect(),
        analysis: Default::default(),
        examples: Vec::new(),
    }
}

#[test]
fn a_sweep_by_each_metric() {
    let run = sweep(&[(0.25, 0.9, 0.3, 80.0), (0.5, 0.75, 1.5, 25.0)]);
    let losses = |metric| {
        let found = of_sweep(&run, metric, None).unwrap();
        assert_eq!((found.protocol.as_str(), found.all[0].name.as_str()), ("oracle", "dense"));
        assert_eq!((found.all[2].name.as_str(), found.all[2].sparsity), ("gate@0.5", 0.5));
        assert_eq!(found.all[1].bytes_per_token, None);
        found.all.iter().map(|c| (1e6 * c.loss).round() / 1e6).collect::<Vec<_>>()
    };
    assert_eq!(losses(None), [0.0, 0.1, 0.25]);
    assert_eq!(losses(Some("kl")), [0.0, 0.3, 1.5]);
    assert_eq!(losses(Some("bleu")), [0.0, 0.2, 0.75]);
    let error = of_sweep(&run, Some("acc"), None).unwrap_err().to_string();
    assert_eq!(error, "the sweep has no metric acc; it has agreement, kl, bleu");
    let empty = of_sweep(&sweep(&[]), None, None).unwrap_err().to_string();
    assert!(empty.starts_with("the sweep has nothing sparse in it; "), "{empty}");
}

fn metric(name: &str, value: f64, change: Option<f64>) -> MetricResult {
    MetricResult {
        metric: name.into(),
        value,
        standard_error: None,
        low: value,
        high: value,
        change: change.map(mean),
    }
}

#[test]
fn an_evaluation_by_its_worst_task() {
    let task = |name: &str, metrics: Vec<MetricResult>| TaskRecord {
        task: name.into(),
        kind: String::new(),
        data: data(),
        few_shot: 0,
        wall_s: 0.0,
        results: vec![
            VariantResult { variant: "dense".into(), active: None, metrics: Vec::new() },
            VariantResult { variant: "gate@0.5".into(), active: Some(0.5), metrics },
        ],
        samples: Vec::new(),
    };
    let words = vec![metric("perplexity", 12.0, Some(0.2)), metric("kl", 0.4, None)];
    let choices = vec![metric("acc", 0.4, Some(-0.3)), metric("acc_norm", 0.5, Some(0.1))];
    let run = EvalRun {
        version: String::new(),
        command: String::new(),
        finished_at: String::new(),
        cpu: String::new(),
        threads: 1,
        model: model_record(),
        seed: 0,
        variants: vec!["dense".into(), "gate@0.5".into()],
        tasks: vec![task("text", words), task("questions", choices)],
    };
    let loss = |metric| of_eval(&run, metric, None).unwrap().all[1].loss;
    assert_eq!([loss(None), loss(Some("perplexity")), loss(Some("kl"))], [0.3, 0.2, 0.4]);
    assert_eq!((loss(Some("acc")), loss(Some("acc_norm"))), (0.3, -0.1));
    let error = of_eval(&run, Some("bleu"), None).unwrap_err().to_string();
    let has = "the evaluation has no metric bleu; it has acc, acc_norm, kl, perplexity";
    assert_eq!(error, has);
}
