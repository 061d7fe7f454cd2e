//! Search for the scale of a sub-block that loses least.

use super::extreme;

/// Largest magnitude of a sub-block that counts as all zeros (ggml `GROUP_MAX_EPS`).
pub(super) const ALL_ZERO: f32 = 1e-15;

/// The nearest integer, halves to even, for magnitudes below 2²²: adding 1.5·2²³ leaves it in the
/// low bits (ggml `nearest_int`). Anything else gives some integer.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x007f_ffff).cast_signed() - 0x0040_0000
}

/// `x/d` as a step of `−half..half`.
#[inline(always)]
pub(super) fn signed_step(x: f32, half: i32) -> i32 {
    nearest(x).clamp(-half, half - 1)
}

/// Weighted sums over a sub-block, with the square of an element as its weight.
struct Sums {
    xq: f32,
    qq: f32,
}

impl Sums {
    fn of(x: &[f32; 16], steps: &[i32; 16]) -> Self {
        let mut sums = Self { xq: 0.0, qq: 0.0 };
        for (&x, &step) in x.iter().zip(steps) {
            let (weight, step) = (x * x, step as f32);
            sums.xq += weight * x * step;
            sums.qq += weight * step * step;
        }
        sums
    }

    /// The scale with the least error for these steps.
    fn scale(&self) -> f32 {
        if self.qq > 0.0 { self.xq / self.qq } else { 0.0 }
    }
}

/// Finds `scale` and `q` with `x ≈ scale·(q − half)`, errors weighted by x²: nineteen scales around
/// the one that makes the largest element `−half`, each followed by the best fit for its steps (ggml
/// `make_qx_quants`, kind 1). All zeros give `q = 0` and scale 0.
pub(super) fn symmetric(x: &[f32; 16], half: i32, q: &mut [u8; 16]) -> f32 {
    let largest = extreme(x);
    q.fill(0);
    if largest.abs() < ALL_ZERO {
        return 0.0;
    }
    let (mut scale, mut best) = (0.0, None);
    for shift in std::iter::once(0).chain(-9..=-1).chain(1..=9) {
        let inverse = -(half as f32 + 0.1 * shift as f32) / largest;
        let steps = x.map(|x| signed_step(inverse * x, half));
        let sums = Sums::of(x, &steps);
        if best.is_none_or(|best| sums.qq > 0.0 && sums.xq * sums.xq > best * sums.qq) {
            scale = sums.scale();
            best = Some(scale * sums.xq);
            *q = steps.map(|step| (step + half) as u8);
        }
    }
    scale
}

/// As [`symmetric`], but from one start each element in turn moves to where the others want it, five
/// times over or until none moves (ggml `make_q3_quants`).
pub(super) fn symmetric_by_descent(x: &[f32; 16], half: i32, q: &mut [u8; 16]) -> f32 {
    let largest = extreme(x);
    q.fill(0);
    if largest.abs() < ALL_ZERO {
        return 0.0;
    }
    let inverse = -half as f32 / largest;
    let mut steps = x.map(|x| signed_step(inverse * x, half));
    let mut sums = Sums::of(x, &steps);
    for _ in 0..5 {
        let mut moved = false;
        for (&x, step) in x.iter().zip(&mut steps) {
            moved |= move_step(x, half, step, &mut sums);
        }
        if !moved {
            break;
        }
    }
    *q = steps.map(|step| (step + half) as u8);
    sums.scale()
}

/// Moves an element to the step that fits the scale of the others, if the fit gets better.
fn move_step(x: f32, half: i32, step: &mut i32, sums: &mut Sums) -> bool {
    let (weight, old) = (x * x, *step as f32);
    let rest = Sums { xq: sums.xq - weight * x * old, qq: sums.qq - weight * old * old };
    if rest.xq.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        return false;
    }
    let new_step = signed_step(x * rest.qq / rest.xq, half);
    let new = new_step as f32;
    let moved = Sums { xq: rest.xq + weight * x * new, qq: rest.qq + weight * new * new };
    let better = moved.xq * moved.xq * sums.qq > sums.xq * sums.xq * moved.qq;
    if new_step == *step || moved.qq <= 0.0 || !better {
        return false;
    }
    (*step, *sums) = (new_step, moved);
    true
}

/// How [`Affine::search`] looks for a scale and a minimum.
pub(super) struct Affine {
    /// Largest step.
    pub(super) top: i32,
    /// The scales that are tried make `top + first`, `top + first + 0.1`, … steps of the range.
    pub(super) first: f32,
    /// How many are tried.
    pub(super) tries: u8,
    /// Whether errors count as they are, or squared.
    pub(super) absolute: bool,
}

/// A scale and a minimum, and the error that is left with them.
struct Fit {
    scale: f32,
    min: f32,
    error: f32,
}

impl Affine {
    /// Finds `scale ≥ 0`, `min ≤ 0` and `q` with `x ≈ scale·q + min`, the error of an element
    /// weighted by `weights`; gives `(scale, −min)` (ggml `make_qkx2_quants`). Each scale that is
    /// tried starts from the best minimum so far and is followed by the best fit for its steps.
    pub(super) fn search<const N: usize>(
        &self,
        x: &[f32; N],
        weights: &[f32; N],
        q: &mut [u8; N],
    ) -> (f32, f32) {
        let min = x.iter().fold(0.0, |min: f32, &x| if x < min { x } else { min });
        let max = x[1..].iter().fold(x[0], |max, &x| if x > max { x } else { max });
        q.fill(0);
        if max == min {
            return (0.0, -min);
        }
        let inverse = self.top as f32 / (max - min);
        let mut steps = self.steps(x, min, inverse);
        let mut best = self.measured(1.0 / inverse, min, x, weights, &steps);
        *q = steps.map(|step| step as u8);
        for attempt in 0..self.tries {
            let wanted = self.first + 0.1 * f32::from(attempt) + self.top as f32;
            steps = self.steps(x, best.min, wanted / (max - best.min));
            let Some((scale, min)) = fitted(x, weights, &steps) else { continue };
            let fit = self.measured(scale, min, x, weights, &steps);
            if fit.error < best.error {
                best = fit;
                *q = steps.map(|step| step as u8);
            }
        }
        (best.scale, -best.min)
    }

    #[inline(always)]
    fn steps<const N: usize>(&self, x: &[f32; N], min: f32, inverse: f32) -> [f32; N] {
        x.map(|x| nearest(inverse * (x - min)).clamp(0, self.top) as f32)
    }

    #[inline(always)]
    fn measured<const N: usize>(
        &self,
        scale: f32,
        min: f32,
        x: &[f32; N],
        weights: &[f32; N],
        steps: &[f32; N],
    ) -> Fit {
        let mut error = 0.0;
        for i in 0..N {
            let off = scale * steps[i] + min - x[i];
            error += weights[i] * if self.absolute { off.abs() } else { off * off };
        }
        Fit { scale, min, error }
    }
}

/// Scale and minimum with the least weighted squared error for the steps; the minimum is at most 0.
#[inline(always)]
fn fitted<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    steps: &[f32; N],
) -> Option<(f32, f32)> {
    let (mut w, mut wx, mut wq, mut wqq, mut wqx) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for i in 0..N {
        let (weight, step) = (weights[i], steps[i]);
        w += weight;
        wx += weight * x[i];
        wq += weight * step;
        wqq += weight * step * step;
        wqx += weight * step * x[i];
    }
    let determinant: f32 = w * wqq - wq * wq;
    if determinant.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        return None;
    }
    let min = (wqq * wx - wq * wqx) / determinant;
    Some(if min > 0.0 { (wqx / wqq, 0.0) } else { ((w * wqx - wx * wq) / determinant, min) })
}
