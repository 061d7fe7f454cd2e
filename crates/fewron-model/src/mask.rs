//! The deciding seam of the forward pass: which neurons run.

/// How a mask source chooses the units of one kind, layer and token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All of them.
    Dense,
    /// Those in the list it has just filled.
    Listed,
    /// By the gate activations `act(gate)` of all neurons; only then are up rows computed. MLP only.
    ByGate,
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

    /// Fills `kept` after [`Choice::ByGate`] (`values` = act(gate)) or [`Choice::ByOutput`]
    /// (`values` = the neurons' outputs), both of length `intermediate`.
    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        let _ = (layer, token);
        kept.extend(0..values.len() as u32);
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
    /// Whether [`Self::thin`] is to be called.
    fn thins(&self) -> bool {
        false
    }

    /// Sets channels of a token's input to 0. Where the matrices lie by input, the weights of those
    /// channels are not read for a single token: see [`crate::LoadOptions::by_input`].
    fn thin(&mut self, site: InputSite, layer: usize, token: usize, values: &mut [f32]) {
        let _ = (site, layer, token, values);
    }
}
