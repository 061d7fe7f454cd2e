//! Samples whose answers changed, for people.

use std::fmt::Write;

use fewron_eval::tasks::{ChangedSample, TaskComparison};

/// Characters of an answer that are shown from where it parts.
const SHOWN: usize = 60;

/// Words that are shown of what both answers begin with.
const WORDS_BEFORE: usize = 6;

/// The first `most` samples of a task with another answer: how many words both answers begin with, the
/// last of these, and how each goes on.
pub(super) fn text(task: &TaskComparison, a: &str, b: &str, most: usize) -> Option<String> {
    let changed = &task.changed;
    if changed.is_empty() || most == 0 {
        return None;
    }
    let mut text = format!("{}: {} of {} answers changed", task.task, changed.len(), task.samples);
    let width = a.chars().count().max(b.chars().count());
    for sample in changed.iter().take(most) {
        let _ = write!(text, "\n  {}{}", sample.id, beginning(sample));
        for (variant, answer) in [(a, &sample.a), (b, &sample.b)] {
            let rest = rest(answer, sample.common_words.unwrap_or(0));
            let _ = write!(text, "\n    {variant:width$}  {rest}");
        }
    }
    if changed.len() > most {
        let more = changed.len() - most;
        let _ = write!(text, "\n  … {more} more: --changed N shows more, --json all");
    }
    Some(text)
}

/// What both answers begin with.
fn beginning(sample: &ChangedSample) -> String {
    let words: Vec<&str> = sample.a.split_whitespace().collect();
    match sample.common_words {
        None | Some(0) => String::new(),
        Some(1) => format!(", after a word: {}", words[0]),
        Some(n) => {
            let cut = n.saturating_sub(WORDS_BEFORE);
            let mark = if cut > 0 { "… " } else { "" };
            format!(", after {n} words: {mark}{}", words[cut..n].join(" "))
        }
    }
}

/// An answer on one line, from behind its first words.
fn rest(answer: &str, words: usize) -> String {
    let rest = answer.split_whitespace().skip(words).collect::<Vec<_>>().join(" ");
    match rest.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &rest[..end]),
        None if rest.is_empty() => "(ends)".to_owned(),
        None => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(samples: &[(&str, &str, Option<usize>)]) -> TaskComparison {
        let changed = |(i, &(a, b, common_words)): (usize, &(&str, &str, Option<usize>))| {
            let (id, a, b) = (i.to_string(), a.to_owned(), b.to_owned());
            ChangedSample { id, a, b, common: common_words, common_words }
        };
        TaskComparison {
            task: "quiz".to_owned(),
            samples: 9,
            metrics: vec![],
            categories: vec![],
            changed: samples.iter().enumerate().map(changed).collect(),
        }
    }

    #[test]
    fn answers_are_shown_from_where_they_part() {
        let samples = [
            ("choice 2, right", "choice 1, wrong", None),
            ("one two three\nfour five six seven 8", "one two three four five six  seven", Some(7)),
            ("Yes, it is.", "Yes, no.", Some(1)),
            ("a", "b", Some(0)),
            ("c", "d", Some(0)),
        ];
        let expected = "\
quiz: 5 of 9 answers changed
  0
    dense   choice 2, right
    gate@1  choice 1, wrong
  1, after 7 words: … two three four five six seven
    dense   8
    gate@1  (ends)
  2, after a word: Yes,
    dense   it is.
    gate@1  no.
  3
    dense   a
    gate@1  b
  … 1 more: --changed N shows more, --json all";
        assert_eq!(text(&comparison(&samples), "dense", "gate@1", 4).unwrap(), expected);
        assert_eq!(text(&comparison(&samples), "dense", "gate@1", 0), None);
        assert_eq!(text(&comparison(&[]), "dense", "gate@1", 4), None);
    }

    #[test]
    fn long_answers_are_cut() {
        let shown = rest(&"é".repeat(100), 0);
        assert_eq!(shown.chars().count(), SHOWN + 1);
        assert!(shown.ends_with("é…"));
    }
}
