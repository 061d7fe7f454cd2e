//! Attention of one query over the past and its own token, forward and backward.

use crate::config::ModelConfig;
use fewron_kernels::{Isa, axpy, dot, softmax};

/// What a head of one token attends to: cached rows of past positions, then the token's own key
/// and value.
pub(crate) struct Past<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) own_key: &'a [f32],
    pub(crate) own_value: &'a [f32],
    /// First visible position and the token's own.
    pub(crate) start: usize,
    pub(crate) position: usize,
}

impl Past<'_> {
    /// The rows of one kv head, past ones first: `(key or value source) -> iterator`.
    fn rows<'b>(
        &'b self,
        config: &ModelConfig,
        head: usize,
        cached: &'b [f32],
        own: &'b [f32],
    ) -> impl Iterator<Item = &'b [f32]> {
        let (width, dim) = (config.kv_width(), config.head_dim);
        let at = head / (config.heads / config.kv_heads) * dim;
        let past = (self.start..self.position).map(move |p| &cached[p * width + at..][..dim]);
        past.chain(std::iter::once(&own[at..at + dim]))
    }

    fn len(&self) -> usize {
        self.position - self.start + 1
    }
}

/// First position that a token may attend to.
pub(crate) fn window_start(window: Option<usize>, position: usize) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

/// Attention weights of one head: softmax over q·k / √d, `weights` has one entry for each row.
fn weights(
    isa: Isa,
    config: &ModelConfig,
    head: usize,
    q: &[f32],
    past: &Past,
    out: &mut Vec<f32>,
) {
    out.clear();
    out.reserve(past.len());
    let keys = past.rows(config, head, past.keys, past.own_key);
    out.extend(keys.map(|key| dot(isa, q, key) * config.attention_scale));
    softmax(isa, out);
}

/// z = Σ p_t · v_t for one head; `scores` is scratch.
pub(crate) fn attend(
    isa: Isa,
    config: &ModelConfig,
    head: usize,
    q: &[f32],
    past: &Past,
    scores: &mut Vec<f32>,
    z: &mut [f32],
) {
    weights(isa, config, head, q, past, scores);
    z.fill(0.0);
    for (&p, value) in scores.iter().zip(past.rows(config, head, past.values, past.own_value)) {
        axpy(isa, p, value, z);
    }
}

/// Gradients of one head for `dz` = ∂L/∂z. The past is a constant: `dq` is set, and the token's own
/// key and value gradients are added to `dk` and `dv` (which the query heads of a group share).
#[allow(clippy::too_many_arguments)]
pub(crate) fn attend_backward(
    isa: Isa,
    config: &ModelConfig,
    head: usize,
    q: &[f32],
    past: &Past,
    dz: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let mut p = Vec::new();
    weights(isa, config, head, q, past, &mut p);
    let values = past.rows(config, head, past.values, past.own_value);
    let dp: Vec<f32> = values.map(|value| dot(isa, dz, value)).collect();
    let mean: f32 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
    dq.fill(0.0);
    let mut own = 0.0;
    for ((&p, &dp), key) in p.iter().zip(&dp).zip(past.rows(config, head, past.keys, past.own_key))
    {
        own = p * (dp - mean) * config.attention_scale;
        axpy(isa, own, key, dq);
    }
    axpy(isa, own, q, dk);
    axpy(isa, p[p.len() - 1], dz, dv);
}
