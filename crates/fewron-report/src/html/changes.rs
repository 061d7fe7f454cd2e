//! Samples that two variants answer differently, side by side.

use std::collections::HashMap;

use fewron_eval::tasks::{Outcome, SampleRecord, TaskRecord};
use maud::{Markup, html};

use super::answers::part;
use super::format::{count, number, percent};
use super::metrics::{self, signed_percent};
use super::story::plural;
use super::tables::{column, sort_key, word_column};
use super::variants::Style;

/// Most texts that a block shows.
const TEXTS: usize = 12;
/// Most lines of a block's table.
const LINES: usize = 50;
/// Characters of a text that are shown before and after the place where it parts.
const BEFORE: usize = 240;
const AFTER: usize = 700;
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
        Some(Outcome::Choice { .. }) => choices(&pairs, sides, room),
        Some(Outcome::Text { .. }) => texts(&pairs, sides, room),
        Some(Outcome::Window { .. }) => windows(&pairs, sides, room),
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

/// An answer that is another choice.
struct Choice<'a> {
    id: &'a str,
    a: (usize, bool),
    b: (usize, bool),
    /// By how much the second variant prefers its choice to the first one's, in nats.
    margin: f64,
}

fn choices(pairs: &[Pair<'_>], sides: &Sides<'_>, room: usize) -> Markup {
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

fn windows(pairs: &[Pair<'_>], sides: &Sides<'_>, room: usize) -> Markup {
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

/// A text that is another one.
struct Text<'a> {
    id: &'a str,
    a: (&'a str, String),
    b: (&'a str, String),
}

fn texts(pairs: &[Pair<'_>], sides: &Sides<'_>, room: usize) -> Markup {
    let changed: Vec<Text<'_>> = pairs.iter().filter_map(text).collect();
    let all = changed.len();
    let share = signed_percent(all as f64 / pairs.len().max(1) as f64).replace('+', "");
    let kept = fitting(changed, TEXTS, room, |text| {
        [text.a.0, text.b.0].iter().map(|text| escaped_len(text)).sum::<usize>() + text.id.len()
    });
    html! {
        p.note { (count(all as u64)) " of " (plural(pairs.len(), "text")) " changed (" (share) ")." }
        @for text in &kept { (one_text(text, sides)) }
        (shown(kept.len(), all, "first"))
    }
}

/// Bytes that the shown part of a text may take once it is escaped.
fn escaped_len(text: &str) -> usize {
    let long = |c: char| if matches!(c, '<' | '>' | '&' | '"') { 6 } else { c.len_utf8() };
    text.chars().take(BEFORE + AFTER).map(long).sum()
}

fn text<'a>(pair: &Pair<'a>) -> Option<Text<'a>> {
    let side = |outcome: &'a Outcome| match outcome {
        Outcome::Text { text, scores, correct, .. } => {
            let mut facts = Vec::new();
            facts.extend(correct.map(|right| if right { "right" } else { "wrong" }.to_owned()));
            let score = |(name, value): (&String, &f64)| {
                format!("{} {}", metrics::words(name), metrics::unit(name).text(*value))
            };
            facts.extend(scores.iter().map(score));
            Some((text.as_str(), facts.join(", ")))
        }
        _ => None,
    };
    let (a, b) = (side(pair.a)?, side(pair.b)?);
    (a.0 != b.0).then_some(Text { id: pair.id, a, b })
}

fn one_text(text: &Text<'_>, sides: &Sides<'_>) -> Markup {
    let answer = |name: &str, class: &str, (own, facts): &(&str, String), other: &str| {
        html! {
            div class={ "answer " (class) } {
                p.who { b.swatch { (name) } " " (facts) }
                (parted(own, other))
            }
        }
    };
    html! {
        article.example {
            h4 { "Sample " (text.id) }
            div.answers {
                (answer(sides.a, "sd", &text.a, text.b.0))
                (answer(sides.b, &sides.style_b.class(), &text.b, text.a.0))
            }
        }
    }
}

/// A text with what it shares with another one, the first word that differs, and the rest.
fn parted(own: &str, other: &str) -> Markup {
    let (same, differing, rest) = part(other, own);
    let skipped = same.chars().count().saturating_sub(BEFORE);
    let same: String = same.chars().skip(skipped).collect();
    let (differing, cut) = clipped(differing);
    let (rest, long) = if cut { (String::new(), false) } else { clipped(rest) };
    html! {
        p.text dir="auto" {
            span.same { @if skipped > 0 { "… " } (same) }
            @if !differing.is_empty() { mark { (differing) } }
            @else { mark title="ends here" { "⏎" } }
            (rest)
            @if cut || long { " …" }
        }
    }
}

/// The first letters of a text, and whether there are more.
fn clipped(text: &str) -> (String, bool) {
    let kept: String = text.chars().take(AFTER).collect();
    let cut = kept.len() < text.len();
    (kept, cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_on_both_sides() {
        let same = "same ".repeat(200);
        let (a, b) = (format!("{same}left"), format!("{same}right {}", "tail ".repeat(400)));
        let shown = parted(&b, &a).into_string();
        assert!(shown.contains("<mark>right</mark>") && shown.contains("… "), "{shown}");
        assert!(shown.len() < BEFORE + AFTER + 200, "{}", shown.len());
        let word = "x".repeat(5000);
        assert!(parted(&word, "y").into_string().len() < AFTER + 200);
    }

    #[test]
    fn as_many_as_fit_are_kept() {
        let kept = |room| fitting(vec![100, 200, 300], 10, room, |bytes| *bytes);
        assert_eq!(kept(usize::MAX), [100, 200, 300]);
        assert_eq!(kept(TAGS * 2 + 300), [100, 200]);
        assert!(kept(10).is_empty());
    }
}
