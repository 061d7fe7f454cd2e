//! Windows of a text, those that moved most first.

use fewron_eval::tasks::Outcome;
use maud::{Markup, html};

use super::super::format::{number, percent};
use super::super::tables::{column, sort_key};
use super::{LINES, Pair, Sides, fitting, shown};

/// How two windows differ.
struct Window<'a> {
    id: &'a str,
    tokens: u64,
    /// Nats per token.
    a: f64,
    b: f64,
    kl: Option<f64>,
    agree: Option<f64>,
}

/// The table.
pub(super) fn table(pairs: &[Pair<'_>], sides: &Sides<'_>, room: usize) -> Markup {
    let mut all: Vec<Window<'_>> = pairs.iter().filter_map(window).collect();
    let change = |window: &Window<'_>| (window.b - window.a).abs();
    all.sort_by(|x, y| change(y).total_cmp(&change(x)));
    let total = all.len();
    let lines = fitting(all, LINES, room, |window| window.id.len());
    let optional = |value: Option<f64>, text: fn(f64) -> String| {
        html! {
            td data-v=[value.and_then(sort_key)] { (value.map_or_else(|| "–".to_owned(), text)) }
        }
    };
    html! {
        p.note { "Windows by how far the mean negative log-likelihood of a token moved." }
        div.scroll.tall tabindex="0" role="region" aria-label="Windows that moved most" {
            table.sortable {
                caption.unseen { "Windows that moved most from " (sides.a) " to " (sides.b) }
                thead { tr {
                    (column("Window")) (column("Tokens")) (column(&format!("{}, nats/token", sides.a)))
                    (column(&format!("{}, nats/token", sides.b))) (column("Change"))
                    (column("KL/token")) (column("Agreement"))
                } }
                tbody { @for window in &lines { tr {
                    th scope="row" data-v=(window.id) { (window.id) }
                    td data-v=(window.tokens) { (window.tokens) }
                    td data-v=[sort_key(window.a)] { (number(window.a)) }
                    td data-v=[sort_key(window.b)] { (number(window.b)) }
                    td data-v=[sort_key(window.b - window.a)] { (signed(window.b - window.a)) }
                    (optional(window.kl, number))
                    (optional(window.agree, |share| percent(share, 1)))
                } } }
            }
        }
        (shown(lines.len(), total, "first"))
    }
}

fn window<'a>(pair: &Pair<'a>) -> Option<Window<'a>> {
    let (Outcome::Window { nll: a, tokens, .. }, Outcome::Window { nll: b, kl, agree, .. }) =
        (pair.a, pair.b)
    else {
        return None;
    };
    let mean = |sum: f64| sum / *tokens as f64;
    Some(Window {
        id: pair.id,
        tokens: *tokens,
        a: mean(*a),
        b: mean(*b),
        kl: kl.map(mean),
        agree: agree.map(|agree| mean(agree as f64)),
    })
}

fn signed(value: f64) -> String {
    let text = number(value.abs());
    if value < 0.0 { format!("−{text}") } else { format!("+{text}") }
}
