//! Samples that two variants answer differently, side by side.

mod choices;
mod texts;
mod windows;

use std::collections::HashMap;

use fewron_eval::tasks::{Outcome, SampleRecord, TaskRecord};
use maud::{Markup, html};

use super::format::count;
use super::variants::Style;

/// Most lines of a block's table.
const LINES: usize = 50;
/// Bytes of the tags around a sample.
const TAGS: usize = 700;

/// The names of two variants.
pub(super) struct Sides<'a> {
    pub(super) a: &'a str,
    pub(super) b: &'a str,
    pub(super) style_b: Style,
}

/// A sample by both variants.
struct Pair<'a> {
    id: &'a str,
    a: &'a Outcome,
    b: &'a Outcome,
}

/// The samples of a task that changed from the first variant to the second, in at most about `room` bytes.
pub(super) fn block(
    a: (&TaskRecord, &str),
    b: (&TaskRecord, &str),
    sides: &Sides<'_>,
    room: usize,
) -> Markup {
    let pairs = pairs(a, b);
    let body = match pairs.first().map(|pair| pair.a) {
        Some(Outcome::Choice { .. }) => choices::table(&pairs, sides, room),
        Some(Outcome::Text { .. }) => texts::cards(&pairs, sides, room),
        Some(Outcome::Window { .. }) => windows::table(&pairs, sides, room),
        None => html! { p.note { "The two have no sample in common." } },
    };
    html! {
        div.block {
            h3 { (a.0.task) span.muted { " " (sides.a) " and " (sides.b) } }
            (body)
        }
    }
}

fn pairs<'a>(a: (&'a TaskRecord, &str), b: (&'a TaskRecord, &str)) -> Vec<Pair<'a>> {
    let outcome = |sample: &'a SampleRecord, variant: &str| {
        let record = sample.variants.iter().find(|record| record.variant == variant);
        record.map(|record| &record.outcome)
    };
    let others: HashMap<&str, &SampleRecord> =
        b.0.samples.iter().map(|sample| (sample.id.as_str(), sample)).collect();
    let pair = |sample: &'a SampleRecord| {
        let other = others.get(sample.id.as_str())?;
        Some(Pair { id: &sample.id, a: outcome(sample, a.1)?, b: outcome(other, b.1)? })
    };
    a.0.samples.iter().filter_map(pair).collect()
}

/// As many of `all` as fit.
fn fitting<T>(all: Vec<T>, most: usize, room: usize, bytes: impl Fn(&T) -> usize) -> Vec<T> {
    let mut used = 0;
    let fits = |one: &T| {
        used += bytes(one) + TAGS;
        used <= room
    };
    all.into_iter().take(most).take_while(fits).collect()
}

/// `The first 12 of 31 are shown.`, or nothing where all are.
fn shown(shown: usize, all: usize, order: &str) -> Markup {
    html! {
        @if shown < all {
            p.note { "The " (order) " " (count(shown as u64)) " of " (count(all as u64)) " are shown; the record holds all." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_fit_are_kept() {
        let kept = |room| fitting(vec![100, 200, 300], 10, room, |bytes| *bytes);
        assert_eq!(kept(usize::MAX), [100, 200, 300]);
        assert_eq!(kept(TAGS * 2 + 300), [100, 200]);
        assert!(kept(10).is_empty());
    }
}
