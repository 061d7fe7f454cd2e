//! Values with their intervals, one below the other: as dots, or as bars from zero.

use maud::{Markup, html};

use super::chart::{marker, round, shorten};
use super::metrics::Unit;
use super::scale::Axis;
use super::variants::Style;

/// One line of the figure.
pub(super) struct Row {
    /// Its name.
    pub(super) label: String,
    /// Colour and marker.
    pub(super) style: Style,
    /// Whether the row stands out.
    pub(super) strong: bool,
    /// The value.
    pub(super) value: f64,
    /// Its 95% interval.
    pub(super) interval: Option<(f64, f64)>,
    /// Columns of text at the right.
    pub(super) texts: Vec<String>,
    /// What a pointer or a screen reader learns: lines of name and value below the label.
    pub(super) facts: Vec<(String, String)>,
}

/// How a row is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A dot on its interval.
    Dot,
    /// A bar from zero, with its interval at the end.
    Bar,
}

/// The figure.
pub(super) struct RowPlot<'a> {
    /// What it shows, for those who do not see it.
    pub(super) title: String,
    pub(super) rows: Vec<Row>,
    pub(super) mark: Mark,
    pub(super) unit: Unit,
    /// Smallest and largest value that the axis may show.
    pub(super) ends: (f64, f64),
    /// A value to hold the rows against, drawn as a line.
    pub(super) reference: Option<f64>,
    /// What lies left and right of the reference.
    pub(super) sides: Option<(&'a str, &'a str)>,
    /// Heads of the text columns.
    pub(super) heads: &'a [&'a str],
}

/// Where things stand, in units of one CSS pixel where the figure fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    width: f64,
    /// Room for names at the left; with 0 they stand above their rows.
    labels: f64,
    /// Widths of the text columns that are shown.
    columns: &'static [f64],
}

/// The width of the page.
pub(super) const FULL: Layout =
    Layout { width: 1040.0, labels: 250.0, columns: &[84.0, 84.0, 176.0] };
/// One of two figures side by side.
pub(super) const HALF: Layout = Layout { width: 504.0, labels: 126.0, columns: &[60.0, 68.0] };
/// A phone, names above the rows.
pub(super) const NARROW: Layout = Layout { width: 350.0, labels: 0.0, columns: &[62.0, 66.0] };

const FOOT: f64 = 26.0;

impl Layout {
    fn row_height(&self) -> f64 {
        if self.labels > 0.0 { 30.0 } else { 44.0 }
    }

    fn texts(&self) -> f64 {
        self.columns.iter().sum()
    }

    /// Left and right end of the axis.
    fn axis(&self) -> (f64, f64) {
        (self.labels.max(18.0), self.width - self.texts() - 14.0)
    }
}

impl RowPlot<'_> {
    /// The figure on a wide screen and on a phone.
    pub(super) fn render(&self, wide: Layout) -> Markup {
        html! { (self.draw(wide, "wide")) (self.draw(NARROW, "narrow")) }
    }

    fn draw(&self, layout: Layout, class: &str) -> Markup {
        let axis = self.axis(layout);
        let top = 10.0 + 18.0 * f64::from(u8::from(self.sides.is_some() || !self.heads.is_empty()));
        let bottom = top + layout.row_height() * self.rows.len() as f64;
        let height = bottom + FOOT;
        html! {
            svg class={ "chart told rows " (class) } viewBox=(format!("0 0 {} {height}", layout.width))
                role="img" tabindex="0" aria-label=(self.summary()) {
                g.grid {
                    @for tick in axis.ticks() {
                        @let x = round(axis.place(tick));
                        line x1=(x) x2=(x) y1=(top) y2=(bottom) {}
                        text.tick x=(x) y=(bottom + 18.0) text-anchor="middle" {
                            (self.unit.tick(tick, axis.step()))
                        }
                    }
                }
                @if let Some(reference) = self.reference.filter(|value| axis.holds(*value)) {
                    @let x = round(axis.place(reference));
                    line.reference x1=(x) x2=(x) y1=(top - 4.0) y2=(bottom) {}
                }
                @if let Some((left, right)) = self.sides {
                    @let (from, to) = layout.axis();
                    text.tick x=(from) y=(top - 11.0) { "← " (left) }
                    text.tick x=(to) y=(top - 11.0) text-anchor="end" { (right) " →" }
                }
                (self.column_heads(layout, top))
                @for (at, row) in self.rows.iter().enumerate() {
                    (self.row(row, layout, axis, top + at as f64 * layout.row_height()))
                }
            }
        }
    }

    fn axis(&self, layout: Layout) -> Axis {
        let span = |row: &Row| {
            let (low, high) = row.interval.unwrap_or((row.value, row.value));
            [low, row.value, high]
        };
        let zero = (self.mark == Mark::Bar).then_some(0.0);
        let values = self.rows.iter().flat_map(span).chain(self.reference).chain(zero);
        Axis::around(values, self.ends, layout.axis())
    }

    /// Heads of the columns that some row has a text in.
    fn column_heads(&self, layout: Layout, top: f64) -> Markup {
        let used = |at: usize| {
            self.rows.iter().any(|row| row.texts.get(at).is_some_and(|text| !text.is_empty()))
        };
        html! {
            @for (at, (head, x)) in self.heads.iter().zip(column_edges(layout)).enumerate() {
                @if used(at) { text.tick x=(x) y=(top - 11.0) text-anchor="end" { (head) } }
            }
        }
    }

    fn row(&self, row: &Row, layout: Layout, axis: Axis, top: f64) -> Markup {
        let above = layout.labels == 0.0;
        let height = layout.row_height();
        let y = if above { top + height - 13.0 } else { top + height / 2.0 };
        let room = if above { layout.width } else { layout.labels - 16.0 };
        let (label_x, label_y) = if above { (0.0, top + 15.0) } else { (0.0, y + 4.0) };
        html! {
            g class={ "row " (row.style.class()) @if row.strong { " strong" } }
                data-tip=(row.tip()) data-value=(row.value) {
                rect.hit x="0" y=(round(top)) width=(layout.width) height=(height) {}
                text.name x=(label_x) y=(round(label_y)) { (shorten(&row.label, room)) }
                (self.mark(row, axis, y))
                @for (text, x) in row.texts.iter().zip(column_edges(layout)) {
                    text.value x=(x) y=(round(y + 4.0)) text-anchor="end" { (text) }
                }
            }
        }
    }

    fn mark(&self, row: &Row, axis: Axis, y: f64) -> Markup {
        let place = |value: f64| round(axis.place(value));
        html! {
            @if self.mark == Mark::Bar {
                @let x = place(0.0);
                rect.beam x=(x) y=(y - 7.0) width=(round(place(row.value) - x)) height="14" {}
            }
            @if let Some((low, high)) = row.interval {
                line.reach x1=(place(low)) x2=(place(high)) y1=(y) y2=(y) {}
                @for (value, end) in [(low, "◂"), (high, "▸")] {
                    @if !axis.holds(value) {
                        text.beyond x=(place(value)) y=(y + 4.0) text-anchor="middle" { (end) }
                    }
                }
            }
            @if self.mark == Mark::Dot && axis.holds(row.value) {
                (marker(row.style.marker(), axis.place(row.value), y))
            }
        }
    }

    /// What a screen reader says in place of the figure.
    fn summary(&self) -> String {
        let mut text = format!("{}.", self.title);
        for row in &self.rows {
            let facts: Vec<String> =
                row.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
            text.push_str(&format!(" {}: {}.", row.label, facts.join(", ")));
        }
        text
    }
}

impl Row {
    fn tip(&self) -> String {
        let lines = self.facts.iter().map(|(name, value)| format!("\n{name}\t{value}"));
        one_line(&self.label) + &lines.collect::<String>()
    }
}

/// A name without what parts the lines of a tooltip.
pub(super) fn one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
}

/// Right edges of the text columns.
fn column_edges(layout: Layout) -> impl Iterator<Item = f64> {
    let mut edge = layout.width - layout.texts();
    layout.columns.iter().map(move |width| {
        edge += width;
        edge
    })
}
