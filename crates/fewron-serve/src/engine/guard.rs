//! Whether a variant keeps its quality budget, by what was scored.

use super::settings::Guard;
use super::status::{GuardStatus, Interval};
use std::collections::VecDeque;

/// How often the least number of tokens is enough for a mean alone to decide.
const SURE: usize = 4;

/// Half the width of a 95% interval in standard errors.
const NORMAL: f64 = 1.96;

/// Some tokens of one answer that were scored together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scored {
    pub(super) tokens: usize,
    /// Tokens where both likeliest tokens are the same.
    pub(super) agreed: usize,
    /// Sum of the divergences in nats.
    pub(super) kl: f64,
}

/// What was scored of a variant.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// The latest, as far as they can decide.
    latest: VecDeque<Scored>,
    tokens: u64,
    answers: u64,
}

impl Judged {
    pub(super) fn add(&mut self, guard: &Guard, scored: Scored) {
        self.tokens += scored.tokens as u64;
        self.latest.push_back(scored);
        let enough = 2 * SURE * guard.tokens;
        while self.latest.len() > 1 && self.held() - self.latest[0].tokens >= enough {
            self.latest.pop_front();
        }
    }

    pub(super) fn end_answer(&mut self) {
        self.answers += 1;
    }

    /// Tokens that decide.
    fn held(&self) -> usize {
        self.latest.iter().map(|scored| scored.tokens).sum()
    }

    fn agreement(&self) -> Interval {
        interval(self.latest.iter().map(|s| (s.agreed as f64, s.tokens as f64)))
    }

    fn kl(&self) -> Interval {
        interval(self.latest.iter().map(|s| (s.kl, s.tokens as f64)))
    }

    /// Why the variant is to fall back, if it is: its whole interval is beyond a limit, or its mean after
    /// [`SURE`] times as many tokens.
    pub(super) fn verdict(&self, guard: &Guard) -> Option<String> {
        let tokens = self.held();
        if tokens < guard.tokens.max(1) {
            return None;
        }
        let sure = tokens >= SURE * guard.tokens;
        let (agreement, kl) = (self.agreement(), self.kl());
        let low = if sure { agreement.mean } else { agreement.high };
        if low < guard.min_agreement {
            return Some(format!(
                "agreement with the dense model is {:.1}% [{:.1}, {:.1}] over {tokens} tokens, under {:.1}%",
                100.0 * agreement.mean,
                100.0 * agreement.low,
                100.0 * agreement.high,
                100.0 * guard.min_agreement
            ));
        }
        let high = if sure { kl.mean } else { kl.low };
        (high > guard.max_kl).then(|| {
            format!(
                "divergence from the dense model is {:.3} [{:.3}, {:.3}] nats a token over {tokens} tokens, \
                 above {}",
                kl.mean, kl.low, kl.high, guard.max_kl
            )
        })
    }

    pub(super) fn status(&self, guard: &Guard, waiting_tokens: u64) -> GuardStatus {
        GuardStatus {
            tokens: self.tokens,
            answers: self.answers,
            waiting_tokens,
            agreement: self.agreement(),
            kl: self.kl(),
            min_agreement: guard.min_agreement,
            max_kl: Some(guard.max_kl).filter(|kl| kl.is_finite()),
        }
    }
}

/// The ratio of two sums over clusters, with the normal interval of a ratio estimator (Cochran, Sampling
/// Techniques, §6.4); of one cluster it is as wide as nothing is known of it: the mean alone.
fn interval(clusters: impl Iterator<Item = (f64, f64)> + Clone) -> Interval {
    let (count, sum, size) = clusters
        .clone()
        .fold((0.0, 0.0, 0.0), |(c, s, n), (value, of)| (c + 1.0, s + value, n + of));
    if size == 0.0 {
        return Interval::default();
    }
    let mean = sum / size;
    let squares: f64 = clusters.map(|(value, of)| (value - mean * of).powi(2)).sum();
    let error = if count > 1.0 { (squares * count / (count - 1.0)).sqrt() / size } else { 0.0 };
    Interval { mean, low: (mean - NORMAL * error).max(0.0), high: mean + NORMAL * error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard { sample: 1.0, min_agreement: 0.9, max_kl: 0.2, tokens: 100 }
    }

    fn judged(scored: impl IntoIterator<Item = (usize, f64)>) -> Judged {
        let mut judged = Judged::default();
        for (agreed, kl) in scored {
            judged.add(&guard(), Scored { tokens: 10, agreed, kl });
        }
        judged
    }

    #[test]
    fn a_good_variant_stays() {
        let judged = judged((0..100).map(|i| (9 + i % 2, 1.0)));
        assert_eq!(judged.verdict(&guard()), None);
    }

    #[test]
    fn a_bad_one_falls_as_soon_as_enough_is_known() {
        assert_eq!(judged((0..9).map(|_| (2, 0.1))).verdict(&guard()), None);
        let why = judged((0..10).map(|_| (2, 0.1))).verdict(&guard()).unwrap();
        assert!(why.contains("agreement") && why.contains("20.0%"), "{why}");
        let why = judged((0..10).map(|_| (10, 9.0))).verdict(&guard()).unwrap();
        assert!(why.contains("divergence") && why.contains("0.900"), "{why}");
    }

    #[test]
    fn a_slightly_bad_one_falls_when_it_is_sure() {
        // Mean 0.89, with an interval that holds the limit.
        let mixed = |count: usize| (0..count).map(|i| (if i % 10 == 0 { 8 } else { 9 }, 0.0));
        assert_eq!(judged(mixed(30)).verdict(&guard()).is_some(), {
            let agreement = judged(mixed(30)).agreement();
            agreement.high < 0.9
        });
        assert!(judged(mixed(40)).verdict(&guard()).is_some());
    }

    #[test]
    fn old_scores_are_forgotten() {
        let mut judged = judged((0..80).map(|_| (0, 0.0)));
        for _ in 0..80 {
            judged.add(&guard(), Scored { tokens: 10, agreed: 10, kl: 0.0 });
        }
        assert_eq!(judged.agreement().mean, 1.0);
        assert_eq!(judged.status(&guard(), 0).tokens, 1600);
    }

    #[test]
    fn an_interval_is_that_of_a_ratio() {
        let clusters = [(8.0, 10.0), (10.0, 10.0)];
        let interval = interval(clusters.into_iter());
        assert!((interval.mean - 0.9).abs() < 1e-12);
        // Residuals −1 and 1: √(2 · 2/1) / 20.
        assert!((interval.high - (0.9 + 1.96 * 0.1)).abs() < 1e-12);
    }
}
