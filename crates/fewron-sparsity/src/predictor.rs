//! Training of predictors: which neurons matter, from the MLP's input alone.
//!
//! A predictor is a linear map of low rank, `logits = second · first · x + bias`, that says for each neuron
//! whether it is among those that matter for a token (Liu et al., "Deja Vu", arXiv 2310.17157). It begins as
//! a reduced-rank regression of the targets, which is most of the way, and is then trained by AdamW on binary
//! cross-entropy. The optimiser is written here: a deep-learning crate would double the build time.

mod adamw;
mod examples;
mod network;
#[cfg(test)]
mod tests;

pub use examples::Examples;

use crate::ridge::{Factors, Regression};
use crate::selection::top_k;
use adamw::AdamW;
use examples::Scale;
use network::Network;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

/// Tokens of a step, and of what else goes through a network at once.
const BATCH: usize = 256;

/// Ridge of the regression, in the mean square of its inputs.
const RIDGE: f64 = 1e-2;

/// Steps over which the learning rate rises; from then on it falls linearly.
const WARM_UP: usize = 20;

/// Rates of neurons are kept this far from 0 and 1, where logits are made of them.
const LEAST_RATE: f32 = 0.02;

/// How a predictor is trained.
#[derive(Clone, Debug)]
pub struct Training {
    /// Rank; the layer's width where that is less.
    pub rank: usize,
    /// Passes over the examples, at most.
    pub epochs: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Seed of what is random.
    pub seed: u64,
}

/// A trained predictor.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Its weights.
    pub factors: Factors,
    /// Its recall on held-out examples: see [`train`].
    pub recall: f64,
}

/// Why there is no predictor.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The stop flag was set.
    #[error("interrupted")]
    Stopped,
    /// Too few examples, or numbers that are not finite.
    #[error("the examples give no usable numbers for a predictor; give more or other text")]
    Unusable,
}

/// Trains a predictor. After each pass its recall on `held_out` is measured: the share of the neurons that
/// matter among as many with the highest logits. Training ends with the first pass that does not raise it, and
/// the best weights are returned. `stop` ends it between two steps.
///
/// # Errors
/// When told to stop, and for examples that say nothing.
pub fn train(
    training: &Training,
    examples: &Examples,
    held_out: &Examples,
    stop: &AtomicBool,
) -> Result<Trained, TrainError> {
    let scale = examples.scale();
    let mut network = regressed(training, examples, &scale).ok_or(TrainError::Unusable)?;
    let mut best = (recall(&network, held_out, &scale), network.clone());
    let mut order: Vec<usize> = (0..examples.tokens()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(training.seed);
    let steps = training.epochs * order.len().div_ceil(BATCH);
    let (mut adamw, mut step) = (AdamW::default(), 0);
    for _ in 0..training.epochs {
        order.shuffle(&mut rng);
        for tokens in order.chunks(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Err(TrainError::Stopped);
            }
            step += 1;
            let share = (step as f32 / WARM_UP as f32).min(1.0 - step as f32 / (steps + 1) as f32);
            let (_, gradient) = network.gradient(&examples.batch(&scale, tokens));
            adamw.step(&mut network, &gradient, training.rate * share.min(1.0));
        }
        let recall = recall(&network, held_out, &scale);
        if recall <= best.0 {
            break;
        }
        best = (recall, network.clone());
    }
    let (recall, network) = best;
    Ok(Trained { factors: network.unscaled(&scale.mean, &scale.scale), recall })
}

/// The network that a reduced-rank regression of the targets gives.
fn regressed(training: &Training, examples: &Examples, scale: &Scale) -> Option<Network> {
    let (inputs, neurons) = (examples.inputs(), examples.neurons());
    let mut regression = Regression::new(inputs, neurons);
    let all: Vec<usize> = (0..examples.tokens()).collect();
    for tokens in all.chunks(BATCH) {
        let batch = examples.batch(scale, tokens);
        regression.add(batch.x.as_slice(), &batch.targets);
    }
    let rank = training.rank.min(inputs).min(neurons);
    let factors = regression.solve(rank, RIDGE, training.seed)?;
    let mut rates = examples.rates();
    rates.iter_mut().for_each(|rate| *rate = rate.clamp(LEAST_RATE, 1.0 - LEAST_RATE));
    Some(Network::from_regression(&factors, &rates))
}

/// Share of the neurons that matter which a network ranks among as many.
fn recall(network: &Network, examples: &Examples, scale: &Scale) -> f64 {
    let (mut found, mut all, mut best) = (0, 0, Vec::new());
    let tokens: Vec<usize> = (0..examples.tokens()).collect();
    for tokens in tokens.chunks(BATCH) {
        let (_, logits) = network.forward(&examples.batch(scale, tokens).x);
        for (logits, &token) in logits.as_slice().chunks_exact(examples.neurons()).zip(tokens) {
            let matters: Vec<bool> = examples.target(token).collect();
            let count = matters.iter().filter(|on| **on).count();
            best.clear();
            top_k(logits, count, &mut best);
            found += best.iter().filter(|&&neuron| matters[neuron as usize]).count();
            all += count;
        }
    }
    found as f64 / all.max(1) as f64
}
