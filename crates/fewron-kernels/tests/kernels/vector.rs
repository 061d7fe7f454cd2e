//! Vector functions against their formulas in f64.

use crate::naive::{Rng, assert_near, product};
use fewron_kernels::{
    Activation, Isa, activate, activate_backward, axpy, dot, kl_divergence, layer_norm,
    layer_norm_backward, log_sum_exp, max, rms_norm, rms_norm_backward, softmax, sum_exp,
};
use proptest::prelude::*;

/// Lengths around the widths that kernels work in.
const LENGTHS: [usize; 16] = [1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 257, 1000];
/// Under this, e^x may be 0.
const SMALLEST: f64 = f32::MIN_POSITIVE as f64;

fn f64s(x: &[f32]) -> impl Iterator<Item = f64> + Clone + '_ {
    x.iter().map(|&x| f64::from(x))
}

/// Calls `f(isa, length, random vector)` for every instruction set and length.
fn each_length(scale: f32, f: impl Fn(Isa, usize, &mut Rng, Vec<f32>)) {
    for isa in Isa::available() {
        for len in LENGTHS {
            let mut rng = Rng::new(len as u64);
            let x = rng.vector(len).iter().map(|x| x * scale).collect();
            f(isa, len, &mut rng, x);
        }
    }
}

#[test]
fn dot_equals_the_naive_sum() {
    each_length(3.0, |isa, len, rng, a| {
        let b = rng.vector(len);
        let (sum, size) = product(&a, &b);
        assert_near(&format!("{} {len}", isa.name()), dot(isa, &a, &b), sum, size, 1e-6);
    });
    Isa::available().into_iter().for_each(|isa| assert_eq!(dot(isa, &[], &[]), 0.0));
}

#[test]
fn axpy_adds_a_multiple() {
    each_length(3.0, |isa, len, rng, x| {
        let start = rng.vector(len);
        let mut y = start.clone();
        axpy(isa, -1.7, &x, &mut y);
        for ((&y, x), start) in y.iter().zip(f64s(&x)).zip(f64s(&start)) {
            let term = f64::from(-1.7f32) * x;
            assert_near(isa.name(), y, start + term, start.abs() + term.abs(), 2e-7);
        }
    });
}

#[test]
fn max_finds_the_largest_anywhere() {
    each_length(3.0, |isa, len, rng, mut x| {
        assert_eq!(max(isa, &x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        x.iter_mut().for_each(|x| *x -= 10.0);
        let at = rng.below(len);
        x[at] = -6.5;
        assert_eq!(max(isa, &x), -6.5, "{} at {at} of {len}", isa.name());
        x[at] = f32::INFINITY;
        assert_eq!(max(isa, &x), f32::INFINITY);
    });
    for isa in Isa::available() {
        assert_eq!(max(isa, &[]), f32::NEG_INFINITY);
        assert_eq!(max(isa, &[f32::NEG_INFINITY; 40]), f32::NEG_INFINITY);
    }
}

#[test]
fn softmax_equals_the_formula() {
    for scale in [0.1, 5.0, 60.0] {
        each_length(scale, |isa, len, _, x| {
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f64> = x.iter().map(|x| f64::from(x - largest).exp()).collect();
            let total: f64 = powers.iter().sum();
            let mut got = x.clone();
            softmax(isa, &mut got);
            for (&got, power) in got.iter().zip(&powers) {
                let expected = power / total;
                let what = format!("{} {len}", isa.name());
                assert_near(&what, got, expected, 1.0, 1e-6 * expected + SMALLEST);
            }
        });
    }
}

/// e^x over its whole range, through a softmax over x and 0: relative error of a few units in the
/// last place, down to where f32 has no normal numbers.
#[test]
fn exp_is_accurate_over_its_whole_range() {
    for isa in Isa::available() {
        for step in 0..=120_000 {
            let x = step as f32 * -1e-3;
            let mut pair = [x, 0.0];
            softmax(isa, &mut pair);
            let power = f64::from(x).exp();
            let expected = power / (1.0 + power);
            if power < SMALLEST {
                assert!(f64::from(pair[0]) <= 2.0 * SMALLEST, "{} e^{x} = {}", isa.name(), pair[0]);
            } else {
                assert_near(&format!("{} e^{x}", isa.name()), pair[0], expected, expected, 5e-7);
            }
        }
    }
}

#[test]
fn softmax_keeps_infinities_and_large_values() {
    for isa in Isa::available() {
        let mut x = [f32::NEG_INFINITY, 3e38, 1e4, f32::NEG_INFINITY, 3e38];
        softmax(isa, &mut x);
        assert_eq!(x, [0.0, 0.5, 0.0, 0.0, 0.5], "{}", isa.name());
        softmax(isa, &mut []);
        let mut one = [-1e30];
        softmax(isa, &mut one);
        assert_eq!(one, [1.0]);
    }
}

#[test]
fn log_sum_exp_equals_the_formula() {
    for (scale, shift) in [(1.0, 0.0), (30.0, 0.0), (20.0, 1e4), (20.0, -1e4)] {
        each_length(scale, |isa, len, _, mut x| {
            x.iter_mut().for_each(|x| *x += shift);
            let largest = f64s(&x).fold(f64::NEG_INFINITY, f64::max);
            let expected = largest + f64s(&x).map(|x| (x - largest).exp()).sum::<f64>().ln();
            let what = format!("{} {len}", isa.name());
            assert_near(&what, log_sum_exp(isa, &x), expected, 1.0 + expected.abs(), 5e-7);
        });
    }
}

#[test]
fn log_sum_exp_takes_infinities() {
    const INF: f32 = f32::INFINITY;
    for isa in Isa::available() {
        assert_eq!(log_sum_exp(isa, &[]), -INF);
        assert_eq!(log_sum_exp(isa, &[-INF; 50]), -INF);
        assert_eq!(log_sum_exp(isa, &[-INF, 2.5, -INF]), 2.5);
        assert_eq!(log_sum_exp(isa, &[1.0, INF, -INF]), INF);
        assert!(log_sum_exp(isa, &[1.0, f32::NAN]).is_nan());
    }
}

#[test]
fn sum_exp_equals_the_formula() {
    each_length(8.0, |isa, len, _, x| {
        let expected: f64 = x.iter().map(|x| f64::from(x - 1.5).exp()).sum();
        assert_near(
            &format!("{} {len}", isa.name()),
            sum_exp(isa, &x, 1.5),
            expected,
            expected,
            1e-6,
        );
    });
}

#[test]
fn kl_divergence_equals_the_formula() {
    each_length(6.0, |isa, len, rng, x| {
        let y: Vec<f32> = x.iter().map(|x| x + rng.uniform()).collect();
        let (x_norm, y_norm) = (log_sum_exp(isa, &x), log_sum_exp(isa, &y));
        let logs = |x: &[f32]| {
            let norm = f64s(x).map(f64::exp).sum::<f64>().ln();
            f64s(x).map(|x| x - norm).collect::<Vec<_>>()
        };
        let expected: f64 = logs(&x).iter().zip(logs(&y)).map(|(p, q)| p.exp() * (p - q)).sum();
        let what = format!("{} {len}", isa.name());
        // The logarithms of the normalisers are around 6 and rounded to f32.
        assert_near(&what, kl_divergence(isa, &x, x_norm, &y, y_norm), expected, 1.0, 5e-6);
        assert_eq!(kl_divergence(isa, &x, x_norm, &x, x_norm), 0.0, "{what}");
    });
}

/// Those that are x · σ(a logit).
const LOGISTIC: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

/// The argument of the logistic function.
fn logit(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu | Activation::Relu => x,
        Activation::GeluTanh => (8.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3)),
    }
}

fn act(activation: Activation, x: f64) -> f64 {
    x / (1.0 + (-logit(activation, x)).exp())
}

/// −100 to 100 in fine steps, and the corners of f32 around zero.
fn arguments() -> Vec<f32> {
    let corners = [0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-39, 1e-20, -1e-20, 1e4, -1e4];
    (-50_000..=50_000).map(|i| i as f32 * 2e-3).chain(corners).collect()
}

#[test]
fn gelu_is_the_tanh_form() {
    let x = [-3.0f32, -0.5, 0.25, 2.0, 40.0];
    for isa in Isa::available() {
        let mut out = [0.0; 5];
        activate(isa, Activation::GeluTanh, &x, &mut out);
        for (x, &out) in f64s(&x).zip(&out) {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            assert_near(isa.name(), out, 0.5 * x * (1.0 + inner.tanh()), x.abs(), 2e-7);
        }
    }
}

#[test]
fn activations_equal_their_formulas() {
    let x = arguments();
    for isa in Isa::available() {
        for activation in LOGISTIC {
            let mut out = vec![f32::NAN; x.len()];
            activate(isa, activation, &x, &mut out);
            for (&x, &out) in x.iter().zip(&out) {
                let expected = act(activation, f64::from(x));
                // e^-z magnifies the rounding of z by z.
                let rounding = match activation {
                    Activation::Silu | Activation::Relu => 0.0,
                    Activation::GeluTanh => 3e-7 * (-logit(activation, f64::from(x))).max(0.0),
                };
                // Where e^-x overflows f32 the result is about x·2⁻¹²⁷ instead of less.
                let tolerance =
                    (6e-7 + rounding) * expected.abs() + 1e-36 + 1e-38 * f64::from(x.abs());
                let what = format!("{} {activation:?}({x:e})", isa.name());
                assert_near(&what, out, expected, 1.0, tolerance);
            }
        }
    }
}

#[test]
fn activation_gradients_equal_finite_differences() {
    let x = arguments();
    for isa in Isa::available() {
        for activation in LOGISTIC {
            let mut rng = Rng::new(5);
            let outer = rng.vector(x.len());
            let mut grad = outer.clone();
            activate_backward(isa, activation, &x, &mut grad);
            for ((&x, outer), &grad) in x.iter().zip(f64s(&outer)).zip(&grad) {
                let (x, step) = (f64::from(x), 1e-5);
                let slope = (act(activation, x + step) - act(activation, x - step)) / (2.0 * step);
                let what = format!("{} {activation:?}'({x:e})", isa.name());
                // 1 − σ is known to 6e-8, and counts x·logit'(x) times.
                assert_near(&what, grad, outer * slope, outer.abs() + 1e-30, 4e-6);
            }
        }
    }
}

fn norm(x: &[f64], weight: &[f32], eps: f64) -> Vec<f64> {
    let rms = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + eps).sqrt();
    x.iter().zip(weight).map(|(x, &w)| x / rms * f64::from(w)).collect()
}

#[test]
fn rms_norm_equals_the_formula() {
    for (scale, eps) in [(2.0, 1e-5), (1e-3, 1e-6), (100.0, 1e-6), (0.0, 1e-6)] {
        each_length(scale, |isa, len, rng, x| {
            let weight = rng.vector(len);
            let mut out = vec![f32::NAN; len];
            let inverse = rms_norm(isa, &x, &weight, eps, &mut out);
            let x: Vec<f64> = f64s(&x).collect();
            let expected = norm(&x, &weight, f64::from(eps));
            for (&out, expected) in out.iter().zip(&expected) {
                assert_near(&format!("{} {len}", isa.name()), out, *expected, expected.abs(), 1e-6);
            }
            let mean = x.iter().map(|x| x * x).sum::<f64>() / len as f64;
            let rms = (mean + f64::from(eps)).sqrt();
            assert_near("1 / rms", inverse, 1.0 / rms, 1.0 / rms, 1e-6);
        });
    }
}

#[test]
fn rms_norm_gradients_equal_finite_differences() {
    let eps = 1e-5f32;
    each_length(2.0, |isa, len, rng, x| {
        let (weight, outer, start) = (rng.vector(len), rng.vector(len), rng.vector(len));
        let mut grad = start.clone();
        rms_norm_backward(isa, &x, &weight, eps, &outer, &mut grad);
        let loss = |x: &[f64]| -> f64 {
            norm(x, &weight, f64::from(eps)).iter().zip(f64s(&outer)).map(|(y, g)| y * g).sum()
        };
        let x: Vec<f64> = f64s(&x).collect();
        for at in (0..len).step_by(len.div_ceil(10)) {
            let step = 1e-5;
            let moved = |by: f64| {
                let mut x = x.clone();
                x[at] += by;
                loss(&x)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            let expected = f64::from(start[at]) + slope;
            assert_near(&format!("{} {at} of {len}", isa.name()), grad[at], expected, 1.0, 1e-5);
        }
    });
}

#[test]
fn relu_and_its_gradient() {
    for isa in Isa::available() {
        let x = [-1.0, -0.0, 0.0, 2.5, -1e-45, 1e30];
        let (mut out, mut grad) = ([7.0; 6], [3.0; 6]);
        activate(isa, Activation::Relu, &x, &mut out);
        activate_backward(isa, Activation::Relu, &x, &mut grad);
        assert_eq!(out, [0.0, 0.0, 0.0, 2.5, 0.0, 1e30]);
        assert_eq!(grad, [0.0, 0.0, 0.0, 3.0, 0.0, 3.0]);
    }
}

proptest! {
    #[test]
    fn layer_norm_equals_its_formula_and_its_differences(len in 1usize..130, seed: u64) {
        let mut rng = Rng::new(seed);
        let (x, weight, bias, g) =
            (rng.vector(len), rng.vector(len), rng.vector(len), rng.vector(len));
        let norm = |x: &[f64]| -> Vec<f64> {
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let scale = 1.0 / (variance + 1e-2).sqrt();
            x.iter()
                .zip(weight.iter().zip(&bias))
                .map(|(x, (&w, &b))| (x - mean) * scale * f64::from(w) + f64::from(b))
                .collect()
        };
        let loss = |x: &[f64]| -> f64 {
            norm(x).iter().zip(&g).map(|(y, &g)| y * f64::from(g)).sum()
        };
        let exact: Vec<f64> = f64s(&x).collect();
        for isa in Isa::available() {
            let (mut out, mut grad) = (vec![0.0; len], vec![0.5; len]);
            layer_norm(isa, &x, &weight, &bias, 1e-2, &mut out);
            layer_norm_backward(isa, &x, &weight, 1e-2, &g, &mut grad);
            for (k, (&got, expected)) in out.iter().zip(norm(&exact)).enumerate() {
                assert_near(&format!("{} out {k}", isa.name()), got, expected, 1.0, 2e-5);
            }
            for (k, &got) in grad.iter().enumerate() {
                let (mut above, mut below) = (exact.clone(), exact.clone());
                above[k] += 1e-5;
                below[k] -= 1e-5;
                let slope = (loss(&above) - loss(&below)) / 2e-5;
                assert_near(&format!("{} grad {k}", isa.name()), got - 0.5, slope, 10.0, 2e-5);
            }
        }
    }
}
