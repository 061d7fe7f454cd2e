//! The observing seam of the forward pass.

/// A place in the forward pass whose values a [`Probe`] can see. Shapes are for a batch of
/// `tokens`; the comment gives the width of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// `blocks.{l}.resid_pre`: residual stream before attention, width `hidden`.
    ResidPre,
    /// `blocks.{l}.attn.q_pre`: queries before their norm and RoPE, width `heads · head_dim`.
    QueryPre,
    /// `blocks.{l}.attn.k_pre`: keys before their norm and RoPE, width `kv_heads · head_dim`.
    KeyPre,
    /// `blocks.{l}.attn.q`: queries as they are used, width `heads · head_dim`.
    Query,
    /// `blocks.{l}.attn.k`: keys as they are used, width `kv_heads · head_dim`.
    Key,
    /// `blocks.{l}.attn.v`: values, width `kv_heads · head_dim`.
    Value,
    /// `blocks.{l}.attn.z`: outputs of the heads before the output projection, width
    /// `heads · head_dim`; zeros for heads that are off.
    HeadOutput,
    /// `blocks.{l}.attn.out`: output of the output projection, before a post-norm, width `hidden`.
    AttentionOut,
    /// `blocks.{l}.resid_mid`: residual stream between attention and MLP, width `hidden`.
    ResidMid,
    /// `blocks.{l}.mlp.in`: what the MLP's projections read, the residual stream after its norm, width
    /// `hidden`.
    MlpInput,
    /// `blocks.{l}.mlp.gate`: gate projection before its activation function, width
    /// `intermediate`. Seen only where the token's MLP runs dense.
    Gate,
    /// `blocks.{l}.mlp.up`: up projection, width `intermediate`. Seen only where the token's MLP
    /// runs dense.
    Up,
    /// `blocks.{l}.mlp.post`: outputs of the neurons, `act(gate) · up`, width `intermediate`;
    /// zeros for neurons that are off.
    NeuronOutput,
    /// `blocks.{l}.mlp.out`: output of the down projection, before a post-norm, width `hidden`.
    MlpOut,
    /// `resid_final`: residual stream after the last block, width `hidden`; its layer is the
    /// number of layers.
    ResidFinal,
}

/// Observes the forward pass. Costs nothing when absent.
pub trait Probe {
    /// Called before a batch runs, with the position of each of its tokens.
    fn begin(&mut self, positions: &[usize]) {
        let _ = positions;
    }

    /// Whether this probe wants the values of a site; asked once for each layer and batch.
    fn wants(&self, site: Site) -> bool;

    /// The values of a site of `layer`, shape `[tokens, width]`.
    fn observe(&mut self, site: Site, layer: usize, values: &[f32]);
}
