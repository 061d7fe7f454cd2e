//! Norms of the residual stream, forward and backward.

use fewron_kernels::{Isa, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};

/// A norm's weights.
pub(crate) enum Norm {
    Rms(Vec<f32>),
    Layer { weight: Vec<f32>, bias: Vec<f32> },
}

impl Norm {
    fn width(&self) -> usize {
        match self {
            Norm::Rms(weight) | Norm::Layer { weight, .. } => weight.len(),
        }
    }

    /// Normalises a row.
    pub(crate) fn forward(&self, isa: Isa, x: &[f32], eps: f32, out: &mut [f32]) {
        match self {
            Norm::Rms(weight) => {
                rms_norm(isa, x, weight, eps, out);
            }
            Norm::Layer { weight, bias } => layer_norm(isa, x, weight, bias, eps, out),
        }
    }

    /// `grad_in += ` the gradient of rows `x` for that of the normalised rows.
    pub(crate) fn backward(
        &self,
        isa: Isa,
        x: &[f32],
        eps: f32,
        grad_out: &[f32],
        grad_in: &mut [f32],
    ) {
        let width = self.width();
        let rows = x.chunks_exact(width).zip(grad_out.chunks_exact(width));
        for ((x, out), into) in rows.zip(grad_in.chunks_exact_mut(width)) {
            match self {
                Norm::Rms(weight) => rms_norm_backward(isa, x, weight, eps, out, into),
                Norm::Layer { weight, .. } => layer_norm_backward(isa, x, weight, eps, out, into),
            }
        }
    }
}
