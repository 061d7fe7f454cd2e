//! Fitting a plan layer by layer, each on what the sparse layers before it give.

use super::masks::{Behind, SeenMlp, Shadow};
use super::windows::Window;
use super::{CalibrateError, Calibrator, is_dense};
use fewron_kernels::Activations;
use fewron_model::LowRank;
use fewron_sparsity::ridge::Regression;
use fewron_sparsity::selection::{kept_count, quantile};
use fewron_sparsity::{Cut, Plan, Policy, PolicyKind, Selection};
use std::sync::Arc;

/// One window in this many gives scores for a threshold.
const SCORED_EVERY: usize = 6;

/// Quantiles of a layer's scores that a plan keeps.
const QUANTILES: usize = 256;

/// Ridge of a compensation, in the mean square of its inputs.
const RIDGE: f64 = 1e-3;

impl Calibrator<'_> {
    /// Sets cuts and fits compensations for these shares of neurons off, by layer.
    pub(super) fn fit(&mut self, plan: &mut Plan, ratios: &[f32]) -> Result<(), CalibrateError> {
        let windows = self.windows;
        let mut texts = Vec::new();
        for window in &windows.calibration {
            texts.push(self.session.embed(&window.tokens)?);
        }
        for (layer, &ratio) in ratios.iter().enumerate() {
            self.step("fitting layers", layer, ratios.len())?;
            plan.layers[layer].compensation = None;
            plan.layers[layer].cut = Cut::Dense;
            if ratio > 0.0 {
                self.cut_layer(plan, layer, ratio, &texts);
                self.fit_layer(plan, layer, &texts)?;
            }
            for (window, x) in windows.calibration.iter().zip(&mut texts) {
                self.step("fitting layers", layer, ratios.len())?;
                let mut masks = Behind::new(Policy::new(plan), window.dense);
                self.session.block(layer, x, Some(&mut masks), None);
            }
        }
        Ok(())
    }

    /// Sets the same share in every layer, with scores of the dense model.
    pub(super) fn set_cuts(&mut self, plan: &mut Plan, ratio: f32) -> Result<(), CalibrateError> {
        let windows = self.windows;
        let scored = windows.calibration.iter().step_by(SCORED_EVERY).take(4);
        let mut texts = Vec::new();
        for window in scored.clone() {
            texts.push(self.session.embed(&window.tokens)?);
        }
        for layer in 0..plan.layers.len() {
            self.step("thresholds", layer, plan.layers.len())?;
            let mut scores = Vec::new();
            for (window, x) in scored.clone().zip(&mut texts) {
                scores.extend(self.scores(plan, layer, window, x));
            }
            self.set_cut(plan, layer, ratio, scores);
        }
        Ok(())
    }

    /// Sets a layer's cut from the scores of some windows, given the residual streams before it.
    fn cut_layer(&mut self, plan: &mut Plan, layer: usize, ratio: f32, texts: &[Vec<f32>]) {
        let windows = self.windows.calibration.iter().zip(texts).step_by(SCORED_EVERY);
        let mut scores = Vec::new();
        for (window, x) in windows {
            scores.extend(self.scores(plan, layer, window, &mut x.clone()));
        }
        self.set_cut(plan, layer, ratio, scores);
    }

    /// Scores of a window's sparse tokens in a layer; `x` goes through the layer dense.
    fn scores(&mut self, plan: &Plan, layer: usize, window: &Window, x: &mut [f32]) -> Vec<f32> {
        let shadow = Shadow::new(plan.policy, &plan.layers[layer], window.dense);
        let mut shadow = shadow.with_scores();
        self.session.block(layer, x, Some(&mut shadow), None);
        shadow.scores.unwrap_or_default()
    }

    fn set_cut(&self, plan: &mut Plan, layer: usize, ratio: f32, mut scores: Vec<f32>) {
        let by_threshold = self.settings.selection == Selection::Threshold
            && !matches!(plan.policy, PolicyKind::Prompt | PolicyKind::Static);
        let neurons = plan.neurons;
        let l = &mut plan.layers[layer];
        scores.sort_unstable_by(f32::total_cmp);
        let count = scores.len().min(QUANTILES);
        l.quantiles = (0..count).map(|at| scores[at * scores.len() / count]).collect();
        l.cut = match by_threshold && !scores.is_empty() {
            true => Cut::Above(quantile(&scores, ratio)),
            false => Cut::Best(kept_count(neurons, ratio)),
        };
    }

    /// Counts what a layer keeps, and fits what compensates for the rest: the part of the MLP's output that
    /// is dropped, regressed on the MLP's input.
    fn fit_layer(
        &mut self,
        plan: &mut Plan,
        layer: usize,
        texts: &[Vec<f32>],
    ) -> Result<(), CalibrateError> {
        let model = Arc::clone(&self.model);
        let (isa, hidden) = (model.isa(), model.config().hidden);
        let rank = self.settings.compensation;
        // Policy `prompt` keeps other neurons for every request: there is nothing to fit beforehand.
        if is_dense(plan.layers[layer].cut) || plan.policy == PolicyKind::Prompt {
            return Ok(());
        }
        let mut regression = Regression::new(hidden, hidden);
        let mut counts = vec![0u32; plan.neurons];
        let (mut masked, mut dropped) = (0, Dropped::default());
        for (window, x) in self.windows.calibration.iter().zip(texts) {
            let mut shadow = Shadow::new(plan.policy, &plan.layers[layer], window.dense);
            let mut seen = SeenMlp::default();
            self.session.block(layer, &mut x.clone(), Some(&mut shadow), Some(&mut seen));
            let kept = &shadow.kept[window.dense..];
            kept.iter().flatten().for_each(|&neuron| counts[neuron as usize] += 1);
            masked += kept.len();
            if rank > 0 {
                let input = &seen.input[window.dense * hidden..];
                let outputs = &mut seen.outputs[window.dense * plan.neurons..];
                for (row, kept) in outputs.chunks_exact_mut(plan.neurons).zip(kept) {
                    kept.iter().for_each(|&neuron| row[neuron as usize] = 0.0);
                }
                let down = model.down_proj(layer);
                dropped.y.resize(kept.len() * hidden, 0.0);
                dropped.input.set(isa, &self.pool, outputs, plan.neurons, down.layout());
                down.forward(isa, &self.pool, &dropped.input, &mut dropped.y);
                regression.add(input, &dropped.y);
            }
        }
        let share = |&count: &u32| count as f32 / masked.max(1) as f32;
        plan.layers[layer].frequency = counts.iter().map(share).collect();
        if rank > 0 {
            let factors = regression.solve(rank.min(hidden), RIDGE, self.settings.seed);
            let map = factors.and_then(|f| {
                LowRank::new(isa, &self.pool, hidden, &f.first, &f.second, f.bias).ok()
            });
            let map = map.ok_or(CalibrateError::Singular { layer })?;
            plan.layers[layer].compensation = Some(Arc::new(map));
        }
        Ok(())
    }
}

/// Buffers for the part of an MLP's output that is dropped.
#[derive(Default)]
struct Dropped {
    input: Activations,
    y: Vec<f32>,
}
