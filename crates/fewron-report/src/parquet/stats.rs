//! Statistics of every unit over all tokens of a run: which neurons matter always, which never.

use std::collections::BTreeMap;

use super::UnitKind;
use crate::ReportError;

/// Running statistics per layer, kind and unit; one call of [`add`](Self::add) per token and layer.
///
/// Memory is proportional to the units of the model, not to the tokens seen.
#[derive(Clone, Debug)]
pub struct NeuronStats {
    pub(super) ratios: Vec<f32>,
    layers: BTreeMap<(u32, UnitKind), Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    tokens: u64,
    units: Vec<Running>,
    /// `[ratio][unit]`: tokens at which the unit was among its layer's top (1 − ratio).
    kept: Vec<Vec<u64>>,
    order: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    mean: f64,
    m2: f64,
    abs_sum: f64,
    max: f32,
}

/// Statistics of one unit: one row of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitStats {
    /// Layer.
    pub layer: u32,
    /// MLP neuron or head.
    pub kind: UnitKind,
    /// Position in its layer.
    pub unit: u32,
    /// Tokens seen.
    pub tokens: u64,
    /// Mean score.
    pub mean: f32,
    /// Population standard deviation of the score.
    pub std: f32,
    /// Mean absolute score.
    pub mean_abs: f32,
    /// Largest score.
    pub max: f32,
    /// Per ratio r: share of tokens at which the unit is in its layer's top (1 − r), 0..1.
    pub kept: Vec<f32>,
}

impl Default for NeuronStats {
    /// Counts at the ratios 0.5 and 0.8: columns `kept_at_50` and `kept_at_80`.
    fn default() -> Self {
        Self::new(&[0.5, 0.8])
    }
}

impl NeuronStats {
    /// Counts at `ratios` (share of a layer that is off, 0..1): column `kept_at_P` for each, P in %.
    pub fn new(ratios: &[f32]) -> Self {
        Self { ratios: ratios.to_vec(), layers: BTreeMap::new() }
    }

    /// Takes in the scores of all units of one layer and kind at one token.
    ///
    /// Of n units, round((1 − r)·n) count as kept, at least one.
    ///
    /// # Errors
    /// [`ReportError::UnitCount`] when the layer had another size before,
    /// [`ReportError::NotFinite`] at a NaN or infinite score; the statistics stay as they were.
    pub fn add(&mut self, layer: u32, kind: UnitKind, scores: &[f32]) -> Result<(), ReportError> {
        if let Some(unit) = scores.iter().position(|score| !score.is_finite()) {
            return Err(ReportError::NotFinite { layer, kind, unit, value: scores[unit] });
        }
        let ratios = self.ratios.len();
        let entry =
            self.layers.entry((layer, kind)).or_insert_with(|| Layer::new(scores.len(), ratios));
        let expected = entry.units.len();
        if expected != scores.len() {
            return Err(ReportError::UnitCount { layer, kind, expected, got: scores.len() });
        }
        entry.add(scores, &self.ratios);
        Ok(())
    }

    /// All rows, by layer, kind and unit.
    pub fn rows(&self) -> impl Iterator<Item = UnitStats> + '_ {
        self.layers.iter().flat_map(|((layer, kind), stats)| {
            (0..stats.units.len()).map(|unit| stats.row(*layer, *kind, unit))
        })
    }

    /// Names of the share columns: `kept_at_50` for the ratio 0.5.
    pub fn kept_columns(&self) -> Vec<String> {
        self.ratios
            .iter()
            .map(|ratio| {
                let percent = (f64::from(*ratio) * 1000.0).round() / 10.0;
                format!("kept_at_{}", percent.to_string().replace('.', "_"))
            })
            .collect()
    }
}

impl Layer {
    fn new(units: usize, ratios: usize) -> Self {
        let empty = Running { mean: 0.0, m2: 0.0, abs_sum: 0.0, max: f32::NEG_INFINITY };
        Self {
            tokens: 0,
            units: vec![empty; units],
            kept: vec![vec![0; units]; ratios],
            order: (0..units as u32).collect(),
        }
    }

    fn add(&mut self, scores: &[f32], ratios: &[f32]) {
        self.tokens += 1;
        for (unit, score) in self.units.iter_mut().zip(scores) {
            unit.add(*score, self.tokens);
        }
        // Highest first; equal scores by position, so that a tie counts the same unit every time.
        self.order.sort_unstable_by(|a, b| {
            scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b))
        });
        for (ratio, counts) in ratios.iter().zip(&mut self.kept) {
            let keep = ((1.0 - f64::from(*ratio)) * scores.len() as f64).round() as usize;
            for unit in self.order.iter().take(keep.max(1)) {
                counts[*unit as usize] += 1;
            }
        }
    }

    fn row(&self, layer: u32, kind: UnitKind, unit: usize) -> UnitStats {
        let tokens = self.tokens as f64;
        let running = &self.units[unit];
        UnitStats {
            layer,
            kind,
            unit: unit as u32,
            tokens: self.tokens,
            mean: running.mean as f32,
            std: (running.m2 / tokens).sqrt() as f32,
            mean_abs: (running.abs_sum / tokens) as f32,
            max: running.max,
            kept: self.kept.iter().map(|counts| (counts[unit] as f64 / tokens) as f32).collect(),
        }
    }
}

impl Running {
    /// Welford's update: stable for millions of tokens.
    fn add(&mut self, score: f32, tokens: u64) {
        let value = f64::from(score);
        let delta = value - self.mean;
        self.mean += delta / tokens as f64;
        self.m2 += delta * (value - self.mean);
        self.abs_sum += value.abs();
        self.max = self.max.max(score);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::parquet) fn sample() -> NeuronStats {
        let mut stats = NeuronStats::default();
        stats.add(1, UnitKind::Mlp, &[4.0, 3.0, -2.0, 1.0]).unwrap();
        stats.add(1, UnitKind::Mlp, &[2.0, 3.0, 0.0, 9.0]).unwrap();
        stats.add(0, UnitKind::Head, &[1.0]).unwrap();
        stats
    }

    #[test]
    fn statistics_equal_the_definition() {
        let rows: Vec<UnitStats> = sample().rows().collect();
        assert_eq!(rows.len(), 5);
        assert_eq!((rows[0].layer, rows[0].kind), (0, UnitKind::Head));
        let first = &rows[1];
        assert_eq!((first.mean, first.std, first.mean_abs, first.max), (3.0, 1.0, 3.0, 4.0));
        // Top 2 of 4 are {0, 1} then {3, 1}; top round(0.8) = 1 of 4 is 0, then 3.
        let kept: Vec<&[f32]> = rows[1..].iter().map(|row| row.kept.as_slice()).collect();
        assert_eq!(kept, [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0], [0.5, 0.5]]);
        assert_eq!((rows[3].mean, rows[3].mean_abs), (-1.0, 1.0));
    }

    #[test]
    fn bad_scores_are_refused_and_change_nothing() {
        let mut stats = sample();
        let before: Vec<UnitStats> = stats.rows().collect();
        let nan = stats.add(1, UnitKind::Mlp, &[0.0, f32::NAN, 0.0, 0.0]).unwrap_err();
        assert!(nan.to_string().contains("unit 1 of layer 1 (mlp) is NaN"), "{nan}");
        let size = stats.add(1, UnitKind::Mlp, &[0.0]).unwrap_err();
        assert!(size.to_string().contains("had 4 units before and 1 now"), "{size}");
        assert_eq!(stats.rows().collect::<Vec<_>>(), before);
    }

    #[test]
    fn column_names_follow_the_ratios() {
        assert_eq!(NeuronStats::new(&[0.9, 0.125]).kept_columns(), ["kept_at_90", "kept_at_12_5"]);
    }
}
