//! Values by layer as lines, in inline SVG.

use maud::{Markup, html};
use serde::Serialize;

use super::super::chart::{path, round, shorten};
use super::super::format;
use super::super::scale::{Axis, spread, tick_percent};

/// A value of each layer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) label: String,
    pub(super) slot: usize,
    /// By layer; `None` where there is no value.
    pub(super) values: Vec<Option<f64>>,
}

/// A chart of shares by layer.
pub(super) struct Lines<'a> {
    /// Key of its lines in the page's data.
    pub(super) id: &'a str,
    /// What the chart shows, for those who do not see it.
    pub(super) title: &'a str,
    pub(super) lines: &'a [Line],
}

#[derive(Clone, Copy)]
struct Frame {
    width: f64,
    height: f64,
    labels: f64,
    ticks: usize,
}

const WIDE: Frame = Frame { width: 1040.0, height: 340.0, labels: 150.0, ticks: 32 };
const NARROW: Frame = Frame { width: 350.0, height: 280.0, labels: 96.0, ticks: 6 };
const HALF: Frame = Frame { width: 504.0, height: 300.0, labels: 110.0, ticks: 10 };
const LEFT: f64 = 48.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 42.0;

impl Lines<'_> {
    /// Over the whole width.
    pub(super) fn wide(&self) -> Markup {
        html! { (self.chart(WIDE, "wide")) (self.chart(NARROW, "narrow")) }
    }

    /// One of two beside each other.
    pub(super) fn half(&self) -> Markup {
        html! { (self.chart(HALF, "wide")) (self.chart(NARROW, "narrow")) }
    }

    fn chart(&self, frame: Frame, class: &str) -> Markup {
        let Frame { width, height, labels, .. } = frame;
        let layers = self.lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
        let highest = self.values().fold(0.0, f64::max);
        let top = if highest > 0.0 { (highest * 1.08).min(highest.max(1.0)) } else { 0.1 };
        let y = Axis::linear(0.0, top, height - BOTTOM, TOP);
        let last = layers.saturating_sub(1).max(1) as f64;
        let x = Axis::linear(0.0, last, LEFT + 10.0, width - labels - 12.0);
        html! {
            svg class={ "chart " (class) } viewBox=(format!("0 0 {width} {height}")) role="img"
                tabindex="0" aria-label=(self.summary()) data-lines=(self.id)
                data-x=(format!("{} {}", x.place(0.0), x.place(last))) {
                title { (self.title) }
                (grid(frame, &y, &x, layers))
                line.cross x1="0" x2="0" y1=(TOP) y2=(height - BOTTOM) visibility="hidden" {}
                @for line in self.lines { (one_line(line, &x, &y)) }
                (names(self.lines, frame, &x, &y))
            }
        }
    }

    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.lines.iter().flat_map(|line| &line.values).flatten().copied()
    }

    /// Title, and each line's smallest and largest value with their layers.
    fn summary(&self) -> String {
        let mut text = format!("{}.", self.title);
        for line in self.lines {
            let values = || line.values.iter().enumerate().filter_map(|(l, v)| Some((l, (*v)?)));
            let low = values().min_by(|a, b| a.1.total_cmp(&b.1));
            let high = values().max_by(|a, b| a.1.total_cmp(&b.1));
            if let (Some((low_at, low)), Some((high_at, high))) = (low, high) {
                let (low, high) = (format::percent(low, 1), format::percent(high, 1));
                text.push_str(&format!(
                    " {}: from {low} in layer {low_at} to {high} in layer {high_at}.",
                    line.label
                ));
            }
        }
        text
    }
}

fn grid(frame: Frame, y: &Axis, x: &Axis, layers: usize) -> Markup {
    let Frame { width, height, labels, ticks } = frame;
    let right = width - labels;
    let every = layers.div_ceil(ticks).max(1);
    html! {
        g.grid {
            @for tick in y.ticks() {
                @let at = round(y.place(tick));
                line x1=(LEFT) x2=(right) y1=(at) y2=(at) {}
                text.tick x=(LEFT - 8.0) y=(at + 4.0) text-anchor="end" { (tick_label(tick)) }
            }
            @for layer in (0..layers).step_by(every) {
                @let at = round(x.place(layer as f64));
                line.stub x1=(at) x2=(at) y1=(height - BOTTOM) y2=(height - BOTTOM + 5.0) {}
                text.tick x=(at) y=(height - BOTTOM + 19.0) text-anchor="middle" { (layer) }
            }
            text.axis x=((LEFT + right) / 2.0) y=(height - 5.0) text-anchor="middle" { "layer" }
        }
    }
}

/// Whole percents where they tell ticks apart.
fn tick_label(tick: f64) -> String {
    let whole = (tick * 100.0 - (tick * 100.0).round()).abs() < 1e-6;
    if whole { tick_percent(tick) } else { format!("{:.1}%", tick * 100.0) }
}

/// Runs of neighbouring layers with values.
fn runs(line: &Line) -> Vec<Vec<(usize, f64)>> {
    let mut runs: Vec<Vec<(usize, f64)>> = vec![Vec::new()];
    for (layer, value) in line.values.iter().enumerate() {
        match (value, runs.last_mut()) {
            (Some(value), Some(run)) => run.push((layer, *value)),
            _ => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn one_line(line: &Line, x: &Axis, y: &Axis) -> Markup {
    let place = |(layer, value): &(usize, f64)| (x.place(*layer as f64), y.place(*value));
    html! {
        g class={ "series s" (line.slot) } data-series=(line.label) {
            @for run in runs(line) {
                @let points: Vec<(f64, f64)> = run.iter().map(place).collect();
                polyline.line points=(path(&points)) {}
                @if let [(cx, cy)] = points[..] { circle.mark cx=(round(cx)) cy=(round(cy)) r="3" {} }
            }
        }
    }
}

/// Names behind the lines' right ends, pushed apart.
fn names(lines: &[Line], frame: Frame, x: &Axis, y: &Axis) -> Markup {
    let end = |line: &Line| {
        let (layer, value) =
            line.values.iter().enumerate().rev().find_map(|(l, v)| Some((l, (*v)?)))?;
        Some((x.place(layer as f64), y.place(value)))
    };
    let ends: Vec<(&Line, (f64, f64))> =
        lines.iter().filter_map(|line| Some((line, end(line)?))).collect();
    let heights: Vec<f64> = ends.iter().map(|(_, (_, y))| *y).collect();
    let left = frame.width - frame.labels + 6.0;
    let places = spread(&heights, 15.0, frame.height - BOTTOM + 4.0);
    html! {
        @for ((line, (end_x, end_y)), at) in ends.iter().zip(places) {
            g class={ "label s" (line.slot) } {
                polyline.leader points=(path(&[(end_x + 4.0, *end_y), (left - 3.0, at)])) {}
                text x=(left) y=(round(at + 4.0)) { (shorten(&line.label, frame.labels)) }
            }
        }
    }
}
