//! Choices that are other ones, as a table.

use fewron_eval::tasks::Outcome;
use maud::{Markup, html};

use super::super::format::{count, number};
use super::super::story::plural;
use super::super::tables::{column, sort_key, word_column};
use super::{LINES, Pair, Sides, fitting, shown};

/// An answer that is another choice.
struct Choice<'a> {
    id: &'a str,
    a: (usize, bool),
    b: (usize, bool),
    /// By how much the second variant prefers its choice to the first one's, in nats.
    margin: f64,
}

/// The table, below a sentence that counts.
pub(super) fn table(pairs: &[Pair<'_>], sides: &Sides<'_>, room: usize) -> Markup {
    let changed: Vec<Choice<'_>> = pairs.iter().filter_map(choice).collect();
    let turned = |from: bool, to: bool| {
        changed.iter().filter(|choice| (choice.a.1, choice.b.1) == (from, to)).count()
    };
    let all = changed.len();
    let summary = format!(
        "{} of {} changed: {} lost, {} gained, {} otherwise.",
        count(all as u64),
        plural(pairs.len(), "answer"),
        turned(true, false),
        turned(false, true),
        turned(false, false) + turned(true, true),
    );
    let lines = fitting(changed, LINES, room, |choice| choice.id.len());
    html! {
        p.note { (summary) }
        @if !lines.is_empty() {
            div.scroll.tall tabindex="0" role="region" aria-label="Answers that changed" {
                table.sortable.words {
                    caption.unseen { "Answers that changed from " (sides.a) " to " (sides.b) }
                    thead { tr {
                        (column("Sample")) (word_column(sides.a)) (word_column(sides.b)) (word_column("Change")) (column("Margin, nats"))
                    } }
                    tbody { @for choice in &lines { (choice_line(choice)) } }
                }
            }
            (shown(lines.len(), all, "first"))
            p.note { "Choices count from 1. The margin is by how much " (sides.b) " prefers its choice: near 0 it was a close call." }
        }
    }
}

fn choice<'a>(pair: &Pair<'a>) -> Option<Choice<'a>> {
    let (
        Outcome::Choice { prediction: a, correct: a_right, .. },
        Outcome::Choice { prediction: b, correct: b_right, logprobs, .. },
    ) = (pair.a, pair.b)
    else {
        return None;
    };
    let at = |choice: &usize| logprobs.get(*choice).copied().unwrap_or(f64::NAN);
    let margin = at(b) - at(a);
    (a != b).then_some(Choice { id: pair.id, a: (*a, *a_right), b: (*b, *b_right), margin })
}

fn choice_line(choice: &Choice<'_>) -> Markup {
    let cell = |(choice, right): (usize, bool)| {
        html! {
            td.word data-v=(choice + 1) {
                (choice + 1) " " span class=(if right { "right" } else { "wrong" }) { (if right { "right" } else { "wrong" }) }
            }
        }
    };
    let change = match (choice.a.1, choice.b.1) {
        (true, false) => "lost",
        (false, true) => "gained",
        (true, true) => "still right",
        (false, false) => "still wrong",
    };
    html! {
        tr {
            th scope="row" data-v=(choice.id) { (choice.id) }
            (cell(choice.a)) (cell(choice.b))
            td.word data-v=(change) { (change) }
            td data-v=[sort_key(choice.margin)] { (number(choice.margin)) }
        }
    }
}
