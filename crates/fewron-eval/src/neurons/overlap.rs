//! Jaccard indices of kept sets, with what chance would give.

use super::record::Overlap;
use crate::sweep::jaccard;
use std::collections::HashMap;

/// Expected Jaccard index |A∩B| / |A∪B| of two sets of `a` and of `b` of `n` units, each drawn at random:
/// Σ P(x) · x / (a + b − x) with the hypergeometric distribution of the intersection x. `None` for two
/// empty sets.
///
/// # Panics
/// When a set is larger than `n`.
pub fn chance_jaccard(n: usize, a: usize, b: usize) -> Option<f64> {
    assert!(a <= n && b <= n, "a set of {a} or {b} out of {n}");
    if a + b == 0 {
        return None;
    }
    let (low, high) = ((a + b).saturating_sub(n), a.min(b));
    let mode = ((a + 1) * (b + 1) / (n + 2)).clamp(low, high);
    // P(x + 1) / P(x).
    let step = |x: usize| {
        let away = (n + x + 1 - a - b) as f64;
        ((a - x) * (b - x)) as f64 / ((x + 1) as f64 * away)
    };
    let index = |x: usize| x as f64 / (a + b - x) as f64;
    // Weights relative to the likeliest intersection, outwards from it.
    let (mut total, mut sum) = (1.0, index(mode));
    let mut weight = 1.0;
    for x in mode..high {
        weight *= step(x);
        (total, sum) = (total + weight, sum + weight * index(x + 1));
    }
    weight = 1.0;
    for x in (low..mode).rev() {
        weight /= step(x);
        (total, sum) = (total + weight, sum + weight * index(x));
    }
    Some(sum / total)
}

/// Chance indices that were computed before: masks have few sizes.
#[derive(Debug, Default)]
pub(super) struct Chances(HashMap<(usize, usize, usize), f64>);

impl Chances {
    fn get(&mut self, n: usize, a: usize, b: usize) -> f64 {
        let key = (n, a.min(b), a.max(b));
        *self.0.entry(key).or_insert_with(|| chance_jaccard(n, a, b).unwrap_or(0.0))
    }
}

/// Sum of Jaccard indices.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OverlapSum {
    jaccard: f64,
    chance: f64,
    pairs: u64,
}

impl OverlapSum {
    /// Adds two ascending lists of units of a layer of `n`; two empty ones say nothing.
    pub(super) fn add(&mut self, n: usize, a: &[u32], b: &[u32], chances: &mut Chances) {
        if let Some(index) = jaccard(a, b) {
            self.jaccard += index;
            self.chance += chances.get(n, a.len(), b.len());
            self.pairs += 1;
        }
    }

    pub(super) fn mean(&self) -> Overlap {
        let mean = |sum: f64| (self.pairs > 0).then(|| sum / self.pairs as f64);
        Overlap { jaccard: mean(self.jaccard), chance: mean(self.chance), pairs: self.pairs }
    }
}
