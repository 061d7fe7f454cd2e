//! A model's own answers as calibration text.

use super::windows::Window;
use crate::sweep::{Prompt, Text};
use fewron_model::sampler::argmax;
use fewron_model::{KvCache, Logits, ModelError, Session};

/// Answers that are written side by side.
const TOGETHER: usize = 16;

/// Writes the dense model's greedy answers to prompts, of at most `max_new_tokens` each: a window for each
/// prompt, which is its dense part. `progress` is told how many of how many prompts are done, and says
/// whether to go on; what is done when it says no is returned.
///
/// # Errors
/// When a prompt with its answer is longer than the context.
pub fn answer(
    session: &mut Session,
    text: &dyn Text,
    prompts: &[Prompt],
    max_new_tokens: usize,
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Vec<Window>, ModelError> {
    let mut windows = Vec::new();
    for group in prompts.chunks(TOGETHER) {
        if !progress(windows.len(), prompts.len()) {
            break;
        }
        windows.extend(answer_group(session, text, group, max_new_tokens)?);
    }
    Ok(windows)
}

fn answer_group(
    session: &mut Session,
    text: &dyn Text,
    prompts: &[Prompt],
    max_new_tokens: usize,
) -> Result<Vec<Window>, ModelError> {
    let (mut windows, mut caches) = (Vec::new(), Vec::new());
    for prompt in prompts {
        session.truncate(0);
        let first = argmax(session.forward(&prompt.tokens, None, None, Logits::Last)?);
        caches.push(session.cache().clone());
        let mut tokens = prompt.tokens.clone();
        tokens.push(first);
        windows.push(Window { tokens, dense: prompt.tokens.len() });
    }
    let vocab = session.model().config().vocab;
    loop {
        let open = |window: &Window| {
            let last = window.tokens[window.tokens.len() - 1];
            window.sparse() < max_new_tokens && !text.is_end(last)
        };
        let running: Vec<usize> = (0..windows.len()).filter(|&i| open(&windows[i])).collect();
        if running.is_empty() {
            return Ok(windows);
        }
        let mut texts: Vec<KvCache> = running.iter().map(|&i| caches[i].clone()).collect();
        let last: Vec<&[u32]> = running.iter().map(|&i| last_of(&windows[i])).collect();
        let logits = session.forward_each(&mut texts, &last, None)?;
        let next: Vec<u32> = logits.chunks_exact(vocab).map(argmax).collect();
        for ((&index, cache), token) in running.iter().zip(texts).zip(next) {
            caches[index] = cache;
            windows[index].tokens.push(token);
        }
    }
}

fn last_of(window: &Window) -> &[u32] {
    &window.tokens[window.tokens.len() - 1..]
}
