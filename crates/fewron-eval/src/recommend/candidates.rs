//! Candidates out of records: of sweeps, of evaluations and of plans.

use super::{Candidate, Candidates, RecommendError};
use crate::record::{Point, SweepRun};
use crate::tasks::{EvalRun, MetricResult, VariantResult};
use fewron_model::Model;
use fewron_sparsity::PolicyKind;
use fewron_sparsity::plan::record::{HeldOut, PlanRecord};

/// The points of a sweep: losses of `agreement` (the default), `kl` or `bleu`. Bytes need the model.
///
/// # Errors
/// When there is no such metric or no point.
pub fn of_sweep(
    run: &SweepRun,
    metric: Option<&str>,
    model: Option<&Model>,
) -> Result<Candidates, RecommendError> {
    let what = "the sweep";
    let metric = metric.unwrap_or("agreement");
    let loss: fn(&Point) -> f64 = match metric {
        "agreement" => |point| 1.0 - point.agreement.mean,
        "kl" => |point| point.kl.mean,
        "bleu" => |point| 1.0 - point.bleu.mean / 100.0,
        _ => return Err(no_metric(what, metric, &["agreement", "kl", "bleu"])),
    };
    let dense = model.map(|model| model.bytes_per_token().total() as f64);
    let layers =
        model.map_or(0, |m| m.bytes_per_token().attention + m.bytes_per_token().mlp) as f64;
    let candidate = |point: &Point| {
        let bytes = dense.map(|dense| dense - layers * f64::from(point.actual.bytes));
        let name = format!("{}@{}", point.name(), point.ratio);
        let off = if point.scope == "heads" { point.actual.heads } else { point.actual.mlp };
        sparse(name, f64::from(off), loss(point), bytes, dense)
    };
    let sparse = run.points.iter().map(candidate);
    let all: Vec<Candidate> = std::iter::once(Candidate::dense(dense)).chain(sparse).collect();
    some(what, "run `fewron sweep` with --ratios above 0", &all)?;
    let (model, protocol) = (run.model.name.clone(), run.protocol.clone());
    Ok(Candidates { model, metric: metric.to_owned(), protocol, all })
}

/// The variants of an evaluation: each loses what it loses on the task where it loses most, of the task's
/// first metric or of one of all tasks that have it. Bytes need the model and a policy in the name.
///
/// # Errors
/// When no task has the metric or there is nothing but the dense model.
pub fn of_eval(
    run: &EvalRun,
    metric: Option<&str>,
    model: Option<&Model>,
) -> Result<Candidates, RecommendError> {
    let what = "the evaluation";
    let dense = model.map(|model| model.bytes_per_token().total() as f64);
    let mut all = vec![Candidate::dense(dense)];
    for name in run.variants.iter().filter(|name| *name != "dense") {
        let results = || run.tasks.iter().flat_map(|task| &task.results);
        let own: Vec<&VariantResult> = results().filter(|r| r.variant == *name).collect();
        let Some(loss) = own.iter().filter_map(|r| loss_of(r, metric)).reduce(f64::max) else {
            let names = own.iter().flat_map(|r| &r.metrics).map(|m| m.metric.as_str());
            let mut names: Vec<&str> = names.collect();
            names.sort_unstable();
            names.dedup();
            return Err(no_metric(what, metric.unwrap_or("of a task"), &names));
        };
        let active = own.iter().filter_map(|r| r.active).reduce(f64::max).unwrap_or(1.0);
        let policy = name.split('@').next().and_then(|policy| policy.parse().ok());
        let bytes = policy.zip(model).map(|(policy, model)| read_by(policy, model, active));
        all.push(sparse(name.clone(), 1.0 - active, loss, bytes, dense));
    }
    some(what, "run `fewron eval` with --policy or --plan", &all)?;
    let metric = metric.map_or("each task's first metric".to_owned(), str::to_owned);
    let (model, protocol) = (run.model.name.clone(), "runtime".to_owned());
    Ok(Candidates { model, metric, protocol, all })
}

/// Plans by what they lose on held-out text: losses of `perplexity` (the default), `agreement` or `kl`.
///
/// # Errors
/// When there is no such metric, or no plan that was measured.
pub fn of_plans(
    plans: &[(String, PlanRecord)],
    metric: Option<&str>,
) -> Result<Candidates, RecommendError> {
    let metric = metric.unwrap_or("perplexity");
    let loss: fn(&HeldOut) -> f64 = match metric {
        "perplexity" => |held_out| held_out.perplexity_ratio() - 1.0,
        "agreement" => |held_out| 1.0 - held_out.agreement,
        "kl" => |held_out| held_out.kl,
        _ => return Err(no_metric("a plan", metric, &["perplexity", "agreement", "kl"])),
    };
    let measured = || plans.iter().filter_map(|(name, r)| r.held_out.map(|h| (name, h)));
    let dense = measured().map(|(_, held_out)| held_out.dense_bytes_per_token).next();
    let candidate = |(name, h): (&String, HeldOut)| {
        let bytes = (Some(h.bytes_per_token), Some(h.dense_bytes_per_token));
        sparse(name.clone(), 1.0 - h.active, loss(&h), bytes.0, bytes.1)
    };
    let sparse = measured().map(candidate);
    let all: Vec<Candidate> = std::iter::once(Candidate::dense(dense)).chain(sparse).collect();
    some("none of the plans", "measured plans are those of `fewron calibrate`", &all)?;
    let model = plans.first().map_or(String::new(), |(_, record)| record.model.name.clone());
    Ok(Candidates { model, metric: metric.to_owned(), protocol: "runtime".to_owned(), all })
}

fn sparse(
    name: String,
    sparsity: f64,
    loss: f64,
    bytes: Option<f64>,
    dense: Option<f64>,
) -> Candidate {
    let speedup = bytes.zip(dense).map(|(bytes, dense)| dense / bytes);
    Candidate { name, sparsity, loss, bytes_per_token: bytes, speedup, tok_s: None }
}

/// What a variant loses on a task; `None` where the task does not have the metric.
fn loss_of(result: &VariantResult, metric: Option<&str>) -> Option<f64> {
    let named = |m: &&MetricResult| metric.is_none_or(|name| m.metric == name);
    let found = result.metrics.iter().find(named)?;
    match found.metric.as_str() {
        "kl" => Some(found.value),
        "agreement" => Some(1.0 - found.value),
        "bleu_dense" => Some(1.0 - found.value / 100.0),
        "rougeL_dense" => Some(1.0 - found.value),
        "perplexity" => found.change.map(|change| change.mean),
        _ => found.change.map(|change| -change.mean),
    }
}

/// Weight bytes that a token reads where a policy runs `active` of each layer's neurons.
fn read_by(policy: PolicyKind, model: &Model, active: f64) -> f64 {
    let layers = 0..model.config().layers.len();
    let spared = layers.map(|layer| policy.spared(&model.layer_bytes(layer), active));
    model.bytes_per_token().total() as f64 - spared.sum::<f64>()
}

fn no_metric(what: &str, metric: &str, has: &[&str]) -> RecommendError {
    RecommendError::Metric { what: what.into(), metric: metric.into(), has: has.join(", ") }
}

/// Refuses the dense model alone.
fn some(what: &str, way_out: &'static str, all: &[Candidate]) -> Result<(), RecommendError> {
    if all.iter().any(|candidate| candidate.sparsity > 0.0) {
        return Ok(());
    }
    Err(RecommendError::Nothing { what: what.into(), way_out })
}
