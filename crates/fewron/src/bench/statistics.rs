//! Middle and spread of repeated measurements.

use serde::Serialize;

/// Where measurements lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Median absolute deviation from the median, not scaled to a standard deviation.
    pub(crate) mad: f64,
}

impl Summary {
    /// Of at least one value.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let median = self::median(values)?;
        let deviations: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { median, min, max, mad: self::median(&deviations)? })
    }
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

/// The median of the ratios a/b of values that were measured in the same repetition.
pub(crate) fn paired_ratio(a: &[f64], b: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 4.0, 6.0]), Some(5.0));
    }

    #[test]
    fn spreads() {
        // Deviations from 4: 3, 2, 0, 1, 96.
        let summary = Summary::of(&[1.0, 2.0, 4.0, 5.0, 100.0]);
        let expected = Summary { median: 4.0, min: 1.0, max: 100.0, mad: 2.0 };
        assert_eq!(summary, Some(expected));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn ratios_are_paired() {
        // A machine that slows down to a third half way: every pair says 2, the medians' ratio 3.
        let (a, b) = ([6.0, 6.0, 2.0], [3.0, 1.0, 1.0]);
        assert_eq!(paired_ratio(&a, &b), Some(2.0));
        assert_eq!(paired_ratio(&a, &a), Some(1.0));
        assert_eq!(paired_ratio(&[], &[]), None);
    }
}
