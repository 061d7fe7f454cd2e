//! Fitting a plan layer by layer, each on what the sparse layers before it give.

use super::masks::{Behind, SeenInputs, SeenMlp, Shadow};
use super::windows::Window;
use super::{CalibrateError, Calibrator};
use fewron_kernels::{Activations, Memory};
use fewron_model::{InputSite, LowRank};
use fewron_sparsity::ridge::Regression;
use fewron_sparsity::selection::{kept_count, quantile};
use fewron_sparsity::{Cut, InputCut, Plan, Policy, PolicyKind, Selection};
use std::sync::Arc;

/// One window in this many gives scores for a threshold.
const SCORED_EVERY: usize = 6;

/// Quantiles of a layer's scores that a plan keeps.
const QUANTILES: usize = 256;

/// Ridge of a compensation, in the mean square of its inputs.
const RIDGE: f64 = 1e-3;

/// Share of the drift of the sparse model from the dense one that a compensation makes good.
const DRIFT: f32 = 0.25;

/// Residual streams of a text before a layer.
struct Text<'w> {
    window: &'w Window,
    sparse: Vec<f32>,
    /// Of the dense model; empty where nothing is fitted.
    dense: Vec<f32>,
}

impl Calibrator<'_> {
    /// Sets cuts and fits compensations for these shares of neurons off, by layer, on one window in `every`
    /// of the calibration text.
    pub(super) fn fit(
        &mut self,
        plan: &mut Plan,
        ratios: &[f32],
        every: usize,
    ) -> Result<(), CalibrateError> {
        let windows = self.windows;
        let compensated = self.compensates(plan);
        let mut texts = Vec::new();
        for window in windows.calibration.iter().step_by(every) {
            let sparse = self.session.embed(&window.tokens)?;
            let dense = if compensated { sparse.clone() } else { Vec::new() };
            texts.push(Text { window, sparse, dense });
        }
        for (layer, &ratio) in ratios.iter().enumerate() {
            self.step("fitting layers", layer, ratios.len())?;
            let l = &mut plan.layers[layer];
            (l.compensation, l.cut, l.inputs) = (None, Cut::Dense, Default::default());
            if ratio > 0.0 && plan.policy == PolicyKind::Input {
                self.cut_inputs(plan, layer, ratio, &texts);
            } else if ratio > 0.0 {
                self.cut_layer(plan, layer, ratio, &texts);
                self.fit_layer(plan, layer, &mut texts)?;
            }
            for text in &mut texts {
                let mut masks = Behind::new(Policy::new(plan), text.window.dense);
                self.session.block(layer, &mut text.sparse, Some(&mut masks), None);
            }
        }
        Ok(())
    }

    /// Whether a plan gets a compensation. Policy `prompt` keeps other neurons for every request: there is
    /// nothing to fit beforehand. Policy `input` switches no neurons off.
    fn compensates(&self, plan: &Plan) -> bool {
        self.settings.compensation > 0
            && !matches!(plan.policy, PolicyKind::Prompt | PolicyKind::Input)
    }

    /// Sets a layer's cut from some texts.
    fn cut_layer(&mut self, plan: &mut Plan, layer: usize, ratio: f32, texts: &[Text]) {
        let stages = match self.settings.single_stage || plan.policy != PolicyKind::Gate {
            true => 0.0,
            false => spread(ratio),
        };
        let (mut scores, mut outputs) = (Vec::new(), Vec::new());
        for text in texts.iter().step_by(SCORED_EVERY) {
            let mut seen = SeenMlp::default();
            let shadow = Shadow::new(plan.policy, &plan.layers[layer], text.window.dense);
            let mut shadow = shadow.with_scores();
            let x = &mut text.sparse.clone();
            self.session.block(layer, x, Some(&mut shadow), Some(&mut seen));
            scores.extend(shadow.scores.unwrap_or_default());
            outputs.extend_from_slice(&seen.outputs[text.window.dense * plan.neurons..]);
        }
        self.set_cut(plan, layer, ratio - stages, &scores);
        if stages > 0.0
            && let Cut::Above(least) = plan.layers[layer].cut
        {
            let norms = self.model.down_proj(layer).row_norms(self.model.isa());
            let rows = outputs.chunks_exact(plan.neurons).zip(scores.chunks_exact(plan.neurons));
            let mut sizes: Vec<f32> = rows
                .flat_map(|(outputs, scores)| outputs.iter().zip(scores).zip(&norms))
                .map(|((o, &score), norm)| if score >= least { o.abs() * norm } else { 0.0 })
                .collect();
            sizes.sort_unstable_by(f32::total_cmp);
            let least = quantile(&sizes, ratio + stages).max(0.0);
            *plan.layers[layer].input_mut(InputSite::Down) =
                InputCut { least, norms: norms.into() };
        }
    }

    /// Sets the thresholds of a layer's inputs from some texts, the same share of channels at each.
    fn cut_inputs(&mut self, plan: &mut Plan, layer: usize, ratio: f32, texts: &[Text]) {
        let mut seen = SeenInputs::default();
        for text in texts.iter().step_by(SCORED_EVERY) {
            seen.dense = text.window.dense;
            self.session.block(layer, &mut text.sparse.clone(), Some(&mut seen), None);
        }
        for (site, values) in InputSite::ALL.into_iter().zip(seen.values) {
            let norms = self.model.channel_norms(layer, site);
            let rows = values.chunks_exact(norms.len());
            let sizes = rows.flat_map(|row| row.iter().zip(&norms).map(|(x, norm)| x.abs() * norm));
            let mut sizes: Vec<f32> = sizes.collect();
            sizes.sort_unstable_by(f32::total_cmp);
            let least = quantile(&sizes, ratio).max(0.0);
            *plan.layers[layer].input_mut(site) = InputCut { least, norms: norms.into() };
        }
    }

    fn set_cut(&self, plan: &mut Plan, layer: usize, ratio: f32, scores: &[f32]) {
        let by_threshold = self.settings.selection == Selection::Threshold
            && !matches!(plan.policy, PolicyKind::Prompt | PolicyKind::Static);
        let neurons = plan.neurons;
        let l = &mut plan.layers[layer];
        let mut scores = scores.to_vec();
        scores.sort_unstable_by(f32::total_cmp);
        let count = scores.len().min(QUANTILES);
        l.quantiles = (0..count).map(|at| scores[at * scores.len() / count]).collect();
        l.cut = match by_threshold && !scores.is_empty() {
            true => Cut::Above(quantile(&scores, ratio).max(f32::MIN)),
            false => Cut::Best(kept_count(neurons, ratio)),
        };
    }

    /// Counts what a layer keeps, and fits what compensates for the rest: the part of the MLP's output that
    /// is dropped, and some of what the layers before have lost, regressed on the MLP's input.
    fn fit_layer(
        &mut self,
        plan: &mut Plan,
        layer: usize,
        texts: &mut [Text],
    ) -> Result<(), CalibrateError> {
        let compensated = self.compensates(plan);
        let hidden = self.model.config().hidden;
        let mut regression = Regression::new(hidden, hidden);
        let mut counts = vec![0u32; plan.neurons];
        let (mut masked, mut dropped) = (0, Dropped::default());
        for text in texts.iter_mut() {
            self.step("fitting layers", layer, plan.layers.len())?;
            let first = text.window.dense;
            let mut shadow = Shadow::new(plan.policy, &plan.layers[layer], first);
            let (mut seen, mut x) = (SeenMlp::default(), text.sparse.clone());
            self.session.block(layer, &mut x, Some(&mut shadow), Some(&mut seen));
            let outputs = &mut seen.outputs[first * plan.neurons..];
            let kept = &shadow.kept[first..];
            for (row, kept) in outputs.chunks_exact_mut(plan.neurons).zip(kept) {
                for &neuron in kept {
                    let output = &mut row[neuron as usize];
                    if plan.layers[layer].input(InputSite::Down).keeps(neuron as usize, *output) {
                        counts[neuron as usize] += 1;
                        *output = 0.0;
                    }
                }
            }
            masked += kept.len();
            if compensated {
                self.session.block(layer, &mut text.dense, None, None);
                self.add_dropped(layer, outputs, &mut dropped);
                if !self.model.config().post_norm {
                    let drift = text.dense[first * hidden..].iter().zip(&x[first * hidden..]);
                    let rows = dropped.y.iter_mut().zip(drift);
                    rows.for_each(|(y, (dense, sparse))| *y += DRIFT * (dense - sparse));
                }
                regression.add(&seen.input[first * hidden..], &dropped.y);
            }
        }
        let share = |&count: &u32| count as f32 / masked.max(1) as f32;
        plan.layers[layer].frequency = counts.iter().map(share).collect();
        if compensated {
            plan.layers[layer].compensation = Some(Arc::new(self.solve(&regression, layer)?));
        }
        Ok(())
    }

    /// The product of the down projection with outputs that are dropped, into `dropped.y`.
    fn add_dropped(&self, layer: usize, outputs: &[f32], dropped: &mut Dropped) {
        let (isa, down) = (self.model.isa(), self.model.down_proj(layer));
        dropped.y.resize(outputs.len() / down.neurons() * down.outputs(), 0.0);
        dropped.input.set(isa, &self.pool, outputs, down.neurons(), down.layout());
        down.forward(isa, &self.pool, &dropped.input, &mut dropped.y);
    }

    fn solve(&self, regression: &Regression, layer: usize) -> Result<LowRank, CalibrateError> {
        let (isa, hidden) = (self.model.isa(), self.model.config().hidden);
        let rank = self.settings.compensation.min(hidden);
        let factors = regression.solve(rank, RIDGE, self.settings.seed);
        let memory = &mut Memory::default();
        let map = factors.and_then(|f| {
            LowRank::new(isa, &self.pool, memory, hidden, &f.first, &f.second, f.bias).ok()
        });
        map.ok_or(CalibrateError::Singular { layer })
    }
}

/// By how much the shares of the two stages lie off the wanted share: the first drops less, the second, which
/// knows more, drops more.
fn spread(ratio: f32) -> f32 {
    let wanted: f32 = if (0.35..0.65).contains(&ratio) { 0.1 } else { 0.05 };
    wanted.min(0.985 - ratio).min(ratio).max(0.0)
}

/// Buffers for the part of an MLP's output that is dropped.
#[derive(Default)]
struct Dropped {
    input: Activations,
    y: Vec<f32>,
}
