//! Shares of neurons off by layer, from how sensitive each layer is.

use super::held_out::Sums;
use super::masks::{Behind, SeenFinal};
use super::{CalibrateError, Calibrator};
use fewron_model::Logits;
use fewron_sparsity::{Plan, Policy};

/// Shares at which a layer's sensitivity is measured.
const RATIOS: [f32; 5] = [0.3, 0.5, 0.7, 0.8, 0.9];

/// Held-out windows that it is measured on, at most.
const WINDOWS: usize = 2;

/// Steps of a share when the budget is spent.
const STEP: f32 = 0.02;

/// Highest share of a layer.
const MOST: f32 = 0.96;

/// KL divergence that switching off shares of one layer alone costs.
pub struct Sensitivity {
    /// By layer, at [`RATIOS`], in nats per token.
    kl: Vec<[f64; RATIOS.len()]>,
}

impl Calibrator<'_> {
    /// Measures each layer alone, everything else dense.
    pub(super) fn sensitivity(&mut self, plan: &Plan) -> Result<Sensitivity, CalibrateError> {
        let windows = &self.windows.held_out[..self.windows.held_out.len().min(WINDOWS)];
        let layers = plan.layers.len();
        let mut cuts = Vec::new();
        for ratio in RATIOS {
            let mut cut = plan.clone();
            self.set_cuts(&mut cut, ratio)?;
            cuts.push(cut);
        }
        let mut sums = vec![[Sums::default(); RATIOS.len()]; layers];
        for (index, window) in windows.iter().enumerate() {
            let mut seen = SeenFinal::default();
            self.session.truncate(0);
            self.session.forward(&window.tokens, None, Some(&mut seen), Logits::None)?;
            let mut x = self.session.embed(&window.tokens)?;
            for layer in 0..layers {
                self.step("sensitivity", index * layers + layer, windows.len() * layers)?;
                for (cut, sums) in cuts.iter().zip(&mut sums[layer]) {
                    let mut sparse = x.clone();
                    let mut masks = Behind::new(Policy::new(cut), window.dense);
                    self.session.block(layer, &mut sparse, Some(&mut masks), None);
                    for later in layer + 1..layers {
                        self.session.block(later, &mut sparse, None, None);
                    }
                    sums.add(&mut self.session, window, &seen.0, &sparse);
                }
                self.session.block(layer, &mut x, None, None);
            }
        }
        let mean = |sums: &Sums| sums.kl / sums.tokens.max(1) as f64;
        Ok(Sensitivity { kl: sums.iter().map(|layer| layer.each_ref().map(mean)).collect() })
    }
}

impl Sensitivity {
    /// Shares by layer whose mean is `sparsity`: from dense on, the next step is taken where it costs
    /// least. All layers have as many neurons of as many bytes, so a step saves the same everywhere. Costs
    /// of layers are taken to add up.
    pub(super) fn ratios(&self, sparsity: f32) -> Vec<f32> {
        let mut ratios = vec![0.0f32; self.kl.len()];
        let steps = (f64::from(sparsity) * self.kl.len() as f64 / f64::from(STEP)).round() as usize;
        for _ in 0..steps {
            let cost = |layer: usize| {
                let now = ratios[layer];
                self.cost(layer, now + STEP) - self.cost(layer, now)
            };
            let open = (0..ratios.len()).filter(|&layer| ratios[layer] + STEP <= MOST + 1e-4);
            let Some(cheapest) = open.min_by(|&a, &b| cost(a).total_cmp(&cost(b))) else { break };
            ratios[cheapest] += STEP;
        }
        // What rounding and the highest share leave goes to all alike.
        let mean = ratios.iter().sum::<f32>() / ratios.len().max(1) as f32;
        ratios.iter().map(|ratio| (ratio + sparsity - mean).clamp(0.0, 1.0)).collect()
    }

    /// KL of a layer at a share: the convex hull of what was measured, from nothing at 0, so that no
    /// measurement's noise makes a later step cheaper than an earlier one.
    fn cost(&self, layer: usize, ratio: f32) -> f64 {
        let measured = RATIOS.iter().zip(&self.kl[layer]).map(|(&r, &kl)| (f64::from(r), kl));
        let points: Vec<(f64, f64)> = std::iter::once((0.0, 0.0)).chain(measured).collect();
        let mut hull: Vec<(f64, f64)> = Vec::new();
        for point in points {
            while let [.., a, b] = hull[..]
                && (b.1 - a.1) * (point.0 - a.0) >= (point.1 - a.1) * (b.0 - a.0)
            {
                hull.pop();
            }
            hull.push(point);
        }
        let at = f64::from(ratio);
        let after = hull.iter().position(|point| point.0 >= at).unwrap_or(hull.len() - 1).max(1);
        let (a, b) = (hull[after - 1], hull[after]);
        a.1 + (b.1 - a.1) * (at - a.0) / (b.0 - a.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_goes_where_it_costs_least() {
        let cheap = [0.01, 0.02, 0.03, 0.04, 0.05];
        let dear = cheap.map(|kl| kl * 10.0);
        let sensitivity = Sensitivity { kl: vec![cheap, dear, cheap] };
        for sparsity in [0.1, 0.5, 0.8, 0.9] {
            let ratios = sensitivity.ratios(sparsity);
            let mean = ratios.iter().sum::<f32>() / 3.0;
            assert!((mean - sparsity).abs() < 1e-3, "{sparsity} {ratios:?}");
            assert!(ratios[1] <= ratios[0] && ratios[1] <= ratios[2], "{ratios:?}");
        }
        assert!(sensitivity.ratios(0.5)[1] < 0.1);
        let none = Sensitivity { kl: vec![[0.0; 5]; 2] };
        assert!((none.ratios(0.5).iter().sum::<f32>() - 1.0).abs() < 1e-3);
    }

    #[test]
    fn noise_makes_no_step_cheaper_than_the_one_before() {
        let sensitivity = Sensitivity { kl: vec![[0.05, 0.02, 0.3, 0.2, 0.9]] };
        let costs: Vec<f64> = (0..=48).map(|i| sensitivity.cost(0, i as f32 * 0.02)).collect();
        let steps: Vec<f64> = costs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.windows(2).all(|pair| pair[1] >= pair[0] - 1e-9), "{steps:?}");
        assert!((sensitivity.cost(0, 0.5) - 0.02).abs() < 1e-6);
    }
}
