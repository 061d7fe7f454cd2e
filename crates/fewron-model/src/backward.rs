//! The backward pass: gradients of a token's loss with respect to its activations.
//!
//! Attention is causal, so an activation of the last position reaches the loss through the last
//! position's residual stream alone: one sweep over the layers, whatever the prompt's length. Each
//! traced token is its own last position, with the cache before it as a constant.

use crate::attention::{Past, attend_backward, window_start};
use crate::config::Residual;
use crate::kv_cache::KvCache;
use crate::model::{Model, Weight};
use crate::norm::Norm;
use crate::rope::Rope;
use crate::trace::Trace;
use fewron_kernels::{Pool, activate, activate_backward, log_sum_exp};

/// Where a backward pass ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After the heads of the first layer: everything.
    Everything,
    /// At the MLP neurons of this layer.
    Neurons(usize),
    /// At the heads of this layer.
    Heads(usize),
}

impl Stop {
    fn layer(self) -> usize {
        match self {
            Stop::Everything => 0,
            Stop::Neurons(layer) | Stop::Heads(layer) => layer,
        }
    }
}

/// Gradients by layer; empty where the pass stopped before.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// ∂L/∂o of the MLP neurons, per layer `[tokens, intermediate]`.
    pub neurons: Vec<Vec<f32>>,
    /// ∂L/∂o of the heads, per layer `[tokens, heads · head_dim]`.
    pub heads: Vec<Vec<f32>>,
    /// Cross-entropy of each token's label, in nats.
    pub loss: Vec<f32>,
}

pub(crate) struct Backward<'a> {
    pub(crate) model: &'a Model,
    pub(crate) pool: &'a Pool,
    pub(crate) cache: &'a KvCache,
    /// Of the trace's positions.
    pub(crate) ropes: &'a [Rope],
    pub(crate) trace: &'a Trace,
}

impl Backward<'_> {
    pub(crate) fn run(&self, logits: &[f32], labels: &[u32], stop: Stop) -> Gradients {
        let layers = self.model.layers.len();
        let mut out = Gradients {
            neurons: vec![Vec::new(); layers],
            heads: vec![Vec::new(); layers],
            loss: Vec::new(),
        };
        let mut grad = self.output_head(logits, labels, &mut out.loss);
        for layer in (stop.layer()..layers).rev() {
            let d_out = self.post_norm_backward(layer, Half::Mlp, &grad);
            out.neurons[layer] = self.down(layer, &d_out);
            if stop == Stop::Neurons(layer) {
                break;
            }
            let parallel = self.model.config().residual == Residual::Parallel;
            let behind = if parallel { grad.clone() } else { Vec::new() };
            self.mlp(layer, &out.neurons[layer], &mut grad);
            let behind = if parallel { &behind } else { &grad };
            let d_out = self.post_norm_backward(layer, Half::Attention, behind);
            out.heads[layer] = self.output_projection(layer, &d_out);
            if stop == Stop::Heads(layer) || layer == 0 {
                break;
            }
            self.attention(layer, &out.heads[layer], &mut grad);
        }
        out
    }

    /// ∂L/∂resid_final from softmax minus one-hot.
    fn output_head(&self, logits: &[f32], labels: &[u32], loss: &mut Vec<f32>) -> Vec<f32> {
        let (model, config) = (self.model, self.model.config());
        let mut d_logits = logits.to_vec();
        for (row, &label) in d_logits.chunks_exact_mut(config.vocab).zip(labels) {
            let norm = log_sum_exp(model.isa(), row);
            loss.push(norm - row[label as usize]);
            fewron_kernels::softmax(model.isa(), row);
            row[label as usize] -= 1.0;
        }
        let mut d_normed = vec![0.0; labels.len() * config.hidden];
        self.transposed(&model.output, &d_logits, &mut d_normed);
        let mut grad = vec![0.0; d_normed.len()];
        self.norm_backward(&self.trace.resid_final, &model.output_norm, &d_normed, &mut grad);
        grad
    }

    fn transposed(&self, w: &Weight, grad_out: &[f32], grad_in: &mut [f32]) {
        w.backward(self.model, self.pool, grad_out, grad_in);
    }

    /// `grad_in += ` gradient through a norm.
    fn norm_backward(&self, x: &[f32], norm: &Norm, grad_out: &[f32], grad_in: &mut [f32]) {
        norm.backward(self.model.isa(), x, self.model.config().norm_eps, grad_out, grad_in);
    }

    /// Gradient of a half block's output before its post-norm, if it has one.
    fn post_norm_backward(&self, layer: usize, half: Half, grad: &[f32]) -> Vec<f32> {
        let (l, t) = (&self.model.layers[layer], &self.trace.layers[layer]);
        let (norm, x) = match half {
            Half::Mlp => (&l.mlp_post_norm, &t.mlp_out),
            Half::Attention => (&l.attn_post_norm, &t.attn_out),
        };
        let Some(norm) = norm else { return grad.to_vec() };
        let mut before = vec![0.0; grad.len()];
        self.norm_backward(x, norm, grad, &mut before);
        before
    }

    /// Gradients of the neurons' outputs.
    fn down(&self, layer: usize, d_out: &[f32]) -> Vec<f32> {
        let (config, l) = (self.model.config(), &self.model.layers[layer]);
        let mut grad = vec![0.0; d_out.len() / config.hidden * config.intermediate];
        l.mlp.down_proj.weights.backward(self.model.isa(), self.pool, d_out, &mut grad);
        grad
    }

    /// Through act(gate)·up, or act(up), and the MLP's norm into the residual stream.
    fn mlp(&self, layer: usize, d_post: &[f32], grad: &mut [f32]) {
        let (isa, config) = (self.model.isa(), self.model.config());
        let (l, t) = (&self.model.layers[layer], &self.trace.layers[layer]);
        let mut d_normed = vec![0.0; grad.len()];
        let mut d_up = d_post.to_vec();
        if let Some(gate_proj) = &l.mlp.gate_proj {
            let mut act = vec![0.0; t.gate.len()];
            activate(isa, config.activation, &t.gate, &mut act);
            d_up.iter_mut().zip(&act).for_each(|(d, act)| *d *= act);
            let mut d_gate: Vec<f32> = d_post.iter().zip(&t.up).map(|(d, up)| d * up).collect();
            activate_backward(isa, config.activation, &t.gate, &mut d_gate);
            self.transposed(gate_proj, &d_gate, &mut d_normed);
        } else {
            activate_backward(isa, config.activation, &t.up, &mut d_up);
        }
        self.transposed(&l.mlp.up_proj, &d_up, &mut d_normed);
        let input = match config.residual {
            Residual::Sequential => &t.resid_mid,
            Residual::Parallel => &t.resid_pre,
        };
        self.norm_backward(input, l.mlp_norm(), &d_normed, grad);
    }

    /// Gradients of the heads' outputs.
    fn output_projection(&self, layer: usize, d_out: &[f32]) -> Vec<f32> {
        let config = self.model.config();
        let mut grad = vec![0.0; d_out.len() / config.hidden * config.query_width()];
        let o_proj = &self.model.layers[layer].o_proj;
        o_proj.weights.backward(self.model.isa(), self.pool, d_out, &mut grad);
        grad
    }

    /// Through attention and its norm into the residual stream.
    fn attention(&self, layer: usize, d_z: &[f32], grad: &mut [f32]) {
        let (l, t) = (&self.model.layers[layer], &self.trace.layers[layer]);
        let (mut dq, mut dk, mut dv) = self.heads(layer, d_z);
        let rope = &self.ropes[l.rope];
        rope.rotate_back(&mut dq);
        rope.rotate_back(&mut dk);
        let dq = self.head_norm_backward(&t.q_pre, l.q_norm.as_ref(), dq);
        let dk = self.head_norm_backward(&t.k_pre, l.k_norm.as_ref(), dk);
        let mut d_normed = vec![0.0; grad.len()];
        self.transposed(&l.q_proj, &dq, &mut d_normed);
        self.transposed(&l.k_proj, &dk, &mut d_normed);
        self.transposed(&l.v_proj, &std::mem::take(&mut dv), &mut d_normed);
        self.norm_backward(&t.resid_pre, &l.attn_norm, &d_normed, grad);
    }

    /// Gradients of queries, own keys and own values, before RoPE is undone.
    fn heads(&self, layer: usize, d_z: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let config = self.model.config();
        let (dim, width, kv) = (config.head_dim, config.query_width(), config.kv_width());
        let t = &self.trace.layers[layer];
        let tokens = self.trace.positions.len();
        let end = self.trace.positions.iter().max().map_or(0, |&position| position);
        let (keys, values) = self.cache.rows(layer, 0..end);
        let mut dq = vec![0.0; tokens * width];
        let (mut dk, mut dv) = (vec![0.0; tokens * kv], vec![0.0; tokens * kv]);
        let group = config.heads / config.kv_heads;
        for (token, &position) in self.trace.positions.iter().enumerate() {
            let seen = window_start(config.layers[layer].window, position) * kv..position * kv;
            let past = Past {
                keys: &keys[seen.clone()],
                values: &values[seen],
                own_key: &t.k[token * kv..][..kv],
                own_value: &t.v[token * kv..][..kv],
            };
            for head in 0..config.heads {
                let at = token * width + head * dim..token * width + (head + 1) * dim;
                let own = token * kv + head / group * dim;
                attend_backward(
                    self.model.isa(),
                    config,
                    head,
                    &t.q[at.clone()],
                    &past,
                    &d_z[at.clone()],
                    &mut dq[at],
                    &mut dk[own..own + dim],
                    &mut dv[own..own + dim],
                );
            }
        }
        (dq, dk, dv)
    }

    fn head_norm_backward(&self, x: &[f32], norm: Option<&Norm>, grad: Vec<f32>) -> Vec<f32> {
        let Some(norm) = norm else { return grad };
        let mut before = vec![0.0; grad.len()];
        self.norm_backward(x, norm, &grad, &mut before);
        before
    }
}

/// The two halves of a block.
#[derive(Clone, Copy)]
enum Half {
    Attention,
    Mlp,
}
