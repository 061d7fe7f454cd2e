//! The effect by category.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{MetricComparison, Pair, compare_metric};
use crate::stats::holm;

/// Two variants on the samples of one category.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CategoryComparison {
    /// Name of the category.
    pub category: String,
    /// Its samples.
    pub samples: usize,
    /// The task's headline metric over these.
    #[serde(flatten)]
    pub metric: MetricComparison,
    /// Its p, adjusted by Holm's method for as many tests as the task has categories.
    pub p_holm: f64,
}

impl CategoryComparison {
    /// How far apart both variants are, in the metric's own unit.
    fn effect(&self) -> f64 {
        (self.metric.b - self.metric.a).abs()
    }
}

/// The metric over each category's samples, the largest effect first and equal ones by their names.
/// Samples without a category are left out.
pub(super) fn compare(metric: &str, pairs: &[Pair], seed: u64) -> Vec<CategoryComparison> {
    let mut by_category: BTreeMap<&str, Vec<Pair>> = BTreeMap::new();
    for pair in pairs {
        if let Some(category) = pair.category {
            by_category.entry(category).or_default().push(*pair);
        }
    }
    let one = |(category, pairs): (&str, Vec<Pair>)| {
        let metric = compare_metric(metric, &pairs, seed)?;
        let (category, p_holm) = (category.to_owned(), metric.p);
        Some(CategoryComparison { category, samples: pairs.len(), metric, p_holm })
    };
    let mut categories: Vec<CategoryComparison> = by_category.into_iter().filter_map(one).collect();
    let p: Vec<f64> = categories.iter().map(|category| category.metric.p).collect();
    categories.iter_mut().zip(holm(&p)).for_each(|(category, p)| category.p_holm = p);
    categories.sort_by(|a, b| b.effect().total_cmp(&a.effect()));
    categories
}
