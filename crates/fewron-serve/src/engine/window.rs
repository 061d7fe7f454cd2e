//! The latest observations: percentiles and rates.

use super::status::Percentiles;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Observations that count.
const LATEST: usize = 2048;

/// Time over which a rate is taken.
const SPAN: Duration = Duration::from_secs(5);

/// The latest observations of a quantity.
#[derive(Debug, Default)]
pub(super) struct Latest(VecDeque<f64>);

impl Latest {
    pub(super) fn push(&mut self, value: f64) {
        if self.0.len() == LATEST {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The observations of several quantities together.
    pub(super) fn percentiles<'a>(of: impl IntoIterator<Item = &'a Self>) -> Percentiles {
        let mut values: Vec<f64> = of.into_iter().flat_map(|latest| &latest.0).copied().collect();
        values.sort_unstable_by(f64::total_cmp);
        // The least value that at least this share of the values does not exceed.
        let at = |share: f64| match values.len() {
            0 => 0.0,
            count => values[((share * count as f64).ceil() as usize).clamp(1, count) - 1],
        };
        Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), count: values.len() }
    }
}

/// How many a second, over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rate(VecDeque<(Instant, usize)>);

impl Rate {
    pub(super) fn add(&mut self, now: Instant, count: usize) {
        if count > 0 {
            self.0.push_back((now, count));
        }
        while self.0.front().is_some_and(|(time, _)| now.duration_since(*time) > SPAN) {
            self.0.pop_front();
        }
    }

    pub(super) fn per_second(&self, now: Instant, start: Instant) -> f64 {
        let span = SPAN.min(now.duration_since(start)).as_secs_f64().max(0.1);
        let recent = |(time, _): &&(Instant, usize)| now.duration_since(*time) <= SPAN;
        let count: usize = self.0.iter().filter(recent).map(|(_, count)| count).sum();
        count as f64 / span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_observations() {
        let mut latest = Latest::default();
        (1..=100).rev().for_each(|value| latest.push(f64::from(value)));
        let p = Latest::percentiles([&latest]);
        assert_eq!((p.p50, p.p90, p.p99, p.count), (50.0, 90.0, 99.0, 100));
        let none = Latest::percentiles([]);
        assert_eq!((none.p50, none.count), (0.0, 0));
    }

    #[test]
    fn only_the_latest_count() {
        let mut latest = Latest::default();
        (0..LATEST + 10).for_each(|value| latest.push(if value < 10 { 1e9 } else { 1.0 }));
        assert_eq!(Latest::percentiles([&latest]).p99, 1.0);
    }

    #[test]
    fn a_rate_forgets() {
        let start = Instant::now();
        let mut rate = Rate::default();
        rate.add(start, 50);
        assert_eq!(rate.per_second(start + SPAN, start), 10.0);
        assert_eq!(rate.per_second(start + 2 * SPAN, start), 0.0);
    }
}
