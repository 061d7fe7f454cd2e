//! A figure: a question as its heading, the picture, its numbers as a table and as a file.

use maud::{Markup, html};
use serde::Serialize;
use serde_json::Value;

/// The numbers of a figure: shown as a table, saved as CSV by the page's script.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Data {
    #[serde(skip)]
    pub(super) id: &'static str,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Value>>,
}

impl Data {
    pub(super) fn new(id: &'static str, columns: &[&str]) -> Self {
        Self { id, columns: columns.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// Adds a row of texts and numbers.
    pub(super) fn push(&mut self, row: Vec<Value>) {
        self.rows.push(row);
    }

    fn table(&self, question: &str) -> Markup {
        html! {
            details.numbers {
                summary { "The numbers as a table" }
                div.scroll.tall tabindex="0" role="region" aria-label="The figure’s numbers" {
                    table {
                        caption.unseen { (question) }
                        thead { tr { @for name in &self.columns { th scope="col" { (name) } } } }
                        tbody { @for row in &self.rows { tr {
                            @for cell in row.iter().take(1) { th scope="row" { (shown(cell)) } }
                            @for cell in row.iter().skip(1) { td { (shown(cell)) } }
                        } } }
                    }
                }
            }
        }
    }
}

fn shown(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().map_or_else(String::new, |n| match n.fract() {
            0.0 => format!("{n}"),
            _ => format!("{n:.4}"),
        }),
        _ => "–".to_owned(),
    }
}

/// A number for [`Data`], four decimals; `null` where there is none.
pub(super) fn cell(value: Option<f64>) -> Value {
    value.map_or(Value::Null, |value| super::super::data::round(value).into())
}

/// A figure around a picture. `table` also shows the numbers on the page.
pub(super) fn figure(
    question: &str,
    data: &Data,
    table: bool,
    picture: &Markup,
    note: &str,
) -> Markup {
    html! {
        figure.plot id={ "figure-" (data.id) } {
            div.controls {
                h3 { (question) }
                (download(data.id, question))
            }
            (picture)
            p.note { (note) }
            @if table { (data.table(question)) }
        }
    }
}

/// The button that saves a figure's numbers.
pub(super) fn download(id: &str, question: &str) -> Markup {
    html! {
        button.csv type="button" data-csv=(id) aria-label={ "CSV: " (question) } { "CSV" }
    }
}
