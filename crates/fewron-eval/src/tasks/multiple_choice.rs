//! Answers to choose from, scored by their log-likelihood.
//!
//! Definitions of lm-evaluation-harness (`lm_eval/api/task.py`, `lm_eval/api/model.py`): the answer's
//! tokens are those of prompt and answer together behind as many as the prompt alone has; `acc` goes
//! by the sum of their log-probabilities, `acc_norm` by the sum over the answer's characters.

use fewron_kernels::Isa;
use fewron_model::tokenizer::Tokenizer;

use super::definition::MultipleChoice;
use super::engine::{Engine, Lane, Part, logprob};
use super::record::Outcome;
use super::run::SampleError;
use super::sample::Choices;

/// The tokens of a prompt, and of an answer behind it. Spaces at the prompt's end go with the answer.
pub(super) fn split(tokenizer: &Tokenizer, prompt: &str, answer: &str) -> (Vec<u32>, Vec<u32>) {
    let context = tokenizer.encode_prompt(prompt.trim_end());
    let mut whole = tokenizer.encode_prompt(&format!("{prompt}{answer}"));
    let answer = whole.split_off(context.len().min(whole.len()));
    (context, answer)
}

/// Scores every answer, dense and under every variant: the prompt but for its last token runs dense,
/// that token and the answers' sparse.
pub(super) fn measure(
    engine: &mut Engine,
    lanes: &mut [Lane],
    tokenizer: &Tokenizer,
    task: &MultipleChoice,
    sample: &Choices,
) -> Result<Vec<Outcome>, SampleError> {
    let mut prompt = Vec::new();
    let mut answers = Vec::new();
    for choice in &sample.choices {
        let (context, answer) =
            split(tokenizer, &sample.prompt, &format!("{}{choice}", task.delimiter));
        if answer.is_empty() || context.is_empty() {
            return Err(SampleError::NoTokens { text: format!("{}…{choice}", sample.prompt) });
        }
        prompt = context;
        answers.push(answer);
    }
    let logprobs = logprobs(engine, lanes, &prompt, &answers)?;
    let tokens = answers.iter().map(|answer| answer.len() as u64).sum();
    Ok(logprobs.into_iter().map(|logprobs| outcome(sample, tokens, logprobs)).collect())
}

/// Log-likelihoods, `[lanes][answers]`. What all answers begin with runs once.
fn logprobs(
    engine: &mut Engine,
    lanes: &mut [Lane],
    prompt: &[u32],
    answers: &[Vec<u32>],
) -> Result<Vec<Vec<f64>>, SampleError> {
    let (isa, vocab) = (engine.isa(), engine.vocab());
    let shared = shared_beginning(answers);
    let (before, last) = prompt.split_at(prompt.len() - 1);
    let start = [last, &answers[0][..shared]].concat();
    let mut parts = Vec::new();
    for (lane, state) in lanes.iter_mut().enumerate() {
        parts.push(Part { lane, text: engine.read(state, before)?, tokens: &start });
    }
    let (texts, logits) = engine.step(lanes, parts)?;
    let first =
        |rows: &[f32]| answers.iter().map(|a| sum_of(isa, rows, &a[..=shared], vocab)).collect();
    let mut sums: Vec<Vec<f64>> = logits.into_iter().map(first).collect();
    let rest = |answer: usize| &answers[answer][shared..];
    let all =
        (0..lanes.len()).flat_map(|lane| (0..answers.len()).map(move |answer| (lane, answer)));
    let pending: Vec<(usize, usize)> = all.filter(|&(_, a)| rest(a).len() > 1).collect();
    for batch in batches(&pending, |answer| rest(answer).len() - 1, engine.at_once()) {
        let part = |&(lane, answer): &(usize, usize)| {
            let tokens = &rest(answer)[..rest(answer).len() - 1];
            Part { lane, text: texts[lane].clone(), tokens }
        };
        let (_, logits) = engine.step(lanes, batch.iter().map(part).collect())?;
        for (&(lane, answer), rows) in batch.iter().zip(logits) {
            sums[lane][answer] += sum_of(isa, rows, &rest(answer)[1..], vocab);
        }
    }
    Ok(sums)
}

/// Tokens with which all answers begin, each of which has one more at least.
fn shared_beginning(answers: &[Vec<u32>]) -> usize {
    let most = answers.iter().map(Vec::len).min().unwrap_or(1) - 1;
    (0..most).take_while(|&at| answers.iter().all(|a| a[at] == answers[0][at])).count()
}

/// Sum of the tokens' log-probabilities, each by its row of logits.
fn sum_of(isa: Isa, rows: &[f32], tokens: &[u32], vocab: usize) -> f64 {
    rows.chunks_exact(vocab).zip(tokens).map(|(row, &token)| logprob(isa, row, token)).sum()
}

/// Neighbours that have at most `most` tokens together, or one answer that has more.
fn batches(
    pending: &[(usize, usize)],
    tokens_of: impl Fn(usize) -> usize,
    most: usize,
) -> Vec<&[(usize, usize)]> {
    let (mut batches, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (at, &(_, answer)) in pending.iter().enumerate() {
        let more = tokens_of(answer);
        if at > start && tokens + more > most {
            batches.push(&pending[start..at]);
            (start, tokens) = (at, 0);
        }
        tokens += more;
    }
    if start < pending.len() {
        batches.push(&pending[start..]);
    }
    batches
}

fn outcome(sample: &Choices, tokens: u64, logprobs: Vec<f64>) -> Outcome {
    let characters = sample.choices.iter().map(|choice| choice.chars().count().max(1) as f64);
    let per_character: Vec<f64> = logprobs.iter().zip(characters).map(|(p, n)| p / n).collect();
    let (prediction, prediction_norm) = (first_largest(&logprobs), first_largest(&per_character));
    let largest = logprobs[prediction];
    let mass = |only_right: bool| -> f64 {
        let counted =
            logprobs.iter().zip(&sample.right).filter(|&(_, &right)| right || !only_right);
        counted.map(|(p, _)| (p - largest).exp()).sum()
    };
    Outcome::Choice {
        prediction,
        correct: sample.right[prediction],
        prediction_norm,
        correct_norm: sample.right[prediction_norm],
        true_mass: mass(true) / mass(false),
        tokens,
        logprobs,
    }
}

/// Index of the largest value, the first of equals.
fn first_largest(values: &[f64]) -> usize {
    let larger =
        |best: usize, (at, value): (usize, &f64)| if *value > values[best] { at } else { best };
    values.iter().enumerate().fold(0, larger)
}
