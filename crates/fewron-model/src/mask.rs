//! The deciding seam of the forward pass: which neurons run.

use crate::low_rank::LowRank;
use std::sync::Arc;

/// How a mask source chooses the units of one kind, layer and token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All of them.
    Dense,
    /// Those in the list it has just filled.
    Listed,
    /// By the gate activations `act(gate)` of all neurons; only then are up rows computed. MLP only.
    ByGate,
    /// By scores that the source's [`MaskSource::predictor`] gives for all neurons, from the MLP's
    /// input; only then are gate and up rows computed. MLP only.
    ByPrediction,
    /// By the outputs of all units.
    ByOutput,
}

/// Decides which MLP neurons and heads run for a token. Costs nothing when absent.
///
/// `token` counts the tokens of the call to [`crate::Session::forward`], from 0. Lists are indices
/// in ascending order. A unit that is not kept has its output set to 0.
pub trait MaskSource {
    /// Chooses the MLP neurons of a layer, or says what it needs to see first.
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let _ = (layer, token, kept);
        Choice::Dense
    }

    /// Fills `kept` after [`Choice::ByGate`] (`values` = act(gate)), [`Choice::ByPrediction`]
    /// (`values` = the predicted scores) or [`Choice::ByOutput`] (`values` = the neurons' outputs), all
    /// of length `intermediate`.
    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        let _ = (layer, token);
        kept.extend(0..values.len() as u32);
    }

    /// Scores of a layer's neurons from the MLP's input: `hidden` inputs, `intermediate` outputs. Wanted
    /// after [`Choice::ByPrediction`].
    fn predictor(&self, layer: usize, token: usize) -> Option<&Arc<LowRank>> {
        let _ = (layer, token);
        None
    }

    /// What is added to the output of a layer's MLP, before a post-norm, where the choice was not
    /// [`Choice::Dense`]: a map of the MLP's input, `hidden` inputs and outputs.
    fn compensation(&self, layer: usize, token: usize) -> Option<&Arc<LowRank>> {
        let _ = (layer, token);
        None
    }

    /// Chooses the heads of a layer, or says what it needs to see first.
    fn heads(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let _ = (layer, token, kept);
        Choice::Dense
    }

    /// Fills `kept` after [`Choice::ByOutput`], from the outputs of all `heads`, `[heads, head_dim]`.
    fn select_heads(
        &mut self,
        layer: usize,
        token: usize,
        outputs: &[f32],
        heads: usize,
        kept: &mut Vec<u32>,
    ) {
        let _ = (layer, token, outputs);
        kept.extend(0..heads as u32);
    }
}
