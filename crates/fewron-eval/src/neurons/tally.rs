//! What is counted while answers come in.

use super::bits::BitStore;
use super::overlap::{Chances, OverlapSum};
use super::record::Means;

/// Kept units of an answer: `[steps][layers]`, ascending.
pub(super) type Steps = Vec<Vec<Vec<u32>>>;

/// What one mask keeps of the units of one kind. Memory: 4 bytes a unit and category, and the budget of the
/// store.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) layers: usize,
    pub(super) units: usize,
    /// Masked steps.
    pub(super) tokens: u64,
    /// Steps that keep each unit, `[layers · units]`.
    pub(super) kept: Vec<u32>,
    /// The same by category.
    pub(super) by_category: Vec<Vec<u32>>,
    /// Neighbouring steps of an answer, by layer.
    pub(super) stability: Vec<OverlapSum>,
    /// The same step of an answer and of the one before it, by layer.
    pub(super) between: Vec<OverlapSum>,
    pub(super) store: BitStore,
    last: Steps,
    chances: Chances,
}

impl Tally {
    pub(super) fn new(layers: usize, units: usize, categories: usize, budget_bytes: usize) -> Self {
        Self {
            layers,
            units,
            tokens: 0,
            kept: vec![0; layers * units],
            by_category: vec![vec![0; layers * units]; categories],
            stability: vec![OverlapSum::default(); layers],
            between: vec![OverlapSum::default(); layers],
            store: BitStore::new(layers, units, budget_bytes),
            last: Vec::new(),
            chances: Chances::default(),
        }
    }

    /// Adds an answer.
    pub(super) fn add(&mut self, steps: Steps, category: Option<usize>) {
        self.tokens += steps.len() as u64;
        for step in &steps {
            count(&mut self.kept, self.units, step);
            if let Some(category) = category {
                count(&mut self.by_category[category], self.units, step);
            }
        }
        let neighbours = steps.iter().zip(steps.iter().skip(1));
        compare(neighbours, self.units, &mut self.stability, &mut self.chances);
        compare(self.last.iter().zip(&steps), self.units, &mut self.between, &mut self.chances);
        self.store.add(&steps, category);
        self.last = steps;
    }

    /// Steps that keep each unit of a layer.
    pub(super) fn of_layer(&self, layer: usize) -> &[u32] {
        &self.kept[layer * self.units..][..self.units]
    }
}

fn count(kept: &mut [u32], units: usize, step: &[Vec<u32>]) {
    for (layer, list) in step.iter().enumerate() {
        list.iter().for_each(|&unit| kept[layer * units + unit as usize] += 1);
    }
}

/// Adds the overlaps of pairs of steps, layer by layer.
pub(super) fn compare<'a>(
    pairs: impl Iterator<Item = (&'a Vec<Vec<u32>>, &'a Vec<Vec<u32>>)>,
    units: usize,
    sums: &mut [OverlapSum],
    chances: &mut Chances,
) {
    for (a, b) in pairs {
        for ((a, b), sum) in a.iter().zip(b).zip(&mut *sums) {
            sum.add(units, a, b, chances);
        }
    }
}

/// Sums of a value of each unit over steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) signed: Vec<f64>,
    pub(super) absolute: Vec<f64>,
}

impl Sums {
    /// Appends the sums of a layer's values, `[steps, units]`.
    pub(super) fn push_layer(&mut self, values: &[f32], units: usize) {
        let start = self.signed.len();
        self.signed.resize(start + units, 0.0);
        self.absolute.resize(start + units, 0.0);
        for row in values.chunks_exact(units) {
            let sums = self.signed[start..].iter_mut().zip(&mut self.absolute[start..]);
            for (value, (signed, absolute)) in row.iter().zip(sums) {
                *signed += f64::from(*value);
                *absolute += f64::from(value.abs());
            }
        }
    }

    /// Adds another answer's sums.
    pub(super) fn merge(&mut self, other: &Self) {
        for (to, from) in [(&mut self.signed, &other.signed), (&mut self.absolute, &other.absolute)]
        {
            to.resize(from.len(), 0.0);
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }

    pub(super) fn means(&self, steps: u64) -> Means {
        let mean = |sums: &[f64]| sums.iter().map(|sum| sum / steps.max(1) as f64).collect();
        Means { signed: mean(&self.signed), absolute: mean(&self.absolute) }
    }
}
