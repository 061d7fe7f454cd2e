//! Text that the model writes greedily. The prompt and the first token are dense; masks act from the
//! second token on (design §3).

use fewron_model::KvCache;
use fewron_model::sampler::argmax;
use fewron_model::tokenizer::Tokenizer;

use super::definition::Generate;
use super::engine::{Engine, Lane, Part};
use super::record::Outcome;
use super::run::SampleError;
use super::sample::Question;
use super::text_scores::outcome;

/// An answer on its way.
struct Run {
    lane: usize,
    tokens: Vec<u32>,
}

/// Answers a question, dense and under every variant, all in lockstep.
pub(super) fn measure(
    engine: &mut Engine,
    lanes: &mut [Lane],
    tokenizer: &Tokenizer,
    task: &Generate,
    sample: &Question,
    prompt: &[u32],
) -> Result<Vec<Outcome>, SampleError> {
    if prompt.is_empty() {
        return Err(SampleError::NoTokens { text: sample.prompt.clone() });
    }
    let first = engine.first_tokens(prompt)?;
    let (mut texts, mut runs) = (Vec::new(), Vec::new());
    for (lane, state) in lanes.iter_mut().enumerate() {
        texts.push(engine.read(state, prompt)?);
        runs.push(Run { lane, tokens: vec![first[state.reader]] });
    }
    let mut answers = vec![(String::new(), 0); lanes.len()];
    loop {
        finish(tokenizer, task, engine.context(), &mut texts, &mut runs, &mut answers);
        if runs.is_empty() {
            break;
        }
        let parts = runs.iter().zip(texts).map(|(run, text)| {
            let tokens = &run.tokens[run.tokens.len() - 1..];
            Part { lane: run.lane, text, tokens }
        });
        let (longer, logits) = engine.step(lanes, parts.collect())?;
        let next: Vec<u32> = logits.into_iter().map(argmax).collect();
        texts = longer;
        runs.iter_mut().zip(next).for_each(|(run, token)| run.tokens.push(token));
    }
    let dense = answers[0].0.clone();
    let beside = |lane: usize| (lane > 0).then_some(dense.as_str());
    let outcomes = answers.into_iter().enumerate();
    Ok(outcomes
        .map(|(lane, answer)| outcome(task, &sample.references, answer, beside(lane)))
        .collect())
}

/// Takes the answers out that have come to their end, with their numbers of tokens.
fn finish(
    tokenizer: &Tokenizer,
    task: &Generate,
    context: usize,
    texts: &mut Vec<KvCache>,
    runs: &mut Vec<Run>,
    answers: &mut [(String, usize)],
) {
    for at in (0..runs.len()).rev() {
        let tokens = &runs[at].tokens;
        let ended = tokenizer.is_end(tokens[tokens.len() - 1]);
        let text = tokenizer.decode(&tokens[..tokens.len() - usize::from(ended)], true);
        let stop = task.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        let full = tokens.len() >= task.max_new_tokens || texts[at].position() >= context;
        if ended || stop.is_some() || full {
            let text = stop.map_or(text.as_str(), |stop| &text[..stop]).to_owned();
            answers[runs[at].lane] = (text, tokens.len());
            runs.swap_remove(at);
            texts.swap_remove(at);
        }
    }
}
