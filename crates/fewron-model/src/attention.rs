//! Attention of one query over the past and its own token, forward and backward.

use crate::config::ModelConfig;
use crate::kv_cache::LayerCache;
use fewron_kernels::{Isa, axpy, dot, softmax};

/// What a head of one token attends to: cached rows of past positions, then the token's own key
/// and value.
pub(crate) struct Past<'a> {
    pub(crate) cache: &'a LayerCache,
    pub(crate) own_key: &'a [f32],
    pub(crate) own_value: &'a [f32],
    /// First visible position and the token's own.
    pub(crate) start: usize,
    pub(crate) position: usize,
}

impl Past<'_> {
    /// Keys that a head sees, its token's own last.
    fn keys(&self, config: &ModelConfig, head: usize) -> impl Iterator<Item = &[f32]> {
        let (at, dim) = kv_place(config, head);
        let past = self.cache.keys(self.start..self.position);
        past.chain(std::iter::once(self.own_key)).map(move |row| &row[at..at + dim])
    }

    /// Values that a head sees, its token's own last.
    fn values(&self, config: &ModelConfig, head: usize) -> impl Iterator<Item = &[f32]> {
        let (at, dim) = kv_place(config, head);
        let past = self.cache.values(self.start..self.position);
        past.chain(std::iter::once(self.own_value)).map(move |row| &row[at..at + dim])
    }

    fn len(&self) -> usize {
        self.position - self.start + 1
    }
}

/// Where the key and value of a query head lie in their rows, and how wide they are.
fn kv_place(config: &ModelConfig, head: usize) -> (usize, usize) {
    (head / (config.heads / config.kv_heads) * config.head_dim, config.head_dim)
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
    out.extend(past.keys(config, head).map(|key| dot(isa, q, key) * config.attention_scale));
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
    for (&p, value) in scores.iter().zip(past.values(config, head)) {
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
    let dp: Vec<f32> = past.values(config, head).map(|value| dot(isa, dz, value)).collect();
    let mean: f32 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
    dq.fill(0.0);
    let mut own = 0.0;
    for ((&p, &dp), key) in p.iter().zip(&dp).zip(past.keys(config, head)) {
        own = p * (dp - mean) * config.attention_scale;
        axpy(isa, own, key, dq);
    }
    axpy(isa, own, q, dk);
    axpy(isa, p[p.len() - 1], dz, dv);
}
