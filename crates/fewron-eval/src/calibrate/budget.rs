//! Shares of neurons off by layer, from how much their neurons matter to the loss.

use super::masks::Shadow;
use super::{CalibrateError, Calibrator};
use fewron_sparsity::selection::quantile;
use fewron_sparsity::{Importance, LayerPlan, PolicyKind};

/// Calibration windows whose neurons are pooled, at most.
const WINDOWS: usize = 8;

/// Highest share of a layer.
const MOST: f32 = 0.97;

/// Root Fisher information of neurons of some tokens, |act(gate_i)|·√E(up_i²)·√E(g_i²), by layer and
/// ascending.
///
/// Its square is the curvature of KL(dense‖sparse) along a neuron, so one threshold over all layers is the
/// allotment with the least KL for as many neurons, to second order. All neurons have as many bytes.
pub struct Sensitivity {
    scores: Vec<Vec<f32>>,
}

impl Calibrator<'_> {
    /// Measures the neurons of some windows.
    pub(super) fn sensitivity(
        &mut self,
        importance: &Importance,
    ) -> Result<Sensitivity, CalibrateError> {
        let worth = importance.sensitivity();
        let mut scores = vec![Vec::new(); worth.len()];
        let windows = &self.windows.calibration;
        let every = windows.len().div_ceil(WINDOWS);
        for (index, window) in windows.iter().step_by(every).enumerate() {
            self.step("sensitivity", index, WINDOWS)?;
            let mut x = self.session.embed(&window.tokens)?;
            for (layer, worth) in worth.iter().enumerate() {
                let layer_plan =
                    LayerPlan { weights: worth.as_slice().into(), ..LayerPlan::default() };
                let shadow = Shadow::new(PolicyKind::Gate, &layer_plan, window.dense);
                let mut shadow = shadow.with_scores();
                self.session.block(layer, &mut x, Some(&mut shadow), None);
                // Neighbouring tokens are alike: one in four will do.
                let rows = shadow.scores.unwrap_or_default();
                let rows = rows.chunks_exact(worth.len()).step_by(4);
                scores[layer].extend(rows.flatten());
            }
        }
        scores.iter_mut().for_each(|scores| scores.sort_unstable_by(f32::total_cmp));
        Ok(Sensitivity { scores })
    }
}

impl Sensitivity {
    /// Shares by layer whose mean is `sparsity`.
    pub(super) fn ratios(&self, sparsity: f32) -> Vec<f32> {
        let mut all: Vec<f32> = self.scores.concat();
        all.sort_unstable_by(f32::total_cmp);
        // What a layer at its highest share cannot take goes to the others.
        let (mut low, mut high) = (sparsity, 1.0);
        for _ in 0..24 {
            let middle = (low + high) / 2.0;
            let ratios = self.under(quantile(&all, middle));
            let mean = ratios.iter().sum::<f32>() / ratios.len() as f32;
            if mean < sparsity { low = middle } else { high = middle }
        }
        let ratios = self.under(quantile(&all, high));
        let mean = ratios.iter().sum::<f32>() / ratios.len().max(1) as f32;
        ratios.iter().map(|ratio| (ratio + sparsity - mean).clamp(0.0, 1.0)).collect()
    }

    /// The share of each layer under a threshold.
    fn under(&self, least: f32) -> Vec<f32> {
        let share = |scores: &Vec<f32>| {
            let under = scores.partition_point(|&score| score < least);
            (under as f32 / scores.len().max(1) as f32).min(MOST)
        };
        self.scores.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_goes_where_neurons_matter_least() {
        let cheap: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let dear: Vec<f32> = cheap.iter().map(|score| score * 3.0 + 100.0).collect();
        let sensitivity = Sensitivity { scores: vec![cheap.clone(), dear, cheap] };
        for sparsity in [0.1, 0.5, 0.8, 0.9] {
            let ratios = sensitivity.ratios(sparsity);
            let mean = ratios.iter().sum::<f32>() / 3.0;
            assert!((mean - sparsity).abs() < 2e-3, "{sparsity} {ratios:?}");
            assert!(ratios[1] < ratios[0] && ratios.iter().all(|&r| r <= 1.0), "{ratios:?}");
        }
        let alike = Sensitivity { scores: vec![vec![1.0, 2.0, 3.0, 4.0]; 2] };
        assert!(alike.ratios(0.5).iter().all(|ratio| (ratio - 0.5).abs() < 1e-3));
    }
}
