//! Which units matter for which category of questions.
//!
//! The tokens of an answer resemble each other, so answers are what is counted: a unit's value in an answer
//! is the share of the answer's steps that keep it. A category is held against all other answers by dealing
//! the answers to the categories at random (a permutation test; Good, "Permutation, Parametric and Bootstrap
//! Tests of Hypotheses", 2005), and p counts how often the largest |z| of *any* unit is as large (Westfall
//! and Young, "Resampling-Based Multiple Testing", 1993), so that it holds for all units of a category
//! together, whatever hangs together among them.

use super::bits::BitStore;
use super::record::{CategoryOverlap, Kind, SpecificUnit, Specificity};
use crate::sweep::{jaccard, pairs};
use fewron_sparsity::selection::top_k;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Answers that a category needs, and that must be left outside it.
pub const LEAST_ANSWERS: usize = 5;

/// Answers that must keep a unit at some step, before it is tested.
const LEAST_KEPT: usize = 5;

/// p up to which a unit stands out.
pub(super) const SIGNIFICANT: f64 = 0.05;

/// Random dealings of the answers to the categories.
const PERMUTATIONS: usize = 500;

/// Those of them that core sets are compared under.
const SHUFFLES: usize = 10;

/// Units that a category gives.
const SPECIFIC: usize = 10;

/// A unit's difference between a category and the other answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Difference {
    pub(super) inside: f64,
    pub(super) outside: f64,
    pub(super) z: f64,
}

/// The category tests of one mask and kind.
pub(super) struct Tests<'a> {
    store: &'a BitStore,
    kind: Kind,
    layers: usize,
    units: usize,
    /// Category of each stored answer that has one, as an index into `tested`, or `tested.len()`.
    labels: Vec<usize>,
    /// Indices of those answers in the store.
    answers: Vec<usize>,
    /// Categories with enough answers, with their numbers of answers.
    tested: Vec<(usize, usize)>,
    permutations: Vec<Vec<usize>>,
}

impl<'a> Tests<'a> {
    /// The tests of `categories` categories; none where no category has enough answers.
    pub(super) fn new(
        store: &'a BitStore,
        kind: Kind,
        (layers, units): (usize, usize),
        categories: usize,
        seed: u64,
    ) -> Self {
        let labelled = store.answers().iter().enumerate();
        let (answers, raw): (Vec<usize>, Vec<usize>) =
            labelled.filter_map(|(i, answer)| Some((i, answer.category?))).unzip();
        let count = |category: usize| raw.iter().filter(|&&c| c == category).count();
        let enough = |n: &usize| *n >= LEAST_ANSWERS && raw.len() - n >= LEAST_ANSWERS;
        let tested: Vec<(usize, usize)> =
            (0..categories).map(|c| (c, count(c))).filter(|(_, n)| enough(n)).collect();
        let place = |c: &usize| tested.iter().position(|(t, _)| t == c).unwrap_or(tested.len());
        let labels: Vec<usize> = raw.iter().map(place).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let permutations = (0..PERMUTATIONS).map(|_| {
            let mut permuted = labels.clone();
            permuted.shuffle(&mut rng);
            permuted
        });
        let permutations = permutations.collect();
        Self { store, kind, layers, units, labels, answers, tested, permutations }
    }

    /// Whether any category has enough answers.
    pub(super) fn any(&self) -> bool {
        !self.tested.is_empty()
    }

    /// Runs all tests, layers spread over threads. `names` are the categories'.
    pub(super) fn run(&self, names: &[String], threads: usize) -> Tested {
        let layers = self.all_layers(threads);
        let mut maxima = vec![vec![0.0f64; self.tested.len()]; PERMUTATIONS];
        for layer in &layers {
            for (all, own) in maxima.iter_mut().flatten().zip(layer.maxima.iter().flatten()) {
                *all = all.max(*own);
            }
        }
        let mut by_category = vec![Vec::new(); self.tested.len()];
        maxima.iter().for_each(|row| by_category.iter_mut().zip(row).for_each(|(c, z)| c.push(*z)));
        by_category.iter_mut().for_each(|c: &mut Vec<f64>| c.sort_by(f64::total_cmp));
        Tested {
            kind: self.kind,
            names: self.tested.iter().map(|(c, _)| names[*c].clone()).collect(),
            answers: self.tested.iter().map(|(_, answers)| *answers).collect(),
            layers,
            maxima: by_category,
        }
    }

    fn all_layers(&self, threads: usize) -> Vec<LayerTests> {
        let per_thread = self.layers.div_ceil(threads.max(1)).max(1);
        let starts: Vec<usize> = (0..self.layers).step_by(per_thread).collect();
        std::thread::scope(|scope| {
            let run = |start: usize| {
                let layers = start..(start + per_thread).min(self.layers);
                scope.spawn(move || layers.map(|l| self.layer(l)).collect::<Vec<_>>())
            };
            let running: Vec<_> = starts.into_iter().map(run).collect();
            let finished = running.into_iter().map(|thread| match thread.join() {
                Ok(layers) => layers,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            finished.flatten().collect()
        })
    }

    fn layer(&self, layer: usize) -> LayerTests {
        let stored = self.store.answers();
        let shares: Vec<Vec<f32>> =
            self.answers.iter().map(|&i| self.store.shares(&stored[i], layer)).collect();
        let spread = Spread::new(&shares, self.units);
        let sums = self.sums(&shares, &self.labels);
        let kept = spread.mean.iter().sum::<f64>().round() as usize;
        let core = self.core(&sums, kept);
        let (mut maxima, mut shuffled) = (Vec::with_capacity(PERMUTATIONS), Vec::new());
        for (n, labels) in self.permutations.iter().enumerate() {
            let sums = self.sums(&shares, labels);
            let largest =
                |((_, inside), sums): (&(usize, usize), &Vec<f32>)| spread.largest_z(sums, *inside);
            maxima.push(self.tested.iter().zip(&sums).map(largest).collect());
            if n < SHUFFLES {
                shuffled.push(self.core(&sums, kept));
            }
        }
        let shuffled = self.mean_overlaps(&shuffled);
        LayerTests { spread, sums, maxima, overlap: self.mean_overlaps(&[core]), shuffled }
    }

    /// Sums of the answers' shares by tested category, `[tested][units]`.
    fn sums(&self, shares: &[Vec<f32>], labels: &[usize]) -> Vec<Vec<f32>> {
        let mut sums = vec![vec![0.0; self.units]; self.tested.len()];
        for (shares, &label) in shares.iter().zip(labels) {
            if let Some(sums) = sums.get_mut(label) {
                sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
            }
        }
        sums
    }

    /// The `kept` units that each category keeps most often.
    fn core(&self, sums: &[Vec<f32>], kept: usize) -> Vec<Vec<u32>> {
        let best = |sums: &Vec<f32>| {
            let mut core = Vec::new();
            top_k(sums, kept, &mut core);
            core
        };
        sums.iter().map(best).collect()
    }

    /// By pair of tested categories the mean overlap of their core sets.
    fn mean_overlaps(&self, dealings: &[Vec<Vec<u32>>]) -> Vec<f64> {
        let overlap = |a: usize, b: usize| {
            let indices = dealings.iter().map(|core| jaccard(&core[a], &core[b]).unwrap_or(1.0));
            indices.sum::<f64>() / dealings.len().max(1) as f64
        };
        pairs(self.tested.len()).map(|(a, b)| overlap(a, b)).collect()
    }
}

/// Mean and variance of each unit's share over the answers.
struct Spread {
    answers: usize,
    mean: Vec<f64>,
    /// 1 / S², S² = Σ(share − mean)² / (answers − 1); 0 for units that are not tested.
    inverse_variance: Vec<f64>,
}

impl Spread {
    fn new(shares: &[Vec<f32>], units: usize) -> Self {
        let n = shares.len();
        let (mut mean, mut inverse_variance) = (vec![0.0; units], vec![0.0; units]);
        for unit in 0..units {
            let values = || shares.iter().map(|row| f64::from(row[unit]));
            let center = values().sum::<f64>() / n as f64;
            let squares: f64 = values().map(|v| (v - center).powi(2)).sum();
            let tested = values().filter(|v| *v > 0.0).count() >= LEAST_KEPT && squares > 1e-9;
            mean[unit] = center;
            inverse_variance[unit] = if tested { (n - 1) as f64 / squares } else { 0.0 };
        }
        Self { answers: n, mean, inverse_variance }
    }

    /// Variance of the sum of `inside` of the answers, drawn without replacement, over S².
    fn dealing(&self, inside: usize) -> f64 {
        (inside * (self.answers - inside)) as f64 / self.answers as f64
    }

    /// `None` for units that are not tested.
    fn difference(&self, unit: usize, sum: f32, inside: usize) -> Option<Difference> {
        let (sum, n) = (f64::from(sum), inside as f64);
        let inverse = self.inverse_variance[unit];
        let z = (sum - n * self.mean[unit]) * (inverse / self.dealing(inside)).sqrt();
        let outside = (self.mean[unit] * self.answers as f64 - sum) / (self.answers as f64 - n);
        (inverse > 0.0).then_some(Difference { inside: sum / n, outside: outside.max(0.0), z })
    }

    fn largest_z(&self, sums: &[f32], inside: usize) -> f64 {
        let units = sums.iter().zip(&self.mean).zip(&self.inverse_variance);
        let square = |((sum, mean), inverse): ((&f32, &f64), &f64)| {
            (f64::from(*sum) - inside as f64 * mean).powi(2) * inverse
        };
        (units.map(square).fold(0.0, f64::max) / self.dealing(inside)).sqrt()
    }
}

struct LayerTests {
    spread: Spread,
    /// Sums of the answers' shares by tested category and unit.
    sums: Vec<Vec<f32>>,
    /// Largest |z| of the layer, by permutation and tested category.
    maxima: Vec<Vec<f64>>,
    /// By pair of tested categories.
    overlap: Vec<f64>,
    shuffled: Vec<f64>,
}

/// Results of the tests.
pub(super) struct Tested {
    kind: Kind,
    /// Of the tested categories.
    pub(super) names: Vec<String>,
    /// Their numbers of answers.
    answers: Vec<usize>,
    layers: Vec<LayerTests>,
    /// By tested category the largest |z| of each permutation, ascending.
    maxima: Vec<Vec<f64>>,
}

impl Tested {
    /// Share of permutations, the real dealing among them, whose largest |z| is as large.
    pub(super) fn p(&self, category: usize, z: f64) -> f64 {
        let maxima = &self.maxima[category];
        let below = maxima.partition_point(|max| *max < z.abs() - 1e-9);
        (maxima.len() - below + 1) as f64 / (maxima.len() + 1) as f64
    }

    /// A unit's difference in a tested category; `None` for units that are not tested.
    pub(super) fn difference(
        &self,
        category: usize,
        layer: usize,
        unit: usize,
    ) -> Option<Difference> {
        let LayerTests { spread, sums, .. } = &self.layers[layer];
        spread.difference(unit, sums[category][unit], self.answers[category])
    }

    /// By tested category.
    pub(super) fn specificity(&self) -> Vec<Specificity> {
        (0..self.names.len()).map(|category| self.of_category(category)).collect()
    }

    fn of_category(&self, category: usize) -> Specificity {
        let mut units = Vec::new();
        let mut rms_z = Vec::new();
        for (layer, tests) in self.layers.iter().enumerate() {
            let first = units.len();
            for unit in 0..tests.spread.mean.len() {
                let difference = self.difference(category, layer, unit);
                let Some(Difference { inside, outside, z }) = difference else { continue };
                let p = self.p(category, z);
                units.push(SpecificUnit { layer, unit, inside, outside, z, p });
            }
            let squares: f64 = units[first..].iter().map(|unit| unit.z * unit.z).sum();
            let tested = units.len() - first;
            rms_z.push((tested > 0).then(|| (squares / tested as f64).sqrt()));
        }
        units.sort_by(|a, b| {
            b.z.abs().total_cmp(&a.z.abs()).then((a.layer, a.unit).cmp(&(b.layer, b.unit)))
        });
        let significant = units.iter().filter(|unit| unit.p <= SIGNIFICANT).count();
        units.truncate(SPECIFIC);
        Specificity {
            category: self.names[category].clone(),
            kind: self.kind,
            rms_z,
            significant,
            units,
        }
    }

    /// By pair of tested categories.
    pub(super) fn category_overlap(&self) -> Vec<CategoryOverlap> {
        let mean = |values: &dyn Fn(&LayerTests) -> f64| {
            self.layers.iter().map(values).sum::<f64>() / self.layers.len() as f64
        };
        let of_pair = |(pair, (a, b)): (usize, (usize, usize))| CategoryOverlap {
            a: self.names[a].clone(),
            b: self.names[b].clone(),
            kind: self.kind,
            jaccard: mean(&|layer| layer.overlap[pair]),
            shuffled: mean(&|layer| layer.shuffled[pair]),
        };
        pairs(self.names.len()).enumerate().map(of_pair).collect()
    }
}
