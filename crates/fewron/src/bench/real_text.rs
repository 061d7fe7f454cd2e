//! A text that the model writes itself: drafts are worth what they are on real text alone.

use anyhow::Result;
use fewron_eval::data::CALIBRATION_TEXT;
use fewron_model::sampler::argmax;
use fewron_model::{Logits, Session};

use crate::loaded::Loaded;
use crate::ui;

/// What the model is asked at the end of the text.
const QUESTION: &str = "Write a long letter to an old friend about your journey through the mountains: \
                        whom you met, what you ate, what went wrong, and what you learned from it.";

/// `kv_length` tokens of English that end with a question, then the dense model's greedy answer, `tokens`
/// tokens of it. An answer to nothing starts with a token of the prompt.
///
/// # Errors
/// When the prompt or the model cannot be run, and after Ctrl-C.
pub(super) fn real_text(
    loaded: &Loaded,
    session: &mut Session,
    kv_length: usize,
    tokens: usize,
) -> Result<Vec<u32>> {
    let mut text = prompt(loaded, kv_length.max(1))?;
    session.truncate(0);
    let mut at = 0;
    while text.len() < kv_length + tokens {
        ui::check_interrupt()?;
        let next = argmax(session.forward(&text[at..], None, None, Logits::Shortlist(0.0))?);
        at = text.len();
        text.push(next);
    }
    Ok(text)
}

/// The last tokens of the built-in text and a question; the text is repeated as often as needed.
fn prompt(loaded: &Loaded, length: usize) -> Result<Vec<u32>> {
    let question = loaded.prompt(QUESTION, None, false)?;
    let english = loaded.tokenizer.encode_prompt(CALIBRATION_TEXT);
    let before = length.saturating_sub(question.len());
    let mut text: Vec<u32> = english.iter().copied().cycle().take(before).collect();
    text.extend(&question[question.len().saturating_sub(length)..]);
    Ok(text)
}
