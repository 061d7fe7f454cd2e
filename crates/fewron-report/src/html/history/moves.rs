//! What changed at the last run.

use fewron_eval::tasks::lower_is_better;
use maud::{Markup, html};

use super::super::format::count;
use super::super::metrics;
use super::lines::{Figure, minute, short};
use crate::history::HistoryPoint;

/// Most moves that are listed.
const LISTED: usize = 24;

/// A value whose interval does not touch that of the run before.
pub(super) struct Move<'a> {
    pub(super) before: &'a HistoryPoint,
    pub(super) last: &'a HistoryPoint,
    pub(super) better: bool,
}

/// The moves of all lines, what got worse first.
pub(super) fn find<'a>(figures: &[Figure<'a>]) -> Vec<Move<'a>> {
    let lines = figures.iter().flat_map(|figure| &figure.lines);
    let mut moves: Vec<Move<'a>> = lines.filter_map(|line| moved(&line.points)).collect();
    moves.sort_by_key(|one| one.better);
    moves
}

fn moved<'a>(points: &[&'a HistoryPoint]) -> Option<Move<'a>> {
    let &[.., before, last] = points else { return None };
    let (was, is) = ((before.low?, before.high?), (last.low?, last.high?));
    let rose = is.0 > was.1;
    let fell = is.1 < was.0;
    let better = if lower_is_better(&last.metric) { fell } else { rose };
    (rose || fell).then_some(Move { before, last, better })
}

/// The finding as a sentence.
pub(super) fn headline(figures: &[Figure<'_>], moves: &[Move<'_>]) -> String {
    let lines = || figures.iter().flat_map(|figure| &figure.lines);
    if figures.is_empty() {
        return "No run is recorded yet.".to_owned();
    }
    let repeated = lines().filter(|line| line.points.len() > 1).count();
    if repeated == 0 {
        return "Nothing was measured twice yet.".to_owned();
    }
    let of = |better: bool| moves.iter().filter(|one| one.better == better).count() as u64;
    let (worse, better) = (count(of(false)), count(of(true)));
    let all = count(repeated as u64);
    match (of(false), of(true)) {
        (0, 0) => format!("At the last run none of {all} values moved beyond its interval."),
        (_, 0) => {
            format!("At the last run {worse} of {all} values got worse beyond their intervals.")
        }
        (0, _) => {
            format!("At the last run {better} of {all} values got better beyond their intervals.")
        }
        _ => format!(
            "At the last run {worse} of {all} values got worse and {better} better, beyond their intervals."
        ),
    }
}

/// The moves one by one, or nothing without any.
pub(super) fn section(moves: &[Move<'_>]) -> Markup {
    if moves.is_empty() {
        return html! {};
    }
    html! {
        section #moved aria-labelledby="moved-title" {
            h2 #moved-title { "What moved at the last run" }
            div.scroll tabindex="0" role="region" aria-label="Values that moved" {
                table.words {
                    caption.unseen { "Values whose interval does not touch that of the run before" }
                    thead { tr {
                        th scope="col" { "Value" } th.word scope="col" { "Variant" } th scope="col" { "Before" }
                        th scope="col" { "Last" } th.word scope="col" { span.unseen { "Direction" } } th.word scope="col" { "Run" }
                        th.word scope="col" { "Commit" }
                    } }
                    tbody { @for one in moves.iter().take(LISTED) { (row(one)) } }
                }
            }
            @if moves.len() > LISTED { p.note { "The first " (LISTED) " of " (moves.len()) " are shown." } }
        }
    }
}

fn row(one: &Move<'_>) -> Markup {
    let Move { before, last, better } = one;
    let unit = metrics::unit(&last.metric);
    html! {
        tr {
            th scope="row" {
                (last.model) " · " @if !last.task.is_empty() { (last.task) " · " } (metrics::words(&last.metric))
            }
            td.word { (last.variant) }
            td { (unit.text(before.value)) }
            td { (unit.text(last.value)) }
            td.word { span class=(if *better { "right" } else { "wrong" }) { (if *better { "better" } else { "worse" }) } }
            td.word { (last.run) ", " (minute(&last.finished_at)) }
            td.word { (last.commit.as_deref().map_or("–", short)) }
        }
    }
}
