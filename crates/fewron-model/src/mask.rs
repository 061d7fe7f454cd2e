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

/// An input of a block's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputSite {
    /// Of the query, key and value projections: `hidden` channels.
    Attention,
    /// Of the output projection: the heads' outputs, `heads · head_dim` channels.
    AttentionOutput,
    /// Of the gate and up projections: `hidden` channels.
    Mlp,
    /// Of the down projection: the neurons' outputs, `intermediate` channels.
    Down,
}

impl InputSite {
    /// All of them, in the order of the forward pass.
    pub const ALL: [InputSite; 4] =
        [InputSite::Attention, InputSite::AttentionOutput, InputSite::Mlp, InputSite::Down];

    /// The name in plans.
    pub fn name(self) -> &'static str {
        match self {
            InputSite::Attention => "attention",
            InputSite::AttentionOutput => "attention_output",
            InputSite::Mlp => "mlp",
            InputSite::Down => "down",
        }
    }
}

/// Decides which MLP neurons and heads run for a token. Costs nothing when absent.
///
/// `token` counts the tokens of the call to [`crate::Session::forward`], from 0. Lists are indices
/// in ascending order. A unit that is not kept has its output set to 0.
///
/// A source that stands before others says so by [`Self::inner`], and then writes only what it does
/// itself.
pub trait MaskSource {
    /// The source that answers for a token, and the token's number there; `None` where this one does. All
    /// methods pass on to it by default.
    fn inner(&mut self, token: usize) -> Option<(&mut dyn MaskSource, usize)> {
        let _ = token;
        None
    }

    /// Chooses the MLP neurons of a layer, or says what it needs to see first.
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        match self.inner(token) {
            Some((inner, token)) => inner.neurons(layer, token, kept),
            None => Choice::Dense,
        }
    }

    /// Fills `kept` after [`Choice::ByGate`] (`values` = act(gate)), [`Choice::ByPrediction`]
    /// (`values` = the predicted scores) or [`Choice::ByOutput`] (`values` = the neurons' outputs), all
    /// of length `intermediate`.
    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        match self.inner(token) {
            Some((inner, token)) => inner.select_neurons(layer, token, values, kept),
            None => kept.extend(0..values.len() as u32),
        }
    }

    /// Scores of a layer's neurons from the MLP's input: `hidden` inputs, `intermediate` outputs. Wanted
    /// after [`Choice::ByPrediction`].
    fn predictor(&mut self, layer: usize, token: usize) -> Option<Arc<LowRank>> {
        let (inner, token) = self.inner(token)?;
        inner.predictor(layer, token)
    }

    /// What is added to the output of a layer's MLP, before a post-norm, where the choice was not
    /// [`Choice::Dense`]: a map of the MLP's input, `hidden` inputs and outputs.
    fn compensation(&mut self, layer: usize, token: usize) -> Option<Arc<LowRank>> {
        let (inner, token) = self.inner(token)?;
        inner.compensation(layer, token)
    }

    /// Chooses the heads of a layer, or says what it needs to see first.
    fn heads(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        match self.inner(token) {
            Some((inner, token)) => inner.heads(layer, token, kept),
            None => Choice::Dense,
        }
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
        match self.inner(token) {
            Some((inner, token)) => inner.select_heads(layer, token, outputs, heads, kept),
            None => kept.extend(0..heads as u32),
        }
    }

    /// Whether [`Self::thin`] is to be called for a token.
    fn thins(&mut self, token: usize) -> bool {
        self.inner(token).is_some_and(|(inner, token)| inner.thins(token))
    }

    /// Sets channels of a token's input to 0: their weights are not read for a single token where they lie
    /// by input, as those of the down and output projections always do, and the others with
    /// [`crate::LoadOptions::by_input`].
    fn thin(&mut self, site: InputSite, layer: usize, token: usize, values: &mut [f32]) {
        if let Some((inner, token)) = self.inner(token) {
            inner.thin(site, layer, token, values);
        }
    }
}
