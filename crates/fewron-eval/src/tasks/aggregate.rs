//! From samples to a variant's metrics.

use super::definition::{ChoiceMetric, Definition, GenerateMetric};
use super::record::{MetricResult, Outcome};
use crate::stats::{DEFAULT_RESAMPLES, bootstrap_change, bootstrap_mean, standard_error};

/// A metric of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Perplexity,
    Kl,
    Agreement,
    Choice(ChoiceMetric),
    Generate(GenerateMetric),
}

/// The metrics of a task, the headline first.
fn metrics(definition: &Definition) -> Vec<Metric> {
    match definition {
        Definition::Perplexity(_) => vec![Metric::Perplexity, Metric::Kl, Metric::Agreement],
        Definition::MultipleChoice(task) => {
            task.metrics.iter().map(|&m| Metric::Choice(m)).collect()
        }
        Definition::Generate(task) => task.metrics.iter().map(|&m| Metric::Generate(m)).collect(),
    }
}

impl Metric {
    /// All of them.
    const ALL: [Self; 9] = [
        Self::Perplexity,
        Self::Kl,
        Self::Agreement,
        Self::Choice(ChoiceMetric::Acc),
        Self::Choice(ChoiceMetric::AccNorm),
        Self::Choice(ChoiceMetric::Mc2),
        Self::Generate(GenerateMetric::Bleu),
        Self::Generate(GenerateMetric::BleuDense),
        Self::Generate(GenerateMetric::ExactMatch),
    ];

    /// The metric of a name in records.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Perplexity => "perplexity",
            Self::Kl => "kl",
            Self::Agreement => "agreement",
            Self::Choice(ChoiceMetric::Acc) => "acc",
            Self::Choice(ChoiceMetric::AccNorm) => "acc_norm",
            Self::Choice(ChoiceMetric::Mc2) => "mc2",
            Self::Generate(GenerateMetric::Bleu) => "bleu",
            Self::Generate(GenerateMetric::BleuDense) => "bleu_dense",
            Self::Generate(GenerateMetric::ExactMatch) => "exact_match",
        }
    }

    /// The sample's mean and its weight; `None` for what only a comparison with the dense model has.
    pub(super) fn term(self, outcome: &Outcome) -> Option<(f64, f64)> {
        let share = |truth: bool| Some((f64::from(u8::from(truth)), 1.0));
        match (self, outcome) {
            (Self::Choice(ChoiceMetric::Acc), Outcome::Choice { correct, .. }) => share(*correct),
            (Self::Choice(ChoiceMetric::AccNorm), Outcome::Choice { correct_norm, .. }) => {
                share(*correct_norm)
            }
            (Self::Choice(ChoiceMetric::Mc2), Outcome::Choice { true_mass, .. }) => {
                Some((*true_mass, 1.0))
            }
            (Self::Perplexity, Outcome::Window { nll, tokens, .. }) => {
                per_token(Some(*nll), *tokens)
            }
            (Self::Kl, Outcome::Window { kl, tokens, .. }) => per_token(*kl, *tokens),
            (Self::Agreement, Outcome::Window { agree, tokens, .. }) => {
                per_token(agree.map(|agree| agree as f64), *tokens)
            }
            (Self::Generate(GenerateMetric::Bleu), Outcome::Text { bleu, .. }) => {
                bleu.map(|bleu| (bleu, 1.0))
            }
            (Self::Generate(GenerateMetric::BleuDense), Outcome::Text { bleu_dense, .. }) => {
                bleu_dense.map(|bleu| (bleu, 1.0))
            }
            (Self::Generate(GenerateMetric::ExactMatch), Outcome::Text { correct, .. }) => {
                correct.and_then(share)
            }
            _ => None,
        }
    }

    /// The metric's value from the weighted mean of the samples.
    pub(super) fn value(self, mean: f64) -> f64 {
        if self == Self::Perplexity { mean.exp() } else { mean }
    }
}

fn per_token(sum: Option<f64>, tokens: u64) -> Option<(f64, f64)> {
    sum.map(|sum| (sum / tokens as f64, tokens as f64))
}

/// A variant's metrics from its outcomes, beside the dense model's unless it is the dense model.
pub(super) fn aggregate(
    definition: &Definition,
    outcomes: &[&Outcome],
    dense: Option<&[&Outcome]>,
    seed: u64,
) -> Vec<MetricResult> {
    let result = |metric: Metric| {
        let (values, weights) = terms(metric, outcomes)?;
        let mean = bootstrap_mean(&values, Some(&weights), DEFAULT_RESAMPLES, seed);
        let change = dense.and_then(|dense| terms(metric, dense)).and_then(|(dense, _)| {
            let value = |mean| metric.value(mean);
            bootstrap_change(&values, &dense, &weights, &value, DEFAULT_RESAMPLES, seed)
        });
        let value = metric.value(mean.mean);
        // The slope of exp is exp: the delta method.
        let slope = if metric == Metric::Perplexity { value } else { 1.0 };
        Some(MetricResult {
            metric: metric.name().to_owned(),
            value,
            standard_error: standard_error(&values, &weights).map(|error| slope * error),
            low: metric.value(mean.low),
            high: metric.value(mean.high),
            change,
        })
    };
    metrics(definition).into_iter().filter_map(result).collect()
}

/// Values and weights of all samples; `None` if one has none.
fn terms(metric: Metric, outcomes: &[&Outcome]) -> Option<(Vec<f64>, Vec<f64>)> {
    let terms: Option<Vec<(f64, f64)>> = outcomes.iter().map(|o| metric.term(o)).collect();
    terms.map(|terms| terms.into_iter().unzip())
}
