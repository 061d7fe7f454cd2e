//! Small line charts: values with intervals over something, one line for each of several names.

use maud::{Markup, html};

use super::chart::{marker, path, round, shorten};
use super::metrics::Unit;
use super::rows::one_line;
use super::scale::{Axis, spread};
use super::variants::Style;

/// A value on a line.
pub(super) struct Dot {
    /// Where it stands, 0..1 from left to right.
    pub(super) x: f64,
    /// Where it stands by the other choice of the axis, where there is one.
    pub(super) other_x: Option<f64>,
    /// The value.
    pub(super) value: f64,
    /// Its 95% interval.
    pub(super) interval: Option<(f64, f64)>,
    /// Title of what a pointer learns.
    pub(super) title: String,
    /// Lines of name and value below it.
    pub(super) facts: Vec<(String, String)>,
}

/// Values that belong together, from left to right.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) style: Style,
    pub(super) dots: Vec<Dot>,
}

/// A text below the axis, at 0..1.
pub(super) type Tick = (f64, String);

/// The chart.
pub(super) struct LinePlot {
    /// What it shows, for those who do not see it.
    pub(super) title: String,
    pub(super) lines: Vec<Line>,
    pub(super) unit: Unit,
    /// Smallest and largest value that the axis may show.
    pub(super) ends: (f64, f64),
    /// A value to hold the lines against.
    pub(super) reference: Option<f64>,
    /// Ticks below the axis, and by its other choice.
    pub(super) ticks: Vec<Tick>,
    pub(super) other_ticks: Vec<Tick>,
    /// What the axis is.
    pub(super) across: &'static str,
}

/// Size of a chart in its own units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
    /// Room for names at the right end of the lines; none with 0.
    pub(super) labels: f64,
}

/// The width of the page.
pub(super) const WIDE: Size = Size { width: 1040.0, height: 400.0, labels: 190.0 };
/// The same on a phone.
pub(super) const NARROW: Size = Size { width: 350.0, height: 310.0, labels: 0.0 };
/// One of many, on any screen.
pub(super) const SMALL: Size = Size { width: 336.0, height: 216.0, labels: 0.0 };

const LEFT: f64 = 48.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;

impl LinePlot {
    /// The SVG; `class` says where the style sheet shows it.
    pub(super) fn render(&self, size: Size, class: &str) -> Markup {
        let x = Axis::linear(0.0, 1.0, LEFT + 10.0, size.width - size.labels - RIGHT);
        let bottom = size.height - if self.across.is_empty() { 26.0 } else { 44.0 };
        let y = self.axis(bottom);
        html! {
            svg class={ "chart told " (class) } viewBox=(format!("0 0 {} {}", size.width, size.height))
                role="img" tabindex="0" aria-label=(self.summary()) {
                (self.grid(size, x, y, bottom))
                @for line in self.lines.iter().rev() { (one_line_of(line, x, y)) }
                @if size.labels > 0.0 { (self.labels(size, y, bottom)) }
            }
        }
    }

    fn axis(&self, bottom: f64) -> Axis {
        let dots = self.lines.iter().flat_map(|line| &line.dots);
        let span = |dot: &Dot| {
            let (low, high) = dot.interval.unwrap_or((dot.value, dot.value));
            [low, dot.value, high]
        };
        Axis::around(dots.flat_map(span).chain(self.reference), self.ends, (bottom, TOP))
    }

    fn grid(&self, size: Size, x: Axis, y: Axis, bottom: f64) -> Markup {
        let right = size.width - size.labels - RIGHT + 8.0;
        html! {
            g.grid {
                @for tick in y.ticks() {
                    @let at = round(y.place(tick));
                    line x1=(LEFT) x2=(right) y1=(at) y2=(at) {}
                    text.tick x=(LEFT - 8.0) y=(at + 4.0) text-anchor="end" { (self.unit.tick(tick, y.step())) }
                }
                @if let Some(reference) = self.reference {
                    @let at = round(y.place(reference));
                    line.target x1=(LEFT) x2=(right) y1=(at) y2=(at) {}
                }
                @if self.other_ticks.is_empty() { (ticks(&self.ticks, x, bottom)) }
                @else {
                    g data-panel="across" data-value="order" { (ticks(&self.ticks, x, bottom)) }
                    g data-panel="across" data-value="time" visibility="hidden" { (ticks(&self.other_ticks, x, bottom)) }
                }
                text.axis x=((LEFT + right) / 2.0) y=(size.height - 5.0) text-anchor="middle" { (self.across) }
            }
        }
    }

    /// Names at the right end of the lines, pushed apart.
    fn labels(&self, size: Size, y: Axis, bottom: f64) -> Markup {
        let ends: Vec<(&Line, f64)> = self
            .lines
            .iter()
            .filter_map(|line| Some((line, y.place(line.dots.last()?.value))))
            .collect();
        let heights: Vec<f64> = ends.iter().map(|(_, y)| *y).collect();
        let x = size.width - size.labels + 6.0;
        html! {
            @for ((line, end), at) in ends.iter().zip(spread(&heights, 16.0, bottom)) {
                g class={ "label " (line.style.class()) } data-series=(line.label) {
                    polyline.leader points=(path(&[(x - RIGHT + 2.0, *end), (x - 3.0, at)])) {}
                    text x=(x) y=(round(at + 4.0)) { (shorten(&line.label, size.labels - 6.0)) }
                }
            }
        }
    }

    /// What a screen reader says in place of the chart.
    fn summary(&self) -> String {
        let mut text = format!("{}.", self.title);
        for line in &self.lines {
            let (Some(first), Some(last)) = (line.dots.first(), line.dots.last()) else { continue };
            text.push_str(&format!(" {}: {}", line.label, self.unit.text(first.value)));
            if line.dots.len() > 1 {
                text.push_str(&format!(
                    " at {}, {} at {}, {} values",
                    first.title,
                    self.unit.text(last.value),
                    last.title,
                    line.dots.len()
                ));
            }
            text.push('.');
        }
        text
    }
}

fn ticks(ticks: &[Tick], x: Axis, bottom: f64) -> Markup {
    html! {
        @for (at, text) in ticks {
            // Long texts at the ends stay inside the chart.
            @let long = text.len() > 5 && ticks.len() > 1;
            @let anchor = if long && *at < 0.01 { "start" } else if long && *at > 0.99 { "end" } else { "middle" };
            text.tick x=(round(x.place(*at))) y=(bottom + 19.0) text-anchor=(anchor) { (text) }
        }
    }
}

/// Dots are groups that are moved into place, so that a script can move them along the axis.
fn one_line_of(line: &Line, x: Axis, y: Axis) -> Markup {
    let places: Vec<(f64, f64)> =
        line.dots.iter().map(|dot| (x.place(dot.x), y.place(dot.value))).collect();
    html! {
        g class={ "series " (line.style.class()) } data-series=(line.label) {
            @if places.len() > 1 { polyline.line points=(path(&places)) {} }
            @for (dot, (left, top)) in line.dots.iter().zip(&places) {
                g.dot transform=(format!("translate({} {})", round(*left), round(*top)))
                    data-tip=(tip(line, dot)) data-value=(dot.value)
                    data-across=[dot.other_x.map(|other| format!("{} {}", round(*left), round(x.place(other))))] {
                    @if let Some((low, high)) = dot.interval {
                        line.reach x1="0" x2="0" y1=(round(y.place(low) - top)) y2=(round(y.place(high) - top)) {}
                    }
                    (marker(line.style.marker(), 0.0, 0.0))
                }
            }
        }
    }
}

fn tip(line: &Line, dot: &Dot) -> String {
    let facts = dot.facts.iter().map(|(name, value)| format!("\n{name}\t{value}"));
    format!("{} · {}", one_line(&line.label), one_line(&dot.title)) + &facts.collect::<String>()
}
