//! From samples to a variant's metrics.

use super::definition::Definition;
use super::metric::{Metric, WindowMetric};
use super::record::{MetricResult, Outcome};
use crate::stats::{DEFAULT_RESAMPLES, bootstrap_change, bootstrap_mean, standard_error};

/// The metrics of a task, the headline first.
fn metrics(definition: &Definition) -> Vec<Metric> {
    match definition {
        Definition::Perplexity(_) => WindowMetric::ALL.iter().map(|&m| Metric::Window(m)).collect(),
        Definition::MultipleChoice(task) => {
            task.metrics.iter().map(|&m| Metric::Choice(m)).collect()
        }
        Definition::Generate(task) => task.metrics.iter().map(|&m| Metric::Generate(m)).collect(),
    }
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
        // The delta method.
        let slope = metric.slope(value);
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
