//! One set of neurons for a request: the prompt's own tokens are labels, so one backward pass over
//! them gives real attribution.

use crate::Attribution;
use crate::attribution::Scope;
use crate::metric::Metric;
use fewron_model::{Logits, ModelError, Session, Trace};

/// Tokens at the end of a prompt that are looked at, at most: what the trace of these takes in memory
/// is small beside a model.
const TRACED_TOKENS: usize = 64;

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
    let start = first_looked_at(prompt.len());
    let labelled = prompt.len().saturating_sub(1) - start;
    if labelled == 0 {
        return Ok(Vec::new());
    }
    session.forward(&prompt[..start], None, None, Logits::None)?;
    let mut trace = Trace::new(session.model().config());
    let traced = &prompt[start..start + labelled];
    let logits = session.forward(traced, None, Some(&mut trace), Logits::All)?.to_vec();
    let metrics = [Metric::CorGxo];
    let attribution = Attribution::new(session.model(), &metrics, Scope::Mlp, CORRECTION, 1, 0);
    let scores = attribution.scores(session, &trace, &logits, &prompt[start + 1..], 0);
    Ok(scores[0].neurons.iter().map(|scores| totals(scores, labelled)).collect())
}

/// Sums of the columns of `scores`, `[tokens, neurons]`.
fn totals(scores: &[f32], tokens: usize) -> Vec<f32> {
    let mut totals = vec![0.0; scores.len() / tokens];
    for row in scores.chunks_exact(totals.len()) {
        totals.iter_mut().zip(row).for_each(|(total, score)| *total += score);
    }
    totals
}
