//! `fewron check`: a gate on the quality and speed of a run, beside a baseline.

mod output;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fewron_eval::record::Interval;
use fewron_eval::stats::{DEFAULT_RESAMPLES, bootstrap_ratio_of_medians};
use fewron_eval::tasks::{EvalRun, Side, compare};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::bench::statistics::median;
use crate::cli::CheckArgs;
use crate::runs::read_record;

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
    let checks = match (Record::read(&args.run)?, Record::read(&args.baseline)?) {
        (Record::Eval(run), Record::Eval(baseline)) => quality(args, &run, &baseline)?,
        (Record::Bench(run), Record::Bench(baseline)) => speed(args, &run, &baseline),
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

/// What a file holds.
enum Record {
    Eval(Box<EvalRun>),
    Bench(Bench),
}

impl Record {
    fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let value: serde_json::Value = serde_json::from_str(&read_record(path)?)
            .with_context(|| format!("{shown} is no JSON"))?;
        let record = if value.get("tasks").is_some() {
            serde_json::from_value(value).map(|run| Self::Eval(Box::new(run)))
        } else {
            serde_json::from_value(value).map(Self::Bench)
        };
        record.with_context(|| {
            format!("{shown} is no record of `fewron eval --json` or `fewron bench --json`")
        })
    }
}

/// Every metric of every variant, but for KL: a share of a number near 0 says nothing.
fn quality(args: &CheckArgs, run: &EvalRun, baseline: &EvalRun) -> Result<Vec<Check>> {
    let both = |variant: &&String| baseline.variants.contains(variant);
    let mut checks = Vec::new();
    for variant in run.variants.iter().filter(both) {
        let (a, b) = (Side { run: baseline, variant }, Side { run, variant });
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

impl Speeds {
    fn phases(&self) -> impl Iterator<Item = &Speed> {
        self.prefill.iter().chain(&self.decode)
    }
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
fn speed(args: &CheckArgs, run: &Bench, baseline: &Bench) -> Vec<Check> {
    let mut checks = Vec::new();
    for now in &run.results {
        let Some(then) = baseline.results.iter().find(|then| then.name == now.name) else {
            continue;
        };
        for phase in now.phases() {
            let what = phase.what();
            let Some(before) = then.phases().find(|before| before.what() == what) else { continue };
            let (now_s, before_s) = (&phase.tok_s, &before.tok_s);
            let ratio = bootstrap_ratio_of_medians(now_s, before_s, DEFAULT_RESAMPLES, args.seed);
            let medians = median(now_s).zip(median(before_s));
            let Some((ratio, (value, baseline))) = ratio.zip(medians) else { continue };
            let loss =
                Interval { mean: 1.0 - ratio.mean, low: 1.0 - ratio.high, high: 1.0 - ratio.low };
            checks.push(Check {
                what,
                variant: now.name.clone(),
                baseline,
                value,
                loss,
                verdict: Verdict::of(&loss, args.max_slowdown),
            });
        }
    }
    checks
}
