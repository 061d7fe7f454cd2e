//! Element-wise functions and reductions on f32 vectors.

use crate::isa::{Arch, multiversion};

/// Partial sums of a reduction: fixed, so that a result depends on the length alone.
pub(crate) const LANES: usize = 32;

#[inline(always)]
pub(crate) fn reduce(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

multiversion! {
    /// Dot product of two vectors of equal length.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body;
}

#[inline(always)]
pub(crate) fn dot_body<A: Arch>(a: &[f32], b: &[f32]) -> f32 {
    dots_body::<A, 1>(a, [b])[0]
}

/// Dot products of `a` with each of `b`; the order of operations is the same for every `N`.
#[inline(always)]
pub(crate) fn dots_body<A: Arch, const N: usize>(a: &[f32], b: [&[f32]; N]) -> [f32; N] {
    let mut lanes = [[0.0; LANES]; N];
    let (blocks, tail) = a.as_chunks::<LANES>();
    for (index, block) in blocks.iter().enumerate() {
        for n in 0..N {
            let other = &b[n][index * LANES..][..LANES];
            for lane in 0..LANES {
                lanes[n][lane] = A::mul_add(block[lane], other[lane], lanes[n][lane]);
            }
        }
    }
    let start = blocks.len() * LANES;
    for n in 0..N {
        for (lane, (&a, &b)) in tail.iter().zip(&b[n][start..]).enumerate() {
            lanes[n][lane] = A::mul_add(a, b, lanes[n][lane]);
        }
    }
    let mut sums = [0.0; N];
    for n in 0..N {
        sums[n] = reduce(lanes[n]);
    }
    sums
}

multiversion! {
    /// `y += a · x`.
    pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) = axpy_body;
}

#[inline(always)]
fn axpy_body<A: Arch>(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = A::mul_add(a, x, *y);
    }
}

/// e^x to about 2 units in the last place, in a form that vectorises: split off the power of two,
/// then a polynomial on [-ln2/2, ln2/2] (Cephes `expf`). Results under 2⁻¹²⁶ become 0.
#[inline(always)]
pub(crate) fn exp<A: Arch>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer
    let clamped = x.clamp(-87.336_54, 88.376_26);
    let power = A::mul_add(clamped, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = A::mul_add(power, -0.693_359_4, clamped);
    let r = A::mul_add(power, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = A::mul_add(p, r, c);
    }
    let p = A::mul_add(p, r * r, r) + 1.0;
    let scale = f32::from_bits((((power as i32) + 127) << 23) as u32);
    if x < -87.336_54 { 0.0 } else { p * scale }
}

multiversion! {
    /// Σ exp(x − shift) over the vector.
    pub fn sum_exp(x: &[f32], shift: f32) -> f32 = sum_exp_body;
}

#[inline(always)]
fn sum_exp_body<A: Arch>(x: &[f32], shift: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] += exp::<A>(block[lane] - shift);
        }
    }
    for (lane, &x) in tail.iter().enumerate() {
        lanes[lane] += exp::<A>(x - shift);
    }
    reduce(lanes)
}

multiversion! {
    /// Σ p·(log p − log q) for p = softmax(`x`), q = softmax(`y`), given their log-normalisers:
    /// the Kullback–Leibler divergence of two distributions over a vocabulary, in nats.
    pub fn kl_divergence(x: &[f32], x_norm: f32, y: &[f32], y_norm: f32) -> f32 = kl_body;
}

#[inline(always)]
fn kl_body<A: Arch>(x: &[f32], x_norm: f32, y: &[f32], y_norm: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    let (others, other_tail) = y.as_chunks::<LANES>();
    for (x, y) in blocks.iter().zip(others) {
        for lane in 0..LANES {
            let (log_p, log_q) = (x[lane] - x_norm, y[lane] - y_norm);
            lanes[lane] = A::mul_add(exp::<A>(log_p), log_p - log_q, lanes[lane]);
        }
    }
    for (lane, (&x, &y)) in tail.iter().zip(other_tail).enumerate() {
        let (log_p, log_q) = (x - x_norm, y - y_norm);
        lanes[lane] = A::mul_add(exp::<A>(log_p), log_p - log_q, lanes[lane]);
    }
    reduce(lanes)
}

/// log Σ exp(x): the log-normaliser of a softmax over `x`.
pub fn log_sum_exp(isa: crate::Isa, x: &[f32]) -> f32 {
    let largest = max(isa, x);
    if !largest.is_finite() {
        return largest;
    }
    largest + sum_exp(isa, x, largest).ln()
}

multiversion! {
    /// Largest element; −∞ for an empty vector.
    pub fn max(x: &[f32]) -> f32 = max_body;
}

#[inline(always)]
fn max_body<A: Arch>(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    tail.iter().chain(&lanes).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}

multiversion! {
    /// Softmax in place.
    pub fn softmax(x: &mut [f32]) = softmax_body;
}

#[inline(always)]
pub(crate) fn softmax_body<A: Arch>(x: &mut [f32]) {
    let largest = max_body::<A>(x);
    let mut lanes = [0.0; LANES];
    for chunk in x.chunks_mut(LANES) {
        for (lane, x) in chunk.iter_mut().enumerate() {
            *x = exp::<A>(*x - largest);
            lanes[lane] += *x;
        }
    }
    let inverse = 1.0 / reduce(lanes);
    for x in x {
        *x *= inverse;
    }
}

/// Activation function of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · σ(x).
    Silu,
    /// GELU, tanh form: x · σ(2√(2/π)·(x + 0.044715·x³)).
    GeluTanh,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// The argument of the logistic function, and its derivative; there is none for ReLU.
    #[inline(always)]
    fn logit(self, x: f32) -> (f32, f32) {
        match self {
            Activation::Silu | Activation::Relu => (x, 1.0),
            Activation::GeluTanh => {
                const C: f32 = 1.595_769_2; // 2√(2/π)
                let square = 0.044_715 * x * x;
                (C * x * (1.0 + square), C * (1.0 + 3.0 * square))
            }
        }
    }
}

multiversion! {
    /// `out = act(x)`.
    pub fn activate(activation: Activation, x: &[f32], out: &mut [f32]) = activate_body;
}

#[inline(always)]
fn activate_body<A: Arch>(activation: Activation, x: &[f32], out: &mut [f32]) {
    if activation == Activation::Relu {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = if x > 0.0 { x } else { 0.0 });
        return;
    }
    for (out, &x) in out.iter_mut().zip(x) {
        *out = x / (1.0 + exp::<A>(-activation.logit(x).0));
    }
}

multiversion! {
    /// `grad *= act'(x)`.
    pub fn activate_backward(activation: Activation, x: &[f32], grad: &mut [f32]) = activate_backward_body;
}

#[inline(always)]
fn activate_backward_body<A: Arch>(activation: Activation, x: &[f32], grad: &mut [f32]) {
    if activation == Activation::Relu {
        grad.iter_mut().zip(x).for_each(|(grad, &x)| *grad = if x > 0.0 { *grad } else { 0.0 });
        return;
    }
    for (grad, &x) in grad.iter_mut().zip(x) {
        let (logit, slope) = activation.logit(x);
        let s = 1.0 / (1.0 + exp::<A>(-logit));
        *grad *= A::mul_add(x * s * (1.0 - s), slope, s);
    }
}

multiversion! {
    /// `out = x / rms(x) · weight`, rms(x) = √(mean(x²) + eps). Returns 1 / rms(x).
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) -> f32 = rms_norm_body;
}

#[inline(always)]
fn rms_norm_body<A: Arch>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) -> f32 {
    let inverse = 1.0 / (dot_body::<A>(x, x) / x.len() as f32 + eps).sqrt();
    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * inverse * w;
    }
    inverse
}

multiversion! {
    /// `grad_in += ∂L/∂x` of [`rms_norm`] for `grad_out` = ∂L/∂out.
    pub fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f32, grad_out: &[f32], grad_in: &mut [f32]) = rms_norm_backward_body;
}

#[inline(always)]
fn rms_norm_backward_body<A: Arch>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    grad_out: &[f32],
    grad_in: &mut [f32],
) {
    let n = x.len() as f32;
    let inverse = 1.0 / (dot_body::<A>(x, x) / n + eps).sqrt();
    let mut projection = 0.0;
    for ((&x, &w), &g) in x.iter().zip(weight).zip(grad_out) {
        projection += x * w * g;
    }
    let along = projection * inverse * inverse * inverse / n;
    for (((out, &x), &w), &g) in grad_in.iter_mut().zip(x).zip(weight).zip(grad_out) {
        *out += inverse * w * g - along * x;
    }
}

multiversion! {
    /// `out = (x − mean) / √(variance + eps) · weight + bias`.
    pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) = layer_norm_body;
}

/// Mean and 1 / √(variance + eps).
#[inline(always)]
fn moments<A: Arch>(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mut lanes = [0.0; LANES];
    for chunk in x.chunks(LANES) {
        for (sum, x) in lanes.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    let mean = reduce(lanes) / n;
    let mut lanes = [0.0; LANES];
    for chunk in x.chunks(LANES) {
        for (sum, x) in lanes.iter_mut().zip(chunk) {
            *sum = A::mul_add(x - mean, x - mean, *sum);
        }
    }
    (mean, 1.0 / (reduce(lanes) / n + eps).sqrt())
}

#[inline(always)]
fn layer_norm_body<A: Arch>(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let (mean, inverse) = moments::<A>(x, eps);
    for (((out, &x), &w), &b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        *out = A::mul_add((x - mean) * inverse, w, b);
    }
}

multiversion! {
    /// `grad_in += ∂L/∂x` of [`layer_norm`] for `grad_out` = ∂L/∂out.
    pub fn layer_norm_backward(x: &[f32], weight: &[f32], eps: f32, grad_out: &[f32], grad_in: &mut [f32]) = layer_norm_backward_body;
}

/// With x̂ = (x − mean) · inverse and g = grad_out · weight: inverse · (g − mean g − x̂ · mean(g · x̂)).
#[inline(always)]
fn layer_norm_backward_body<A: Arch>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    grad_out: &[f32],
    grad_in: &mut [f32],
) {
    let n = x.len() as f32;
    let (mean, inverse) = moments::<A>(x, eps);
    let (mut sum, mut along) = (0.0, 0.0);
    for ((&x, &w), &g) in x.iter().zip(weight).zip(grad_out) {
        sum += w * g;
        along += w * g * (x - mean) * inverse;
    }
    let (sum, along) = (sum / n, along / n);
    for (((out, &x), &w), &g) in grad_in.iter_mut().zip(x).zip(weight).zip(grad_out) {
        *out += inverse * (w * g - sum - (x - mean) * inverse * along);
    }
}
