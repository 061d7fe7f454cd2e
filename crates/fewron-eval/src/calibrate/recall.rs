//! How much of what matters a plan's predictors find.

use super::windows::Window;
use super::{CalibrateError, Calibrator};
use fewron_model::sampler::argmax;
use fewron_model::{Gradients, Logits, LowRankScratch, ModelError, Probe, Session, Site};
use fewron_model::{Stop, Trace};
use fewron_sparsity::metric::{Units, score};
use fewron_sparsity::selection::top_k;
use fewron_sparsity::{Metric, Plan};
use std::sync::Arc;

/// Held-out windows that recall is measured on, at most.
const WINDOWS: usize = 8;

/// Tokens of a window that go through the backward pass.
const TRACED: usize = 32;

/// Strength of the correction (arXiv 2406.06562).
const CORRECTION: f32 = 0.5;

impl Calibrator<'_> {
    /// Recall of a plan's predictors on held-out text: at each token, the share of the neurons they keep that
    /// are among as many with the highest corrected attribution (with the model's own greedy token as label).
    pub(super) fn recall(&mut self, plan: &Plan) -> Result<f64, CalibrateError> {
        let windows = &self.windows.held_out[..self.windows.held_out.len().min(WINDOWS)];
        let (mut found, mut kept) = (0, 0);
        for (index, window) in windows.iter().enumerate() {
            self.step("recall", index, windows.len())?;
            let traced = Traced::new(&mut self.session, window)?;
            for (layer, l) in plan.layers.iter().enumerate() {
                let predicted = self.predicted(plan, layer, &traced.inputs[layer]);
                for (scores, predicted) in
                    traced.scores(layer, plan.neurons).zip(predicted.chunks_exact(plan.neurons))
                {
                    let (mut on, mut best) = (Vec::new(), Vec::new());
                    l.cut.keep(predicted, &mut on);
                    top_k(&scores, on.len(), &mut best);
                    kept += on.len();
                    found += on.iter().filter(|neuron| best.binary_search(neuron).is_ok()).count();
                }
            }
        }
        Ok(found as f64 / kept.max(1) as f64)
    }

    /// Predicted scores of a layer's neurons for inputs of its MLP; none without a predictor.
    fn predicted(&self, plan: &Plan, layer: usize, inputs: &[f32]) -> Vec<f32> {
        let Some(predictor) = &plan.layers[layer].predictor else { return Vec::new() };
        let tokens = inputs.len() / predictor.inputs();
        let mut scores = vec![0.0; tokens * plan.neurons];
        let scratch = &mut LowRankScratch::default();
        predictor.forward(self.model.isa(), &self.pool, inputs, scratch, &mut scores);
        scores
    }
}

/// Some tokens of a window with their attribution.
struct Traced {
    trace: Trace,
    /// Of each layer's MLP, `[tokens, hidden]`.
    inputs: Vec<Vec<f32>>,
    gradients: Gradients,
}

impl Traced {
    fn new(session: &mut Session, window: &Window) -> Result<Self, ModelError> {
        let model = Arc::clone(session.model());
        let config = model.config();
        let start = window.dense;
        let tokens = &window.tokens[start..(start + TRACED).min(window.tokens.len())];
        session.truncate(0);
        session.forward(&window.tokens[..start], None, None, Logits::None)?;
        let inputs = vec![Vec::new(); config.layers.len()];
        let mut seen = TraceAndInputs { trace: Trace::new(config), inputs };
        let logits = session.forward(tokens, None, Some(&mut seen), Logits::All)?.to_vec();
        let labels: Vec<u32> = logits.chunks_exact(config.vocab).map(argmax).collect();
        let TraceAndInputs { trace, inputs } = seen;
        let gradients = session.backward(&trace, &logits, &labels, Stop::Everything);
        Ok(Self { trace, inputs, gradients })
    }

    /// Corrected attribution of a layer's neurons, token by token.
    fn scores(&self, layer: usize, neurons: usize) -> impl Iterator<Item = Vec<f32>> {
        let outputs = self.trace.neuron_outputs(layer).chunks_exact(neurons);
        let gradients = self.gradients.neurons[layer].chunks_exact(neurons);
        outputs.zip(gradients).map(|(outputs, gradients)| {
            let mut scores = Vec::new();
            let units = Units { outputs, gradients, width: 1, weight_norms: &[] };
            score(Metric::CorGxo, units, CORRECTION, &mut scores);
            scores
        })
    }
}

/// What the backward pass needs, and what the MLPs read.
struct TraceAndInputs {
    trace: Trace,
    inputs: Vec<Vec<f32>>,
}

impl Probe for TraceAndInputs {
    fn begin(&mut self, positions: &[usize]) {
        self.trace.begin(positions);
    }

    fn wants(&self, site: Site) -> bool {
        site == Site::MlpInput || self.trace.wants(site)
    }

    fn observe(&mut self, site: Site, layer: usize, values: &[f32]) {
        match site {
            Site::MlpInput => self.inputs[layer].extend_from_slice(values),
            _ => self.trace.observe(site, layer, values),
        }
    }
}
