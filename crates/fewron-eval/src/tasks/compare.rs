//! Two variants on the same samples: what changed, and whether it is more than chance.

mod categories;

use std::collections::HashMap;

use serde::Serialize;
use thiserror::Error;

pub use categories::CategoryComparison;

use super::metric::Metric;
use super::record::{EvalRun, Outcome, SampleRecord, TaskRecord};
use crate::record::Interval;
use crate::stats::{DEFAULT_RESAMPLES, bootstrap_change, sign_test};

/// A variant of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The evaluation.
    pub run: &'a EvalRun,
    /// Name of the variant.
    pub variant: &'a str,
}

/// Two variants on one task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskComparison {
    /// Name of the task.
    pub task: String,
    /// Samples that both have.
    pub samples: usize,
    /// The task's metrics, the headline first.
    pub metrics: Vec<MetricComparison>,
    /// The headline metric by category, the largest effect first; empty where the samples have none.
    pub categories: Vec<CategoryComparison>,
    /// Samples with another answer, in the file's order.
    pub changed: Vec<ChangedSample>,
}

/// Two variants by one metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricComparison {
    /// Name of the metric.
    pub metric: String,
    /// The first variant's value over the samples that both have.
    pub a: f64,
    /// The second variant's.
    pub b: f64,
    /// (b − a) / a in paired draws of samples; absent where a is 0.
    pub change: Option<Interval>,
    /// Samples on which the second variant is better.
    pub better: usize,
    /// Samples on which it is worse.
    pub worse: usize,
    /// Two-sided p of the exact sign test over `better` and `worse`: for right and wrong answers
    /// McNemar's exact test.
    pub p: f64,
}

impl MetricComparison {
    /// How much of the first variant's quality the second one loses, as a share; negative where it gains.
    pub fn loss(&self) -> Option<Interval> {
        let change = self.change?;
        let turned = Interval { mean: -change.mean, low: -change.high, high: -change.low };
        Some(if lower_is_better(&self.metric) { change } else { turned })
    }
}

/// Whether less of a metric is better.
pub fn lower_is_better(metric: &str) -> bool {
    matches!(
        metric,
        "perplexity"
            | "kl"
            | "time_to_first_token_s"
            | "time_to_first_token_p99_s"
            | "inter_token_s"
            | "inter_token_p99_s"
            | "bytes_per_token"
            | "flops_per_token"
            | "peak_rss_bytes"
            | "joules_per_token"
    )
}

/// A sample with another answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedSample {
    /// The sample.
    pub id: String,
    /// The first variant's answer.
    pub a: String,
    /// The second variant's.
    pub b: String,
    /// Characters that both answers begin with; absent for choices.
    pub common: Option<usize>,
    /// Whole words that both answers begin with, white space aside; absent for choices.
    pub common_words: Option<usize>,
}

/// Why two variants cannot be compared.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompareError {
    #[error("there is no variant {name:?}; there are {known}")]
    NoVariant { name: String, known: String },
    #[error("the two runs have no task in common")]
    NoTask,
    #[error("the task {task} has other data in the two runs: {a} and {b}")]
    OtherData { task: String, a: String, b: String },
    #[error("the two runs have no sample of the task {task} in common")]
    NoSample { task: String },
}

/// Compares two variants on the tasks that both runs have; `seed` is that of the intervals.
///
/// # Errors
/// See [`CompareError`].
pub fn compare(a: Side, b: Side, seed: u64) -> Result<Vec<TaskComparison>, CompareError> {
    for side in [a, b] {
        if !side.run.variants.iter().any(|variant| variant == side.variant) {
            let (name, known) = (side.variant.to_owned(), side.run.variants.join(", "));
            return Err(CompareError::NoVariant { name, known });
        }
    }
    let pair = |task: &TaskRecord| {
        let other = b.run.tasks.iter().find(|other| other.task == task.task)?;
        Some(compare_task((task, a.variant), (other, b.variant), seed))
    };
    let tasks = a.run.tasks.iter().filter_map(pair).collect::<Result<Vec<_>, _>>()?;
    if tasks.is_empty() { Err(CompareError::NoTask) } else { Ok(tasks) }
}

fn compare_task(
    a: (&TaskRecord, &str),
    b: (&TaskRecord, &str),
    seed: u64,
) -> Result<TaskComparison, CompareError> {
    let task = a.0.task.clone();
    if a.0.data.sha256 != b.0.data.sha256 {
        let (a, b) = (a.0.data.name.clone(), b.0.data.name.clone());
        return Err(CompareError::OtherData { task, a, b });
    }
    let others: HashMap<&str, &SampleRecord> =
        b.0.samples.iter().map(|sample| (sample.id.as_str(), sample)).collect();
    let pair = |sample| Pair::of(sample, a.1, others.get(sample.id.as_str())?, b.1);
    let pairs: Vec<Pair> = a.0.samples.iter().filter_map(pair).collect();
    if pairs.is_empty() {
        return Err(CompareError::NoSample { task });
    }
    let names = |(task, variant): (&TaskRecord, &str)| -> Vec<String> {
        let results = task.results.iter().filter(|result| result.variant == variant);
        results.flat_map(|result| &result.metrics).map(|m| m.metric.clone()).collect()
    };
    let known = names(b);
    let shared = names(a).into_iter().filter(|name| known.contains(name));
    let metrics: Vec<MetricComparison> =
        shared.filter_map(|name| compare_metric(&name, &pairs, seed)).collect();
    let headline = metrics.first().map(|metric| metric.metric.as_str());
    Ok(TaskComparison {
        samples: pairs.len(),
        categories: headline.map_or(vec![], |name| categories::compare(name, &pairs, seed)),
        changed: pairs.iter().filter_map(Pair::changed).collect(),
        task,
        metrics,
    })
}

/// A sample by both variants.
#[derive(Clone, Copy)]
struct Pair<'a> {
    id: &'a str,
    category: Option<&'a str>,
    a: &'a Outcome,
    b: &'a Outcome,
}

impl<'a> Pair<'a> {
    fn of(sample: &'a SampleRecord, a: &str, other: &'a SampleRecord, b: &str) -> Option<Self> {
        let outcome = |sample: &'a SampleRecord, variant: &str| {
            let record = sample.variants.iter().find(|record| record.variant == variant)?;
            Some(&record.outcome)
        };
        Some(Self {
            id: &sample.id,
            category: sample.category.as_deref().or(other.category.as_deref()),
            a: outcome(sample, a)?,
            b: outcome(other, b)?,
        })
    }

    /// The sample, if its answer is another one.
    fn changed(&self) -> Option<ChangedSample> {
        let id = self.id.to_owned();
        match (self.a, self.b) {
            (
                Outcome::Choice { prediction: a, correct: a_right, .. },
                Outcome::Choice { prediction: b, correct: b_right, .. },
            ) if a != b => {
                let words = |choice: usize, right: bool| {
                    format!("choice {}, {}", choice + 1, if right { "right" } else { "wrong" })
                };
                let (a, b) = (words(*a, *a_right), words(*b, *b_right));
                Some(ChangedSample { id, a, b, common: None, common_words: None })
            }
            (Outcome::Text { text: a, .. }, Outcome::Text { text: b, .. }) if a != b => {
                let common = Some(same(a.chars(), b.chars()));
                let common_words = Some(same(a.split_whitespace(), b.split_whitespace()));
                Some(ChangedSample { id, a: a.clone(), b: b.clone(), common, common_words })
            }
            _ => None,
        }
    }
}

/// How many items both begin with.
fn same<T: PartialEq>(a: impl Iterator<Item = T>, b: impl Iterator<Item = T>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

/// The two variants by a metric; `None` where a sample does not have it.
fn compare_metric(name: &str, pairs: &[Pair], seed: u64) -> Option<MetricComparison> {
    let metric = Metric::named(name)?;
    let (mut a, mut b, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for pair in pairs {
        let (value, weight) = metric.term(pair.a)?;
        a.push(value);
        b.push(metric.term(pair.b)?.0);
        weights.push(weight);
    }
    let mean = |values: &[f64]| {
        let sum: f64 = values.iter().zip(&weights).map(|(value, weight)| value * weight).sum();
        metric.value(sum / weights.iter().sum::<f64>())
    };
    let sign = if lower_is_better(name) { -1.0 } else { 1.0 };
    let differences = || a.iter().zip(&b).map(|(a, b)| sign * (b - a));
    let better = differences().filter(|&difference| difference > 0.0).count();
    let worse = differences().filter(|&difference| difference < 0.0).count();
    let value = |mean| metric.value(mean);
    Some(MetricComparison {
        metric: name.to_owned(),
        a: mean(&a),
        b: mean(&b),
        change: bootstrap_change(&b, &a, &weights, &value, DEFAULT_RESAMPLES, seed),
        better,
        worse,
        p: sign_test(better, worse),
    })
}
