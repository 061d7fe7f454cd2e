//! Co-activation: units of a layer that are kept together.

use super::bits::BitStore;
use super::record::{Kind, Pair};
use crate::sweep::pairs as all_pairs;

/// Units of a layer that are paired: those whose indicators vary most. n of them take n²/2 counts.
const CANDIDATES: usize = 256;

/// Pairs that a layer gives.
const STRONGEST: usize = 20;

/// Steps that must keep a unit, and as many that must not, before it is paired.
const LEAST: u64 = 5;

/// The pairs of a layer with the largest correlation by size, of the units with the largest variance
/// p·(1 − p). Correlation is the phi coefficient of the two indicators (Pearson, 1900), lift the ratio
/// P(a,b) / (P(a)·P(b)). `kept` counts the steps, of `steps` in all, that keep each unit of the layer.
pub(super) fn pairs(
    store: &BitStore,
    kind: Kind,
    layer: usize,
    kept: &[u32],
    steps: u64,
) -> Vec<Pair> {
    let tokens = store.tokens() as u64;
    let candidates = candidates(kept, steps);
    let columns = store.columns(layer, &candidates);
    let counts: Vec<u64> = columns.iter().map(|column| ones(column)).collect();
    let varies = |i: &usize| counts[*i] >= LEAST && tokens - counts[*i] >= LEAST;
    let mut found = Vec::new();
    for (i, j) in all_pairs(candidates.len()).filter(|(i, j)| varies(i) && varies(j)) {
        let both: u64 =
            columns[i].iter().zip(&columns[j]).map(|(a, b)| u64::from((a & b).count_ones())).sum();
        let (lift, phi) = association(tokens, counts[i], counts[j], both);
        found.push(Pair { kind, layer, a: candidates[i], b: candidates[j], both, lift, phi });
    }
    found.sort_by(|x, y| y.phi.abs().total_cmp(&x.phi.abs()).then((x.a, x.b).cmp(&(y.a, y.b))));
    found.truncate(STRONGEST);
    found
}

/// The units whose indicators vary most, ascending.
fn candidates(kept: &[u32], steps: u64) -> Vec<usize> {
    let variance = |unit: &usize| u64::from(kept[*unit]) * (steps - u64::from(kept[*unit]));
    let mut units: Vec<usize> = (0..kept.len()).collect();
    units.sort_by_key(|unit| std::cmp::Reverse(variance(unit)));
    units.truncate(CANDIDATES);
    units.sort_unstable();
    units
}

fn ones(bits: &[u64]) -> u64 {
    bits.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// Lift and phi coefficient of two indicators that are on at `a` and `b` of `n` tokens, at `both` together.
fn association(n: u64, a: u64, b: u64, both: u64) -> (f64, f64) {
    let [n, a, b, both] = [n, a, b, both].map(|count| count as f64);
    let phi = (n * both - a * b) / (a * (n - a) * b * (n - b)).sqrt();
    (n * both / (a * b), phi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn associations_of_known_tables() {
        let (lift, phi) = association(100, 20, 20, 20);
        assert!((lift - 5.0).abs() < 1e-12 && (phi - 1.0).abs() < 1e-12);
        let (lift, phi) = association(100, 50, 40, 20);
        assert!((lift - 1.0).abs() < 1e-12 && phi.abs() < 1e-12);
        let (lift, phi) = association(100, 50, 50, 0);
        assert!(lift == 0.0 && (phi + 1.0).abs() < 1e-12);
    }

    #[test]
    fn candidates_are_those_in_the_middle() {
        let mut kept = vec![0; 300];
        (0..260).for_each(|unit| kept[unit] = 10);
        kept[299] = 20;
        kept[3] = 1;
        let units = candidates(&kept, 20);
        assert_eq!(units.len(), CANDIDATES);
        assert!(!units.contains(&3) && !units.contains(&299), "they hardly vary");
    }
}
