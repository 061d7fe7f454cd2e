//! Plain text: paragraphs between blank lines, each a sample.

use super::Sample;

pub(super) fn parse(text: &str) -> Vec<Sample> {
    let mut paragraphs: Vec<Vec<&str>> = vec![Vec::new()];
    for line in text.lines().map(str::trim_end) {
        match paragraphs.last_mut() {
            Some(paragraph) if !line.is_empty() => paragraph.push(line),
            _ => paragraphs.push(Vec::new()),
        }
    }
    paragraphs
        .into_iter()
        .filter(|lines| !lines.is_empty())
        .enumerate()
        .map(|(i, lines)| Sample {
            id: (i + 1).to_string(),
            question: lines.join("\n"),
            references: Vec::new(),
            category: None,
        })
        .collect()
}
