//! `fewron check`: a gate on the quality and speed of a run, beside a baseline.

mod output;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fewron_eval::record::Interval;
use fewron_eval::stats::{DEFAULT_RESAMPLES, bootstrap_ratio_of_medians};
use fewron_eval::tasks::{Side, compare};
use serde::{Deserialize, Serialize};

use super::compare::read_eval;
use crate::Outcome;
use crate::cli::CheckArgs;

/// One thing that was held against the baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Check {
    /// What: task and metric, or the phase of a bench.
    what: String,
    variant: String,
    baseline: f64,
    value: f64,
    /// Share of the baseline that is lost; negative where something is gained.
    loss: Interval,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// More than allowed is lost, but that may be chance.
    Noise,
    Failed,
}

impl Verdict {
    fn of(loss: &Interval, most: f64) -> Self {
        match loss.mean > most {
            false => Self::Ok,
            true if loss.low > 0.0 => Self::Failed,
            true => Self::Noise,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Noise => "within noise",
            Self::Failed => "FAILED",
        }
    }
}

pub(crate) fn run(args: &CheckArgs) -> Result<Outcome> {
    let (run, baseline) = (Kind::of(&args.run)?, Kind::of(&args.baseline)?);
    let checks = match (run, baseline) {
        (Kind::Eval, Kind::Eval) => quality(args)?,
        (Kind::Bench, Kind::Bench) => speed(args)?,
        _ => anyhow::bail!(
            "one file is of `fewron eval` and the other of `fewron bench`; give two of a kind"
        ),
    };
    ensure!(
        !checks.is_empty(),
        "{} and its baseline have no variant with a value in common, so nothing can be checked",
        args.run.display()
    );
    output::write(args, &checks)?;
    let failed = checks.iter().any(|check| check.verdict == Verdict::Failed);
    Ok(if failed { Outcome::GateFailed } else { Outcome::Done })
}

/// What a file is a record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Eval,
    Bench,
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let record: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{shown} is no JSON"))?;
        match (record.get("tasks"), record.get("results")) {
            (Some(_), _) => Ok(Self::Eval),
            (_, Some(_)) => Ok(Self::Bench),
            _ => anyhow::bail!(
                "{shown} is no record of `fewron eval --json` or `fewron bench --json`"
            ),
        }
    }
}

/// Every metric of every variant, but for KL: a share of a number near 0 says nothing.
fn quality(args: &CheckArgs) -> Result<Vec<Check>> {
    let (run, baseline) = (read_eval(&args.run)?, read_eval(&args.baseline)?);
    let both = |variant: &&String| baseline.variants.contains(variant);
    let mut checks = Vec::new();
    for variant in run.variants.iter().filter(both) {
        let (a, b) = (Side { run: &baseline, variant }, Side { run: &run, variant });
        for task in compare(a, b, args.seed)? {
            for metric in task.metrics.iter().filter(|metric| metric.metric != "kl") {
                let Some(loss) = metric.loss() else { continue };
                checks.push(Check {
                    what: format!("{} {}", task.task, metric.metric),
                    variant: variant.clone(),
                    baseline: metric.a,
                    value: metric.b,
                    loss,
                    verdict: Verdict::of(&loss, args.max_drop),
                });
            }
        }
    }
    Ok(checks)
}

/// Of a bench's record, what is checked.
#[derive(Deserialize)]
struct Bench {
    results: Vec<Speeds>,
}

#[derive(Deserialize)]
struct Speeds {
    name: String,
    #[serde(default)]
    prefill: Option<Speed>,
    #[serde(default)]
    decode: Vec<Speed>,
}

#[derive(Deserialize)]
struct Speed {
    #[serde(default)]
    kv_length: Option<usize>,
    tokens: usize,
    tok_s: Vec<f64>,
}

impl Speed {
    fn what(&self) -> String {
        match self.kv_length {
            Some(kv) => format!("decode {} after {kv}, tokens/s", self.tokens),
            None => format!("prefill {}, tokens/s", self.tokens),
        }
    }
}

/// Every phase of every variant.
fn speed(args: &CheckArgs) -> Result<Vec<Check>> {
    let read = |path: &Path| -> Result<Bench> {
        let shown = path.display();
        serde_json::from_str(&fs::read_to_string(path)?)
            .with_context(|| format!("{shown} is no record of `fewron bench --json`"))
    };
    let (run, baseline) = (read(&args.run)?, read(&args.baseline)?);
    let mut checks = Vec::new();
    for now in &run.results {
        let Some(then) = baseline.results.iter().find(|then| then.name == now.name) else {
            continue;
        };
        let phases = |of: &Speeds| -> Vec<(String, Vec<f64>)> {
            of.prefill.iter().chain(&of.decode).map(|s| (s.what(), s.tok_s.clone())).collect()
        };
        let known = phases(then);
        for (what, speeds) in phases(now) {
            let Some((_, before)) = known.iter().find(|(known, _)| *known == what) else {
                continue;
            };
            let ratio = bootstrap_ratio_of_medians(&speeds, before, DEFAULT_RESAMPLES, args.seed);
            let Some(ratio) = ratio else { continue };
            let loss =
                Interval { mean: 1.0 - ratio.mean, low: 1.0 - ratio.high, high: 1.0 - ratio.low };
            checks.push(Check {
                what,
                variant: now.name.clone(),
                baseline: median(before),
                value: median(&speeds),
                loss,
                verdict: Verdict::of(&loss, args.max_slowdown),
            });
        }
    }
    Ok(checks)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    (low + high) / 2.0
}
