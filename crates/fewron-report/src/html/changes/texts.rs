//! Texts that are other ones, side by side.

use fewron_eval::tasks::Outcome;
use maud::{Markup, html};

use super::super::answers::part;
use super::super::format::count;
use super::super::metrics::{self, signed_percent};
use super::super::story::plural;
use super::{Pair, Sides, fitting, shown};

/// Most texts that a block shows.
const TEXTS: usize = 12;
/// Characters of a text that are shown before and after the place where it parts.
const BEFORE: usize = 240;
const AFTER: usize = 700;
/// A text that is another one.
struct Text<'a> {
    id: &'a str,
    a: (&'a str, String),
    b: (&'a str, String),
}

/// The pairs, below a sentence that counts.
pub(super) fn cards(pairs: &[Pair<'_>], sides: &Sides<'_>, room: usize) -> Markup {
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
}
