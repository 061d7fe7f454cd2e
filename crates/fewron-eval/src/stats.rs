//! Bootstrap intervals over samples.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::record::Interval;

/// Resamples to use where nothing else is asked for.
pub const DEFAULT_RESAMPLES: usize = 1000;

/// Mean of `values` with its 95% percentile interval, from `resamples` seeded bootstrap draws of
/// whole samples (Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979).
///
/// With `weights` (tokens per sample, say) the mean is the ratio of sums Σ wᵢ·vᵢ / Σ wᵢ, in every
/// draw too: values are means per sample, and long samples count for more. No values, or weights
/// that sum to zero, give a zero interval; one sample gives an interval of no width.
///
/// # Panics
/// If there are weights and not as many as values.
pub fn bootstrap_mean(
    values: &[f64],
    weights: Option<&[f64]>,
    resamples: usize,
    seed: u64,
) -> Interval {
    if let Some(weights) = weights {
        assert_eq!(values.len(), weights.len(), "one weight per value");
    }
    let terms: Vec<(f64, f64)> = (0..values.len())
        .map(|i| weights.map_or((values[i], 1.0), |w| (values[i] * w[i], w[i])))
        .collect();
    let Some(mean) = ratio_of_sums(terms.iter().copied()) else {
        return Interval::default();
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..resamples)
        .filter_map(|_| {
            ratio_of_sums((0..terms.len()).map(|_| terms[rng.random_range(0..terms.len())]))
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Interval {
        mean,
        low: quantile(&means, 0.025).unwrap_or(mean),
        high: quantile(&means, 0.975).unwrap_or(mean),
    }
}

/// Relative change (v(a) − v(b)) / v(b) of a value `v` of the weighted means of two runs on the same
/// samples, with its 95% percentile interval: both runs see the same draws of samples. `None` where
/// v(b) is 0 or there are no samples.
///
/// # Panics
/// If there are not as many values and weights of both.
pub fn bootstrap_change(
    a: &[f64],
    b: &[f64],
    weights: &[f64],
    value: &dyn Fn(f64) -> f64,
    resamples: usize,
    seed: u64,
) -> Option<Interval> {
    assert!(a.len() == b.len() && a.len() == weights.len(), "as many values as weights");
    let change = |draw: &mut dyn Iterator<Item = usize>| {
        let (sum_a, sum_b, weight) = draw.fold((0.0, 0.0, 0.0), |(sum_a, sum_b, weight), i| {
            (sum_a + a[i] * weights[i], sum_b + b[i] * weights[i], weight + weights[i])
        });
        let (a, b) = (value(sum_a / weight), value(sum_b / weight));
        Some((a - b) / b).filter(|change| change.is_finite())
    };
    let mean = change(&mut (0..a.len()))?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut changes: Vec<f64> = (0..resamples)
        .filter_map(|_| change(&mut (0..a.len()).map(|_| rng.random_range(0..a.len()))))
        .collect();
    changes.sort_by(f64::total_cmp);
    let low = quantile(&changes, 0.025).unwrap_or(mean);
    Some(Interval { mean, low, high: quantile(&changes, 0.975).unwrap_or(mean) })
}

/// Standard error of the weighted mean Σ wᵢ·vᵢ / Σ wᵢ, with weights as much of the sample as values
/// (the delta method for a ratio; for equal weights the sample's standard deviation over √n). `None`
/// for fewer than two values.
pub fn standard_error(values: &[f64], weights: &[f64]) -> Option<f64> {
    let (n, total) = (values.len() as f64, weights.iter().sum::<f64>());
    let mean = ratio_of_sums(values.iter().zip(weights).map(|(v, w)| (v * w, *w)))?;
    let squares = values.iter().zip(weights).map(|(v, w)| (w * (v - mean)).powi(2)).sum::<f64>();
    (values.len() > 1).then(|| (squares * n / (n - 1.0)).sqrt() / total)
}

/// Two-sided p of the exact sign test: how likely at least so uneven a split of `plus + minus` fair coins
/// is; 1 where there are none. On pairs of right and wrong answers it is McNemar's exact test.
pub fn sign_test(plus: usize, minus: usize) -> f64 {
    let n = plus + minus;
    // ln C(n, k) − n·ln 2, by k.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=plus.min(minus) {
        tail += term.exp();
        term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// The p's of several tests, adjusted so that each may be held against the level that all of them
/// together shall keep; in the same order.
///
/// Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (Scandinavian Journal of
/// Statistics, 1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut largest) = (vec![0.0; p.len()], 0.0_f64);
    for (rank, &test) in order.iter().enumerate() {
        let left = (p.len() - rank) as f64;
        largest = largest.max((left * p[test]).min(1.0));
        adjusted[test] = largest;
    }
    adjusted
}

/// Ratio of the medians of `a` and `b`, measured apart, with its 95% percentile interval over seeded
/// bootstrap draws of both. `None` where either is empty or the median of `b` is 0.
pub fn bootstrap_ratio_of_medians(
    a: &[f64],
    b: &[f64],
    resamples: usize,
    seed: u64,
) -> Option<Interval> {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    };
    let ratio = |a: Vec<f64>, b: Vec<f64>| {
        Some(median(a)? / median(b)?).filter(|ratio: &f64| ratio.is_finite())
    };
    let mean = ratio(a.to_vec(), b.to_vec())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |values: &[f64]| -> Vec<f64> {
        (0..values.len()).map(|_| values[rng.random_range(0..values.len())]).collect()
    };
    let mut ratios: Vec<f64> = (0..resamples).filter_map(|_| ratio(draw(a), draw(b))).collect();
    ratios.sort_by(f64::total_cmp);
    let low = quantile(&ratios, 0.025).unwrap_or(mean);
    Some(Interval { mean, low, high: quantile(&ratios, 0.975).unwrap_or(mean) })
}

fn ratio_of_sums(terms: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, weight) = terms.fold((0.0, 0.0), |(s, w), (v, u)| (s + v, w + u));
    (weight > 0.0).then(|| sum / weight)
}

/// Quantile of sorted values with linear interpolation between neighbours.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = q * last as f64;
    let (below, share) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random::<f64>()).collect()
    }

    #[test]
    fn covers_the_true_mean_about_95_times_in_100() {
        let covered = (0..200)
            .filter(|&seed| {
                let interval = bootstrap_mean(&uniform(60, 1000 + seed), None, 300, seed);
                interval.low <= 0.5 && 0.5 <= interval.high
            })
            .count();
        assert!((178..=199).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn width_is_close_to_the_normal_one() {
        let interval = bootstrap_mean(&uniform(400, 3), None, DEFAULT_RESAMPLES, 3);
        let expected = 2.0 * 1.96 * (1.0f64 / 12.0 / 400.0).sqrt();
        assert!(((interval.high - interval.low) / expected - 1.0).abs() < 0.15);
        assert!(interval.low < interval.mean && interval.mean < interval.high);
    }

    #[test]
    fn weights_make_a_ratio_of_sums() {
        let interval = bootstrap_mean(&[1.0, 0.0], Some(&[30.0, 10.0]), 1000, 1);
        assert_eq!(interval.mean, 0.75);
        assert_eq!((interval.low, interval.high), (0.0, 1.0));
    }

    #[test]
    fn equal_weights_change_nothing() {
        let values = uniform(20, 9);
        let plain = bootstrap_mean(&values, None, 200, 5);
        let weighted = bootstrap_mean(&values, Some(&[4.0; 20]), 200, 5);
        assert!((plain.low - weighted.low).abs() < 1e-12);
        assert!((plain.mean - weighted.mean).abs() < 1e-12);
    }

    #[test]
    fn standard_error_of_a_share_is_binomial() {
        let error = standard_error(&[1.0, 0.0, 0.0, 1.0, 1.0], &[1.0; 5]).unwrap();
        assert!((error - (0.6f64 * 0.4 / 4.0).sqrt()).abs() < 1e-12, "{error}");
        assert_eq!(standard_error(&[1.0], &[1.0]), None);
        assert!((standard_error(&[3.0, 1.0], &[2.0, 2.0]).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn changes_are_paired() {
        let (b, same) = (uniform(50, 4), |mean| mean);
        let a: Vec<f64> = b.iter().map(|b| b * 1.5).collect();
        let change = bootstrap_change(&a, &b, &[1.0; 50], &same, 200, 1).unwrap();
        for value in [change.mean, change.low, change.high] {
            assert!((value - 0.5).abs() < 1e-12, "{value}");
        }
        let none = bootstrap_change(&b, &b, &[1.0; 50], &f64::exp, 200, 1).unwrap();
        assert_eq!((none.mean, none.low, none.high), (0.0, 0.0, 0.0));
        assert_eq!(bootstrap_change(&[1.0], &[0.0], &[1.0], &same, 10, 1), None);
        assert_eq!(bootstrap_change(&[], &[], &[], &same, 10, 1), None);
    }

    /// Exact values, from sums of binomial coefficients.
    #[test]
    fn sign_tests_are_exact() {
        for (plus, minus, p) in [
            (0, 0, 1.0),
            (5, 5, 1.0),
            (1, 9, 0.021_484_375),
            (0, 6, 0.031_25),
            (20, 40, 0.013_489_29),
        ] {
            assert!((sign_test(plus, minus) - p).abs() < 1e-6, "{plus} {minus}");
            assert_eq!(sign_test(plus, minus), sign_test(minus, plus));
        }
        assert!(sign_test(5_000, 5_200) > 0.04);
    }

    /// As R's `p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.9), "holm")` has them.
    #[test]
    fn holm_steps_down_and_never_falls() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005, 0.9]);
        for (got, expected) in adjusted.iter().zip([0.04, 0.09, 0.09, 0.025, 0.9]) {
            assert!((got - expected).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(holm(&[0.4, 0.7]), [0.8, 0.8]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn ratios_of_medians() {
        let ratio = |a: &[f64], b: &[f64]| bootstrap_ratio_of_medians(a, b, 300, 1);
        let half = ratio(&[5.0, 5.1, 4.9, 5.0], &[10.0, 10.1, 9.9, 10.0]).unwrap();
        assert!(half.mean == 0.5 && half.low > 0.45 && half.high < 0.55, "{half:?}");
        let noisy = ratio(&[8.0, 12.0, 10.0], &[9.0, 13.0, 11.0]).unwrap();
        assert!(noisy.low < 1.0 && noisy.high > 1.0);
        assert_eq!(ratio(&[], &[1.0]), None);
        assert_eq!(ratio(&[1.0], &[0.0]), None);
    }

    #[test]
    fn small_inputs() {
        let one = bootstrap_mean(&[0.4], None, 100, 1);
        assert_eq!((one.mean, one.low, one.high), (0.4, 0.4, 0.4));
        assert_eq!(bootstrap_mean(&[], None, 100, 1), Interval::default());
        assert_eq!(bootstrap_mean(&[1.0], Some(&[0.0]), 100, 1), Interval::default());
        assert_eq!(bootstrap_mean(&[2.0, 4.0], None, 0, 1).high, 3.0);
    }

    #[test]
    fn same_seed_same_interval() {
        let values = uniform(50, 2);
        assert_eq!(bootstrap_mean(&values, None, 100, 7), bootstrap_mean(&values, None, 100, 7));
        assert_ne!(bootstrap_mean(&values, None, 100, 7), bootstrap_mean(&values, None, 100, 8));
    }
}
