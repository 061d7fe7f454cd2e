//! Dense and sparse answers side by side, with the place where they part.

use fewron_eval::record::{Example, SparseAnswer};
use maud::{Markup, html};

use super::format::ratio;
use super::series::Series;

/// The section, or nothing without examples.
pub(super) fn section(examples: &[Example], series: &[Series<'_>]) -> Markup {
    if examples.is_empty() {
        return html! {};
    }
    html! {
        section #answers aria-labelledby="answers-title" {
            h2 #answers-title { "Side by side" }
            p.lede {
                "Free-running answers: each sparse model reads its own words. The first word that \
                 differs from the dense answer is " mark { "marked" } "; what stands before it is the same."
            }
            @for example in examples { (one_example(example, series)) }
        }
    }
}

fn one_example(example: &Example, series: &[Series<'_>]) -> Markup {
    html! {
        article.example {
            h3.question dir="auto" { (example.question) }
            div.answers {
                div.answer.dense {
                    h4 { "Dense" }
                    p dir="auto" { (example.dense) }
                }
                @for answer in &example.sparse { (one_answer(&example.dense, answer, series)) }
            }
        }
    }
}

fn one_answer(dense: &str, answer: &SparseAnswer, series: &[Series<'_>]) -> Markup {
    let slot = series.iter().find(|one| one.name == answer.name).map_or(8, |one| one.slot);
    let (same, differing, rest) = part(dense, &answer.text);
    html! {
        div class={ "answer s" (slot) } {
            h4 {
                b.swatch { (answer.name) } " at " (ratio(answer.ratio))
                @if dense == answer.text { span.badge { "identical" } }
            }
            p dir="auto" {
                span.same { (same) }
                @if !differing.is_empty() { mark { (differing) } }
                @else if dense != answer.text { mark title="ends here" { "⏎" } }
                (rest)
            }
        }
    }
}

/// Splits `sparse` into what it shares with `dense`, the first differing word, and the rest.
pub(super) fn part<'a>(dense: &str, sparse: &'a str) -> (&'a str, &'a str, &'a str) {
    let shared = dense
        .char_indices()
        .zip(sparse.chars())
        .find(|((_, a), b)| a != b)
        .map_or(dense.len().min(sparse.len()), |((at, _), _)| at);
    if shared == sparse.len() {
        return (sparse, "", "");
    }
    // Back to the start of the word in which they part, unless a word ended there in both.
    let ended = |text: &str| text[shared..].chars().next().is_none_or(char::is_whitespace);
    let start = if ended(dense) && ended(sparse) { shared } else { word_start(&sparse[..shared]) };
    let word = sparse[start..].trim_start();
    let begin = sparse.len() - word.len();
    let length = word.find(char::is_whitespace).unwrap_or(word.len());
    (&sparse[..begin], &sparse[begin..begin + length], &sparse[begin + length..])
}

/// Start of the last word of `text`, its end when it ends in white space.
fn word_start(text: &str) -> usize {
    let last = text.char_indices().rev().find(|(_, letter)| letter.is_whitespace());
    last.map_or(0, |(at, space)| at + space.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn parts_at_the_first_differing_word() {
        assert_eq!(part("a cat sat", "a car sat"), ("a ", "car", " sat"));
        assert_eq!(part("a cat", "a cat"), ("a cat", "", ""));
        assert_eq!(part("a cat sat", "a cat"), ("a cat", "", ""));
        assert_eq!(part("a cat", "a cat sat"), ("a cat ", "sat", ""));
        assert_eq!(part("a cats", "a cat sat"), ("a ", "cat", " sat"));
        assert_eq!(part("", "new"), ("", "new", ""));
        assert_eq!(part("x", ""), ("", "", ""));
        assert_eq!(part("über Öl", "über Ähren"), ("über ", "Ähren", ""));
        assert_eq!(part("日本語", "日本人"), ("", "日本人", ""));
    }
}
