//! A model's usual activations, measured on text: what uniform plans are made of.

use fewron_model::{Probe, Site};

/// What policies need to know of a model's usual activations, measured on text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// E|up_i| · ‖W_down,i‖ per layer: the gate policy's weights c_i.
    pub gate_weights: Vec<Vec<f32>>,
    /// Evenly spaced quantiles, ascending, of the gate scores |act(gate_i)|·c_i of a sample of
    /// tokens, per layer: for thresholds.
    pub gate_scores: Vec<Vec<f32>>,
    /// The same of |o_i|.
    pub magnitudes: Vec<Vec<f32>>,
}

/// Gathers a [`Calibration`] as the probe of dense forward calls over text.
#[derive(Debug)]
pub struct CalibrationProbe {
    tokens: usize,
    up_sums: Vec<Vec<f64>>,
    /// |act(gate)| and |o| of every [`SAMPLE_EVERY`]th token, per layer.
    gates: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    activation: fewron_kernels::Activation,
    isa: fewron_kernels::Isa,
    neurons: usize,
}

/// Every how many tokens scores are kept for thresholds.
const SAMPLE_EVERY: usize = 16;

/// Quantiles that a layer's scores are reduced to, at most.
const QUANTILES: usize = 1024;

impl CalibrationProbe {
    /// An empty probe for a model.
    pub fn new(model: &fewron_model::Model) -> Self {
        let config = model.config();
        let (layers, neurons) = (config.layers.len(), config.intermediate);
        Self {
            tokens: 0,
            up_sums: vec![vec![0.0; neurons]; layers],
            gates: vec![Vec::new(); layers],
            outputs: vec![Vec::new(); layers],
            activation: config.activation,
            isa: model.isa(),
            neurons,
        }
    }

    /// The calibration. Memory of the probe: about `intermediate` · 8 bytes for every 16th token
    /// and layer.
    pub fn finish(self, model: &fewron_model::Model) -> Calibration {
        let tokens = self.tokens.max(1) as f64;
        let weights = |(layer, sums): (usize, Vec<f64>)| -> Vec<f32> {
            let norms = model.down_proj(layer).row_norms(self.isa);
            sums.iter().zip(norms).map(|(sum, norm)| (sum / tokens) as f32 * norm).collect()
        };
        let gate_weights: Vec<Vec<f32>> =
            self.up_sums.into_iter().enumerate().map(weights).collect();
        let mut gate_scores = self.gates;
        for (scores, weights) in gate_scores.iter_mut().zip(&gate_weights) {
            for row in scores.chunks_exact_mut(self.neurons) {
                row.iter_mut().zip(weights).for_each(|(score, c)| *score *= c);
            }
        }
        let mut magnitudes = self.outputs;
        gate_scores.iter_mut().chain(&mut magnitudes).for_each(reduce_to_quantiles);
        Calibration { gate_weights, gate_scores, magnitudes }
    }
}

/// Sorts values and keeps [`QUANTILES`] of them, evenly spaced from the lowest on.
fn reduce_to_quantiles(values: &mut Vec<f32>) {
    values.sort_unstable_by(f32::total_cmp);
    if values.len() > QUANTILES {
        let all = std::mem::take(values);
        values.extend((0..QUANTILES).map(|at| all[at * all.len() / QUANTILES]));
    }
}

impl Probe for CalibrationProbe {
    fn begin(&mut self, positions: &[usize]) {
        self.tokens += positions.len();
    }

    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Gate | Site::Up | Site::NeuronOutput)
    }

    fn observe(&mut self, site: Site, layer: usize, values: &[f32]) {
        let sampled = values.chunks_exact(self.neurons).step_by(SAMPLE_EVERY);
        match site {
            Site::Up => {
                for row in values.chunks_exact(self.neurons) {
                    let sums = self.up_sums[layer].iter_mut().zip(row);
                    sums.for_each(|(sum, up)| *sum += f64::from(up.abs()));
                }
            }
            Site::Gate => {
                let mut act = vec![0.0; self.neurons];
                for row in sampled {
                    fewron_kernels::activate(self.isa, self.activation, row, &mut act);
                    self.gates[layer].extend(act.iter().map(|a| a.abs()));
                }
            }
            Site::NeuronOutput => {
                self.outputs[layer].extend(sampled.flatten().map(|o| o.abs()));
            }
            _ => {}
        }
    }
}
