//! Accuracy–sparsity curves as inline SVG: bands, lines, markers, direct labels.

use fewron_eval::record::{Interval, Point};
use maud::{Markup, html};

use super::format;
use super::scale::{Axis, ratio_axis, ratio_ticks, spread, tick_percent, tick_text};
use super::series::{Series, measured, ratios};
use super::story::{Finding, TARGET};

/// What a chart shows on its vertical axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Top-1 agreement, 0..1.
    Agreement,
    /// BLEU against the dense text, 0..100.
    Bleu,
    /// KL in nats, linear axis.
    Kl,
    /// KL in nats, log axis.
    KlLog,
}

impl Quantity {
    /// Key in the page's data.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Agreement => "agreement",
            Self::Bleu => "bleu",
            Self::Kl | Self::KlLog => "kl",
        }
    }

    /// Its value at a point.
    pub(super) fn of(self, point: &Point) -> Interval {
        match self {
            Self::Agreement => point.agreement,
            Self::Bleu => point.bleu,
            Self::Kl | Self::KlLog => point.kl,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Agreement => "Agreement with the dense model’s tokens by nominal sparsity",
            Self::Bleu => "BLEU of the sparse text against the dense text by nominal sparsity",
            Self::Kl => "KL divergence from the dense model by nominal sparsity",
            Self::KlLog => "KL divergence from the dense model by nominal sparsity, log axis",
        }
    }

    fn tick(self, value: f64) -> String {
        if self == Self::Agreement { tick_percent(value) } else { tick_text(value) }
    }

    /// A value with its unit, for the summary.
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Self::Agreement => format::percent(value, 1),
            Self::Bleu => format::one_decimal(value),
            Self::Kl | Self::KlLog => format!("{} nats", format::number(value)),
        }
    }
}

/// Size of a chart in its own units; drawn at one unit per CSS pixel where it fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    width: f64,
    height: f64,
    /// Room for direct labels at the right.
    labels: f64,
    x_ticks: usize,
}

/// The large chart on a wide screen.
pub(super) const WIDE: Frame = Frame { width: 1040.0, height: 440.0, labels: 112.0, x_ticks: 12 };
/// The same, with room for longer names.
pub(super) const LABELLED: Frame = Frame { labels: 160.0, ..WIDE };
/// One of two charts side by side.
pub(super) const HALF: Frame = Frame { width: 504.0, height: 330.0, labels: 96.0, x_ticks: 6 };
/// Any chart on a phone.
pub(super) const NARROW: Frame = Frame { width: 350.0, height: 310.0, labels: 88.0, x_ticks: 5 };

const LEFT: f64 = 44.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 42.0;

/// One chart with its axes placed.
pub(super) struct Chart<'a> {
    series: &'a [Series<'a>],
    quantity: Quantity,
    frame: Frame,
    x: Axis,
    y: Axis,
}

impl<'a> Chart<'a> {
    /// Places the axes.
    pub(super) fn new(series: &'a [Series<'a>], quantity: Quantity, frame: Frame) -> Self {
        let (bottom, top) = (frame.height - BOTTOM, TOP);
        let values = || series.iter().flat_map(|one| &one.points).map(|p| quantity.of(p));
        let y = match quantity {
            Quantity::Agreement => Axis::linear(0.0, 1.0, bottom, top),
            Quantity::Bleu => Axis::linear(0.0, 100.0, bottom, top),
            Quantity::Kl => {
                let high = values().map(|v| v.mean).filter(|v| v.is_finite()).fold(0.0, f64::max);
                Axis::linear(0.0, if high > 0.0 { high * 1.05 } else { 1.0 }, bottom, top)
            }
            Quantity::KlLog => Axis::log(values().map(|v| v.mean), bottom, top),
        };
        let x = ratio_axis(&ratios(series), LEFT + 10.0, frame.width - frame.labels - 12.0);
        Self { series, quantity, frame, x, y }
    }

    /// The SVG; `class` says where the style sheet shows it.
    pub(super) fn render(&self, class: &str, finding: Option<&Finding<'_>>) -> Markup {
        let Frame { width, height, .. } = self.frame;
        let (first, last) = self.x.range();
        html! {
            svg class={ "chart " (class) } viewBox=(format!("0 0 {width} {height}")) role="img"
                tabindex="0" aria-label=(self.summary()) data-quantity=(self.quantity.key())
                data-x=(format!("{first} {last} {} {}", self.x.place(first), self.x.place(last))) {
                title { (self.quantity.title()) }
                (self.grid())
                @if self.quantity == Quantity::Agreement { (self.target()) }
                line.cross x1="0" x2="0" y1=(TOP) y2=(height - BOTTOM) visibility="hidden" {}
                @for (index, one) in self.series.iter().enumerate().rev() {
                    (self.one_series(one, finding.is_some_and(|finding| finding.series == index)))
                }
                (self.labels())
                @if let Some(finding) = finding { (self.callout(finding)) }
            }
        }
    }

    fn grid(&self) -> Markup {
        let Frame { width, height, labels, x_ticks } = self.frame;
        let right = width - labels;
        html! {
            g.grid {
                @for tick in self.y.ticks() {
                    @let y = round(self.y.place(tick));
                    line x1=(LEFT) x2=(right) y1=(y) y2=(y) {}
                    text.tick x=(LEFT - 8.0) y=(y + 4.0) text-anchor="end" { (self.quantity.tick(tick)) }
                }
                @for ratio in ratio_ticks(&ratios(self.series), x_ticks) {
                    @let x = round(self.x.place(f64::from(ratio)));
                    line.stub x1=(x) x2=(x) y1=(height - BOTTOM) y2=(height - BOTTOM + 5.0) {}
                    text.tick x=(x) y=(height - BOTTOM + 19.0) text-anchor="middle" { (format::ratio(ratio)) }
                }
                text.axis x=((LEFT + right) / 2.0) y=(height - 5.0) text-anchor="middle" {
                    "nominal sparsity"
                }
            }
        }
    }

    fn target(&self) -> Markup {
        let y = round(self.y.place(TARGET));
        let right = self.frame.width - self.frame.labels;
        html! {
            line.target x1=(LEFT) x2=(right) y1=(y) y2=(y) {}
            text.tick.goal x=(LEFT - 8.0) y=(y + 5.0) text-anchor="end" { (format::ratio(TARGET as f32)) }
        }
    }

    fn one_series(&self, one: &Series<'_>, hero: bool) -> Markup {
        let points: Vec<(f64, f64)> = self.places(one, |interval| interval.mean);
        html! {
            g class={ "series s" (one.slot) @if hero { " hero" } } data-series=(one.label) {
                @if points.len() > 1 {
                    polygon.band points=(self.band(one)) {}
                    polyline.line points=(path(&points)) {}
                }
                @if let [(x, _)] = points[..] { (self.whisker(one, x)) }
                @for (x, y) in &points { (marker(one.slot, *x, *y)) }
            }
        }
    }

    fn places(&self, one: &Series<'_>, value: fn(Interval) -> f64) -> Vec<(f64, f64)> {
        one.points
            .iter()
            .map(|point| (point.ratio, self.quantity.of(point)))
            .filter(|(_, interval)| measured(interval) && value(*interval).is_finite())
            .map(|(ratio, interval)| {
                (self.x.place(f64::from(ratio)), self.y.place(value(interval)))
            })
            .collect()
    }

    fn band(&self, one: &Series<'_>) -> String {
        let mut outline = self.places(one, |interval| interval.high);
        outline.extend(self.places(one, |interval| interval.low).into_iter().rev());
        path(&outline)
    }

    fn whisker(&self, one: &Series<'_>, x: f64) -> Markup {
        let ends = (self.places(one, |i| i.low), self.places(one, |i| i.high));
        html! {
            @if let (Some((_, low)), Some((_, high))) = (ends.0.first(), ends.1.first()) {
                line.line x1=(round(x)) x2=(round(x)) y1=(round(*low)) y2=(round(*high)) {}
            }
        }
    }

    /// Names at the right end of the lines, pushed apart.
    fn labels(&self) -> Markup {
        let ends: Vec<(&Series<'_>, (f64, f64))> = self
            .series
            .iter()
            .filter_map(|one| Some((one, *self.places(one, |i| i.mean).last()?)))
            .collect();
        let heights: Vec<f64> = ends.iter().map(|(_, (_, y))| *y).collect();
        let x = self.frame.width - self.frame.labels + 8.0;
        let spread = spread(&heights, 15.0, self.frame.height - BOTTOM + 4.0);
        html! {
            @for ((one, (end_x, end_y)), y) in ends.iter().zip(spread) {
                g class={ "label s" (one.slot) } data-series=(one.label) {
                    polyline.leader points=(path(&[(end_x + 6.0, *end_y), (x - 3.0, y)])) {}
                    text x=(x) y=(round(y + 4.0)) { (shorten(&one.label, self.frame.labels - 8.0)) }
                }
            }
        }
    }

    /// A ring around the point of the headline.
    fn callout(&self, finding: &Finding<'_>) -> Markup {
        let value = self.quantity.of(finding.hero).mean;
        html! {
            @if value.is_finite() {
                @let x = round(self.x.place(f64::from(finding.hero.ratio)));
                @let y = round(self.y.place(value));
                circle.ring cx=(x) cy=(y) r="9" {}
            }
        }
    }

    /// What a screen reader says in place of the chart.
    fn summary(&self) -> String {
        let mut text = format!("{}.", self.quantity.title());
        for one in self.series {
            let ends = (one.points.first(), one.points.last());
            if let (Some(first), Some(last)) = ends {
                text.push_str(&format!(
                    " {}: {} at {}, {} at {}.",
                    one.label,
                    self.quantity.text(self.quantity.of(first).mean),
                    format::ratio(first.ratio),
                    self.quantity.text(self.quantity.of(last).mean),
                    format::ratio(last.ratio),
                ));
            }
        }
        text
    }
}

/// The marker of a style, so that colour is never the only difference.
pub(super) fn marker(slot: usize, x: f64, y: f64) -> Markup {
    let (x, y) = (round(x), round(y));
    let at = |steps: &str| format!("M{x} {y}{steps}z");
    html! {
        @match slot {
            0 => { circle.mark cx=(x) cy=(y) r="4" {} }
            1 => { rect.mark x=(round(x - 3.5)) y=(round(y - 3.5)) width="7" height="7" {} }
            2 => { path.mark d=(at("m0 -4.6l4.4 8h-8.8")) {} }
            3 => { path.mark d=(at("m0 4.6l4.4 -8h-8.8")) {} }
            4 => { path.mark d=(at("m0 -5l5 5l-5 5l-5 -5")) {} }
            5 => { circle.mark.open cx=(x) cy=(y) r="3.6" {} }
            6 => { rect.mark.open x=(round(x - 3.2)) y=(round(y - 3.2)) width="6.4" height="6.4" {} }
            7 => { path.mark.open d=(at("m0 -4.6l4.4 8h-8.8")) {} }
            _ => { path.mark.open d=(at("m0 -5l5 5l-5 5l-5 -5")) {} }
        }
    }
}

/// Two decimals: a tenth of a pixel is below what a screen shows.
pub(super) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Points as SVG writes them.
pub(super) fn path(points: &[(f64, f64)]) -> String {
    let texts: Vec<String> =
        points.iter().map(|(x, y)| format!("{},{}", round(*x), round(*y))).collect();
    texts.join(" ")
}

/// Cuts a label that would leave `room` units; the legend has it in full.
pub(super) fn shorten(label: &str, room: f64) -> String {
    if label.chars().map(width).sum::<f64>() <= room {
        return label.to_owned();
    }
    let mut left = room - width('…');
    let fits = |letter: &char| {
        left -= width(*letter);
        left >= 0.0
    };
    label.chars().take_while(fits).chain(['…']).collect()
}

/// About how wide a letter of a label is: of bold Arial at 13 units.
fn width(letter: char) -> f64 {
    match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | '|' | ' ' | '·' => 4.0,
        'f' | 'r' | 't' | '(' | ')' | '-' => 5.0,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 12.5,
        'A'..='Z' => 9.5,
        _ => 7.7,
    }
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn labels_are_cut_to_their_room() {
        assert_eq!(shorten("gate+comp64", 88.0), "gate+comp64");
        assert_eq!(shorten("gate+comp64", 80.0), "gate+com…");
        assert_eq!(shorten("magnitude", 74.0), "magnitude");
        assert_eq!(shorten("x", 1.0), "…");
    }
}
