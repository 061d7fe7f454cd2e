//! Predictors of which neurons matter.

use super::masks::SeenMlp;
use super::windows::Window;
use super::{CalibrateError, Calibrator};
use fewron_kernels::Memory;
use fewron_model::{LowRank, ModelError, Session};
use fewron_sparsity::Plan;
use fewron_sparsity::predictor::{Examples, TrainError, Trained, Training, train};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

/// Share of a layer's neurons that a predictor learns to find: between the shares that are kept at
/// sparsities of 0.5 and 0.8.
const SHARE: f32 = 0.3;

/// Passes over the text, at most, and the highest learning rate. Training begins with a regression, so few
/// are needed.
const EPOCHS: usize = 3;
const RATE: f32 = 1e-3;

/// Held-out windows that tell training when to stop, at most.
const WINDOWS: usize = 8;

/// Memory for the examples of layers that are trained at the same time; one layer may take more.
const MOST_BYTES: usize = 1 << 30;

/// The part of a text that layers are trained on: its windows, and their residual streams before the layer.
struct Texts<'a> {
    windows: &'a [Window],
    streams: Vec<Vec<f32>>,
}

impl<'a> Texts<'a> {
    fn new(session: &mut Session, windows: &'a [Window]) -> Result<Self, ModelError> {
        let embed = |window: &Window| session.embed(&window.tokens);
        Ok(Self { windows, streams: windows.iter().map(embed).collect::<Result<_, _>>()? })
    }
}

/// Examples of one layer.
struct LayerExamples {
    layer: usize,
    examples: Examples,
    held_out: Examples,
}

impl Calibrator<'_> {
    /// Trains a predictor for each layer, layer by layer on what dense layers give.
    pub(super) fn train_predictors(&mut self, plan: &mut Plan) -> Result<(), CalibrateError> {
        let windows = self.windows;
        let few = &windows.held_out[..windows.held_out.len().min(WINDOWS)];
        let mut texts = Texts::new(&mut self.session, &windows.calibration)?;
        let mut held_out = Texts::new(&mut self.session, few)?;
        let layers = plan.layers.len();
        let mut waiting: Vec<LayerExamples> = Vec::new();
        for layer in 0..layers {
            self.step("training predictors", layer, layers)?;
            let norms = self.model.down_proj(layer).row_norms(self.model.isa());
            let examples = self.examples(layer, &mut texts, &norms)?;
            let held_out = self.examples(layer, &mut held_out, &norms)?;
            waiting.push(LayerExamples { layer, examples, held_out });
            let bytes: usize = waiting.iter().map(|layer| layer.examples.bytes()).sum();
            let full = bytes + bytes / waiting.len() > MOST_BYTES;
            if full || waiting.len() == self.pool.threads() || layer + 1 == layers {
                self.train_layers(plan, std::mem::take(&mut waiting))?;
            }
        }
        Ok(())
    }

    /// Examples of a layer from the residual streams before it, which go through it. The neurons that matter
    /// are those with the largest |o|·‖W_down‖, what they add to the residual stream: a forward pass gives it
    /// for every token, and predictors trained on it keep the model's predictions better than those trained on
    /// corrected attribution, which finds nearly the same neurons.
    fn examples(
        &mut self,
        layer: usize,
        texts: &mut Texts,
        norms: &[f32],
    ) -> Result<Examples, CalibrateError> {
        let config = self.model.config();
        let (hidden, neurons) = (config.hidden, config.intermediate);
        let count = (SHARE * neurons as f32).round() as usize;
        let mut examples = Examples::new(hidden, neurons);
        let mut scores = vec![0.0; neurons];
        for (window, x) in texts.windows.iter().zip(&mut texts.streams) {
            let mut seen = SeenMlp::default();
            self.session.block(layer, x, None, Some(&mut seen));
            let rows = seen.input.chunks_exact(hidden).zip(seen.outputs.chunks_exact(neurons));
            for (x, outputs) in rows.skip(window.dense) {
                let sizes = outputs.iter().zip(norms).map(|(o, norm)| o.abs() * norm);
                scores.iter_mut().zip(sizes).for_each(|(score, size)| *score = size);
                examples.add(x, &scores, count);
            }
        }
        Ok(examples)
    }

    /// Trains some layers, each on a thread of its own.
    fn train_layers(
        &self,
        plan: &mut Plan,
        layers: Vec<LayerExamples>,
    ) -> Result<(), CalibrateError> {
        let (rank, seed, stop) = (self.settings.predictor, self.settings.seed, self.stop);
        let training = Training { rank, epochs: EPOCHS, rate: RATE, seed };
        let train = |l: &LayerExamples| train(&training, &l.examples, &l.held_out, stop);
        let trained: Vec<Result<Trained, TrainError>> = thread::scope(|scope| {
            let threads: Vec<_> = layers.iter().map(|l| scope.spawn(|| train(l))).collect();
            let join = |thread: ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        let mut memory = Memory::default();
        for (LayerExamples { layer, .. }, trained) in layers.into_iter().zip(trained) {
            let unusable = CalibrateError::Untrained { layer };
            let factors = match trained {
                Ok(trained) => trained.factors,
                Err(TrainError::Stopped) => return Err(CalibrateError::Interrupted),
                Err(TrainError::Unusable) => return Err(unusable),
            };
            let (isa, hidden) = (self.model.isa(), self.model.config().hidden);
            let (first, second) = (&factors.first, &factors.second);
            let map =
                LowRank::new(isa, &self.pool, &mut memory, hidden, first, second, factors.bias);
            plan.layers[layer].predictor = Some(Arc::new(map.map_err(|_| unusable)?));
        }
        Ok(())
    }
}
