//! What a model writes itself as calibration text.

use super::CalibrateError;
use super::windows::Window;
use crate::sweep::Text;
use fewron_model::sampler::{Sampler, SamplerConfig, argmax};
use fewron_model::{KvCache, Logits, ModelError, Session};

/// Texts that are written side by side.
const TOGETHER: usize = 16;

/// How text that goes on from an opening is drawn: varied, but for words that hardly belong.
const DRAWN: SamplerConfig = SamplerConfig {
    temperature: 1.0,
    top_k: 0,
    top_p: 0.95,
    min_p: 0.0,
    repetition_penalty: 1.0,
    repetition_window: 0,
    seed: 0,
};

/// Chooses a text's next token, by the text's number, its logits and its tokens so far.
type Choose<'a> = dyn FnMut(usize, &[f32], &[u32]) -> u32 + 'a;

/// Told how many of how many texts are done; says whether to go on.
type Progress<'a> = dyn FnMut(usize, usize) -> bool + 'a;

/// Writes the dense model's greedy answers to prompts, of at most `max_new_tokens` each: a window for each
/// prompt, which is its dense part.
///
/// # Errors
/// When a prompt with its answer is longer than the context, and when told to stop.
pub fn answer(
    session: &mut Session,
    text: &dyn Text,
    prompts: &[&[u32]],
    max_new_tokens: usize,
    progress: &mut Progress,
) -> Result<Vec<Window>, CalibrateError> {
    write(session, text, prompts, max_new_tokens, &mut |_, logits, _| argmax(logits), progress)
}

/// Lets the dense model go on with openings, by at most `max_new_tokens` each, which it draws: a window for
/// each, whose opening is its dense part.
///
/// # Errors
/// As [`answer`].
///
/// # Panics
/// Never: the sampler's settings are fixed.
pub fn write_on(
    session: &mut Session,
    text: &dyn Text,
    openings: &[&[u32]],
    max_new_tokens: usize,
    seed: u64,
    progress: &mut Progress,
) -> Result<Vec<Window>, CalibrateError> {
    let sampler = |index: usize| {
        let seed = seed.wrapping_mul(openings.len() as u64).wrapping_add(index as u64);
        Sampler::new(SamplerConfig { seed, ..DRAWN }).expect("settings within their ranges")
    };
    let mut samplers: Vec<Sampler> = (0..openings.len()).map(sampler).collect();
    let mut draw =
        |index: usize, logits: &[f32], tokens: &[u32]| samplers[index].sample(logits, tokens);
    write(session, text, openings, max_new_tokens, &mut draw, progress)
}

fn write(
    session: &mut Session,
    text: &dyn Text,
    prompts: &[&[u32]],
    max_new_tokens: usize,
    choose: &mut Choose,
    progress: &mut Progress,
) -> Result<Vec<Window>, CalibrateError> {
    let mut windows = Vec::new();
    for group in prompts.chunks(TOGETHER) {
        let first = windows.len();
        if !progress(first, prompts.len()) {
            return Err(CalibrateError::Interrupted);
        }
        let mut choose =
            |index: usize, logits: &[f32], tokens: &[u32]| choose(first + index, logits, tokens);
        windows.extend(write_group(session, text, group, max_new_tokens, &mut choose)?);
    }
    Ok(windows)
}

fn write_group(
    session: &mut Session,
    text: &dyn Text,
    prompts: &[&[u32]],
    max_new_tokens: usize,
    choose: &mut Choose,
) -> Result<Vec<Window>, ModelError> {
    // A cache is away while its text goes on: its pages would else be copied.
    let (mut windows, mut caches) = (Vec::new(), Vec::new());
    for (index, prompt) in prompts.iter().enumerate() {
        session.truncate(0);
        let logits = session.forward(prompt, None, None, Logits::Last)?;
        let first = choose(index, logits, prompt);
        caches.push(Some(session.cache().clone()));
        let tokens = prompt.iter().copied().chain([first]).collect();
        windows.push(Window { tokens, dense: prompt.len() });
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
        let mut texts: Vec<KvCache> = running.iter().filter_map(|&i| caches[i].take()).collect();
        let last: Vec<&[u32]> = running.iter().map(|&i| last_of(&windows[i])).collect();
        let logits = session.forward_each(&mut texts, &last, |_| Logits::All, None)?;
        let rows = logits.chunks_exact(vocab);
        for ((&index, cache), logits) in running.iter().zip(texts).zip(rows) {
            caches[index] = Some(cache);
            let token = choose(index, logits, &windows[index].tokens);
            windows[index].tokens.push(token);
        }
    }
}

fn last_of(window: &Window) -> &[u32] {
    &window.tokens[window.tokens.len() - 1..]
}
