//! Axes: from a value to a place on the chart, and where to put ticks.

use super::format;

/// One axis: maps `low..=high` to `from..=to` in chart units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Smallest value (after the logarithm on a log axis).
    low: f64,
    /// Largest value (after the logarithm on a log axis).
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Axis {
    /// A linear axis.
    pub(super) fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        Self { low, high, from, to, log: false }
    }

    /// A log axis over whole decades that hold the positive `values`; 0.01..1 when there are none.
    pub(super) fn log(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .map(|value| value.log10().clamp(-6.0, 6.0))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (-2.0, 0.0) } else { (low.floor(), high.ceil()) };
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to, log: true }
    }

    /// A linear axis around `values`, with a margin; `floor` and `ceiling` are where values end.
    pub(super) fn around(
        values: impl Iterator<Item = f64>,
        (floor, ceiling): (f64, f64),
        (from, to): (f64, f64),
    ) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        // Differences far below the values themselves are not blown up to the whole axis.
        let least = (high.abs().max(low.abs()) * 0.04).max(1e-6);
        let margin = ((high - low) * 0.08).max((least - (high - low)) / 2.0).max(least * 0.1);
        Self::linear((low - margin).max(floor), (high + margin).min(ceiling), from, to)
    }

    /// Distance of the ticks of a linear axis.
    pub(super) fn step(&self) -> f64 {
        round_step((self.high - self.low) / 4.0)
    }

    /// Whether `value` lies on the axis.
    pub(super) fn holds(&self, value: f64) -> bool {
        let (low, high) = self.range();
        (low..=high).contains(&value)
    }

    /// Place of `value`, kept inside the axis.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-9).log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// Values of the grid lines: whole decades, or round steps.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = self.low as i32..=self.high as i32;
            return decades.map(|decade| 10f64.powi(decade)).collect();
        }
        let step = self.step();
        let first = (self.low / step).ceil() as i64;
        let last = ((self.high / step) + 1e-9).floor() as i64;
        (first..=last).map(|tick| tick as f64 * step).collect()
    }

    /// Smallest and largest value.
    pub(super) fn range(&self) -> (f64, f64) {
        if self.log { (10f64.powf(self.low), 10f64.powf(self.high)) } else { (self.low, self.high) }
    }
}

/// The ratio axis: the run's ratios with a margin, ticks where there is room.
pub(super) fn ratio_axis(ratios: &[f32], from: f64, to: f64) -> Axis {
    let (first, last) = match ratios {
        [] => (0.0, 1.0),
        [only] => (f64::from(*only) - 0.1, f64::from(*only) + 0.1),
        [first, .., last] => (f64::from(*first), f64::from(*last)),
    };
    Axis::linear(first, last, from, to)
}

/// At most `room` of the ratios, evenly thinned, the last always among them.
pub(super) fn ratio_ticks(ratios: &[f32], room: usize) -> Vec<f32> {
    let step = ratios.len().div_ceil(room.max(1)).max(1);
    ratios.iter().rev().step_by(step).rev().copied().collect()
}

/// 1, 2, 2.5 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-9).log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|candidate| *candidate >= step * 0.999)
        .unwrap_or(step)
}

/// A tick's text in plain units.
pub(super) fn tick_text(value: f64) -> String {
    if value != 0.0 && (value.abs() < 0.001 || value.abs() >= 10_000.0) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A tick's text as a share.
pub(super) fn tick_percent(value: f64) -> String {
    format::percent(value, 0)
}

/// Moves labels as little as possible so that neighbours are `gap` apart and none passes `bottom`.
///
/// Labels that would touch form a block, centred on the mean of where its labels belong.
pub(super) fn spread(places: &[f64], gap: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
    // Blocks of (top, labels); the last may swallow those above it.
    let mut blocks: Vec<(f64, Vec<usize>)> = Vec::new();
    for index in order {
        let mut block = vec![index];
        let mut top = block_top(&block, places, gap, bottom);
        while let Some((above, labels)) = blocks.pop() {
            if above + labels.len() as f64 * gap <= top {
                blocks.push((above, labels));
                break;
            }
            block.splice(0..0, labels);
            top = block_top(&block, places, gap, bottom);
        }
        blocks.push((top, block));
    }
    let mut spread = vec![0.0; places.len()];
    for (top, block) in blocks {
        for (row, index) in block.into_iter().enumerate() {
            spread[index] = top + row as f64 * gap;
        }
    }
    spread
}

fn block_top(block: &[usize], places: &[f64], gap: f64, bottom: f64) -> f64 {
    let height = (block.len() - 1) as f64 * gap;
    let middle = block.iter().map(|index| places[*index]).sum::<f64>() / block.len() as f64;
    (middle - height / 2.0).min(bottom - height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_axis_spans_whole_decades() {
        let axis = Axis::log([0.02, 3.0, 0.0, f64::NAN].into_iter(), 100.0, 0.0);
        assert_eq!(axis.ticks(), [0.01, 0.1, 1.0, 10.0]);
        assert_eq!((axis.place(0.01), axis.place(10.0), axis.place(0.0)), (100.0, 0.0, 100.0));
    }

    #[test]
    fn axes_around_values_have_a_margin_and_ends() {
        let range =
            |values: &[f64]| Axis::around(values.iter().copied(), (0.0, 1.0), (0.0, 1.0)).range();
        let (low, high) = range(&[0.4, 0.6, f64::NAN]);
        assert!(low < 0.4 && low > 0.3 && high > 0.6 && high < 0.7, "{low} {high}");
        assert_eq!(range(&[0.0, 1.0]), (0.0, 1.0));
        let (low, high) = range(&[0.5, 0.5]);
        assert!(low < 0.5 && high > 0.5 && high - low < 0.1, "{low} {high}");
        assert_eq!(range(&[]), (0.0, 1.0));
        assert!(range(&[0.0]).1 > 0.0);
    }

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(Axis::linear(0.0, 100.0, 0.0, 1.0).ticks(), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(ratio_ticks(&[0.1, 0.2, 0.3, 0.4, 0.5], 3), [0.1, 0.3, 0.5]);
    }

    #[test]
    fn spread_keeps_order_and_distance() {
        assert_eq!(spread(&[10.0, 12.0, 50.0], 12.0, 100.0), [5.0, 17.0, 50.0]);
        assert_eq!(
            spread(&[20.0, 20.0, 28.0], 12.0, 100.0),
            [10.666_666_666_666_668, 22.666_666_666_666_668, 34.666_666_666_666_67]
        );
        assert_eq!(spread(&[99.0, 98.0], 12.0, 100.0), [100.0, 88.0]);
    }
}
