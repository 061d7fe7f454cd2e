//! Rotary position embedding (Su et al., arXiv 2104.09864).

use crate::config::{LayerConfig, ModelConfig, RopePairs};

/// Angles per position: what layers with the same settings share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RopeKind {
    /// Of each rotated pair.
    frequencies: Vec<f32>,
    /// Factor of positions.
    scale: f32,
}

impl RopeKind {
    /// `factors` divide the frequencies.
    pub(crate) fn new(config: &ModelConfig, layer: &LayerConfig, factors: Option<&[f32]>) -> Self {
        let frequency = |i: usize| {
            let exponent = 2.0 * i as f64 / config.rope_dim as f64;
            let frequency = f64::from(layer.rope_theta).powf(-exponent) as f32;
            frequency / factors.map_or(1.0, |factors| factors[i])
        };
        let frequencies = (0..config.rope_dim / 2).map(frequency).collect();
        Self { frequencies, scale: layer.rope_scale }
    }
}

/// Cosines and sines for a batch of positions.
#[derive(Default)]
pub(crate) struct Rope {
    pairs: RopePairs,
    half: usize,
    head_dim: usize,
    /// `[positions, rope_dim / 2]` of (cos, sin).
    table: Vec<(f32, f32)>,
}

impl Rope {
    pub(crate) fn set(&mut self, config: &ModelConfig, kind: &RopeKind, positions: &[usize]) {
        (self.pairs, self.head_dim) = (config.rope_pairs, config.head_dim);
        self.half = kind.frequencies.len();
        self.table.clear();
        self.table.extend(positions.iter().flat_map(|&position| {
            let position = position as f32 * kind.scale;
            let angles = kind.frequencies.iter().map(move |f| position * f);
            angles.map(f32::sin_cos).map(|(s, c)| (c, s))
        }));
    }

    /// Rotates every head of each row of `x`, shape `[positions, heads · head_dim]`.
    pub(crate) fn rotate(&self, x: &mut [f32]) {
        self.apply(x, 1.0);
    }

    /// The transposed rotation: gradient of the input from that of the output.
    pub(crate) fn rotate_back(&self, grad: &mut [f32]) {
        self.apply(grad, -1.0);
    }

    fn apply(&self, x: &mut [f32], direction: f32) {
        if self.half == 0 {
            return;
        }
        let rows = self.table.len() / self.half;
        let width = x.len() / rows;
        let turn = |x: &mut f32, y: &mut f32, &(cos, sin): &(f32, f32)| {
            let sin = sin * direction;
            (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
        };
        for (row, table) in x.chunks_exact_mut(width).zip(self.table.chunks_exact(self.half)) {
            for head in row.chunks_exact_mut(self.head_dim) {
                match self.pairs {
                    RopePairs::Neighbours => {
                        let (pairs, _) = head.as_chunks_mut();
                        for ([x, y], angle) in pairs.iter_mut().zip(table) {
                            turn(x, y, angle);
                        }
                    }
                    RopePairs::Halves => {
                        let (first, second) = head.split_at_mut(self.half);
                        for ((x, y), angle) in first.iter_mut().zip(second).zip(table) {
                            turn(x, y, angle);
                        }
                    }
                }
            }
        }
    }
}
