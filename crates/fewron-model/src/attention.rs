//! Attention of one query over the past and its own token, backward.

use crate::config::ModelConfig;
use fewron_kernels::{Isa, axpy, dot, softmax};

/// What a head of one token attends to: rows of past positions, then the token's own key and value.
pub(crate) struct Past<'a> {
    /// `[positions, kv_width]`.
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) own_key: &'a [f32],
    pub(crate) own_value: &'a [f32],
}

impl Past<'_> {
    /// Rows of a query head, its token's own last.
    fn rows<'a>(
        config: &ModelConfig,
        head: usize,
        past: &'a [f32],
        own: &'a [f32],
    ) -> impl Iterator<Item = &'a [f32]> {
        let (at, dim) = (kv_head(config, head) * config.head_dim, config.head_dim);
        let past = past.chunks_exact(config.kv_width());
        past.chain(std::iter::once(own)).map(move |row| &row[at..at + dim])
    }
}

/// The head of keys and values that a query head looks at.
pub(crate) fn kv_head(config: &ModelConfig, head: usize) -> usize {
    head / (config.heads / config.kv_heads)
}

/// First position that a token may attend to.
pub(crate) fn window_start(window: Option<usize>, position: usize) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
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
    let keys = || Past::rows(config, head, past.keys, past.own_key);
    let values = Past::rows(config, head, past.values, past.own_value);
    let mut p: Vec<f32> = keys().map(|key| dot(isa, q, key) * config.attention_scale).collect();
    softmax(isa, &mut p);
    let dp: Vec<f32> = values.map(|value| dot(isa, dz, value)).collect();
    let mean: f32 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
    dq.fill(0.0);
    let mut own = 0.0;
    for ((&p, &dp), key) in p.iter().zip(&dp).zip(keys()) {
        own = p * (dp - mean) * config.attention_scale;
        axpy(isa, own, key, dq);
    }
    axpy(isa, own, q, dk);
    axpy(isa, p[p.len() - 1], dz, dv);
}
