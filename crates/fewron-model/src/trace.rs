//! What the backward pass needs of a forward pass.

use crate::config::ModelConfig;
use crate::probe::{Probe, Site};

/// Values of one layer for every traced token, row after row.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerTrace {
    pub(crate) resid_pre: Vec<f32>,
    pub(crate) q_pre: Vec<f32>,
    pub(crate) k_pre: Vec<f32>,
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
    pub(crate) z: Vec<f32>,
    pub(crate) attn_out: Vec<f32>,
    pub(crate) resid_mid: Vec<f32>,
    pub(crate) gate: Vec<f32>,
    pub(crate) up: Vec<f32>,
    pub(crate) post: Vec<f32>,
    pub(crate) mlp_out: Vec<f32>,
}

/// A record of dense tokens, made by passing it as the probe of one or more forward calls.
///
/// Memory: about `layers · (6·hidden + 3·intermediate) · 4` bytes a token.
#[derive(Clone, Debug)]
pub struct Trace {
    pub(crate) positions: Vec<usize>,
    pub(crate) layers: Vec<LayerTrace>,
    pub(crate) resid_final: Vec<f32>,
    qk_norm: bool,
    post_norm: bool,
}

impl Trace {
    /// An empty record for a model.
    pub fn new(config: &ModelConfig) -> Self {
        Self {
            positions: Vec::new(),
            layers: vec![LayerTrace::default(); config.layers.len()],
            resid_final: Vec::new(),
            qk_norm: config.qk_norm,
            post_norm: config.post_norm,
        }
    }

    /// Number of tokens recorded.
    pub fn tokens(&self) -> usize {
        self.positions.len()
    }

    /// Outputs of a layer's MLP neurons, `[tokens, intermediate]`.
    pub fn neuron_outputs(&self, layer: usize) -> &[f32] {
        &self.layers[layer].post
    }

    /// Up projection of a layer, `[tokens, intermediate]`.
    pub fn up(&self, layer: usize) -> &[f32] {
        &self.layers[layer].up
    }

    /// Gate projection of a layer before its activation function, `[tokens, intermediate]`; empty
    /// without a gate.
    pub fn gate(&self, layer: usize) -> &[f32] {
        &self.layers[layer].gate
    }

    /// Outputs of a layer's heads, `[tokens, heads · head_dim]`.
    pub fn head_outputs(&self, layer: usize) -> &[f32] {
        &self.layers[layer].z
    }
}

impl Probe for Trace {
    fn begin(&mut self, positions: &[usize]) {
        self.positions.extend_from_slice(positions);
    }

    fn wants(&self, site: Site) -> bool {
        match site {
            Site::QueryPre | Site::KeyPre => self.qk_norm,
            Site::AttentionOut | Site::MlpOut => self.post_norm,
            Site::MlpInput => false,
            _ => true,
        }
    }

    fn observe(&mut self, site: Site, layer: usize, values: &[f32]) {
        let target = if site == Site::ResidFinal {
            &mut self.resid_final
        } else {
            let l = &mut self.layers[layer];
            match site {
                Site::ResidPre => &mut l.resid_pre,
                Site::QueryPre => &mut l.q_pre,
                Site::KeyPre => &mut l.k_pre,
                Site::Query => &mut l.q,
                Site::Key => &mut l.k,
                Site::Value => &mut l.v,
                Site::HeadOutput => &mut l.z,
                Site::AttentionOut => &mut l.attn_out,
                Site::ResidMid => &mut l.resid_mid,
                Site::Gate => &mut l.gate,
                Site::Up => &mut l.up,
                Site::NeuronOutput => &mut l.post,
                Site::MlpOut => &mut l.mlp_out,
                Site::MlpInput | Site::ResidFinal => unreachable!("not wanted, or handled above"),
            }
        };
        target.extend_from_slice(values);
    }
}
