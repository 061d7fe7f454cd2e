//! One set of neurons for a request: the prompt's own tokens are labels, so one backward pass over
//! them gives real attribution.

use crate::Attribution;
use crate::attribution::Scope;
use crate::metric::Metric;
use fewron_model::{Logits, ModelError, Session, Trace};

/// Tokens at the end of a prompt that are looked at, at most: enough to tell which neurons matter.
const TRACED_TOKENS: usize = 64;

/// Tokens that are looked at at a time: a step short enough for those who wait beside.
const STEP: usize = 8;

/// Strength of the correction in the scores (½ in the paper, arXiv 2406.06562).
const CORRECTION: f32 = 0.5;

/// The first token of a prompt of this length that is looked at. Those before it may have run already.
pub(crate) fn first_looked_at(prompt: usize) -> usize {
    prompt.saturating_sub(1 + TRACED_TOKENS)
}

/// Runs a prompt dense up to its last token and scores the neurons of each layer: the total of corrected
/// attribution over the tokens before the last, each with the token after it as label. A prompt of one
/// token has no label: no layers.
///
/// # Errors
/// As [`Session::forward`].
pub fn prompt_scores(session: &mut Session, prompt: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
    let mut totals = Vec::new();
    let mut done = first_looked_at(prompt.len());
    if done + 1 < prompt.len() {
        session.forward(&prompt[..done], None, None, Logits::None)?;
    }
    while done + 1 < prompt.len() {
        done += look(session, &prompt[done..], &mut totals)?;
    }
    Ok(totals)
}

/// A step of [`prompt_scores`]: runs the next tokens of a prompt, those before it having run, and adds their
/// scores. Returns how many there were; the last of `rest` is a label only.
pub(crate) fn look(
    session: &mut Session,
    rest: &[u32],
    totals: &mut Vec<Vec<f32>>,
) -> Result<usize, ModelError> {
    let count = rest.len().saturating_sub(1).min(STEP);
    let mut trace = Trace::new(session.model().config());
    let logits = session.forward(&rest[..count], None, Some(&mut trace), Logits::All)?.to_vec();
    let metrics = [Metric::CorGxo];
    let attribution = Attribution::new(session.model(), &metrics, Scope::Mlp, CORRECTION, 1, 0);
    let scores = attribution.scores(session, &trace, &logits, &rest[1..=count], 0);
    totals.resize_with(scores[0].neurons.len(), Vec::new);
    for (totals, scores) in totals.iter_mut().zip(&scores[0].neurons) {
        add_rows(scores, count, totals);
    }
    Ok(count)
}

/// Adds the rows of `scores`, `[tokens, neurons]`, to `totals`.
fn add_rows(scores: &[f32], tokens: usize, totals: &mut Vec<f32>) {
    let neurons = scores.len() / tokens;
    totals.resize(neurons, 0.0);
    for row in scores.chunks_exact(neurons) {
        totals.iter_mut().zip(row).for_each(|(total, score)| *total += score);
    }
}
