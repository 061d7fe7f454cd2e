//! Perplexity of a text in windows.

use fewron_kernels::{kl_divergence, log_sum_exp};
use fewron_model::sampler::argmax;
use fewron_model::tokenizer::{Specials, Tokenizer};

use super::definition::Perplexity;
use super::engine::{Engine, Lane, Part};
use super::record::Outcome;
use super::run::SampleError;

/// Windows of the text that do not overlap, each of `window` tokens or the model's context. BOS,
/// where the model's files ask for it, starts every window and counts as one of its tokens. The last
/// window may be shorter; one that scores nothing is left out.
pub(super) fn windows(
    task: &Perplexity,
    text: &str,
    tokenizer: &Tokenizer,
    context: usize,
) -> Vec<Vec<u32>> {
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let room = task.window.min(context).saturating_sub(usize::from(bos.is_some())).max(1);
    let tokens = tokenizer.encode(text, Specials::Plain);
    let windows =
        tokens.chunks(room).map(|part| bos.into_iter().chain(part.iter().copied()).collect());
    windows.filter(|window: &Vec<u32>| scored(task, window) > 0).collect()
}

/// Tokens of a window that count: those that a token behind the dense ones predicts.
pub(super) fn scored(task: &Perplexity, window: &[u32]) -> usize {
    window.len().saturating_sub(task.dense + 1)
}

/// Predicts a window's tokens, dense and under every variant.
pub(super) fn measure(
    engine: &mut Engine,
    lanes: &mut [Lane],
    task: &Perplexity,
    window: &[u32],
) -> Result<Vec<Outcome>, SampleError> {
    let (isa, vocab) = (engine.isa(), engine.vocab());
    let (prompt, inputs) = window[..window.len() - 1].split_at(task.dense);
    let labels = &window[task.dense + 1..];
    let texts = lanes.iter_mut().map(|lane| engine.read(lane, prompt));
    let mut texts = texts.collect::<Result<Vec<_>, _>>()?;
    let mut sums = vec![Sums::default(); lanes.len()];
    let piece = engine.at_once_each(lanes);
    for (tokens, labels) in inputs.chunks(piece).zip(labels.chunks(piece)) {
        let parts = texts.into_iter().enumerate();
        let parts = parts.map(|(lane, text)| Part { lane, text, tokens }).collect();
        let (longer, logits) = engine.step(lanes, parts)?;
        texts = longer;
        for (at, &label) in labels.iter().enumerate() {
            let row = |lane: usize| &logits[lane][at * vocab..][..vocab];
            let nll = |row: &[f32], norm: f32| f64::from(norm) - f64::from(row[label as usize]);
            let dense = row(0);
            let (dense_norm, likeliest) = (log_sum_exp(isa, dense), argmax(dense));
            sums[0].nll += nll(dense, dense_norm);
            for (lane, sums) in sums.iter_mut().enumerate().skip(1) {
                let (row, norm) = (row(lane), log_sum_exp(isa, row(lane)));
                sums.nll += nll(row, norm);
                let kl = kl_divergence(isa, dense, dense_norm, row, norm);
                sums.kl += f64::from(kl.max(0.0));
                sums.agree += u64::from(argmax(row) == likeliest);
            }
        }
    }
    let outcome = |(lane, sums): (usize, Sums)| Outcome::Window {
        nll: sums.nll,
        tokens: labels.len() as u64,
        kl: (lane > 0).then_some(sums.kl),
        agree: (lane > 0).then_some(sums.agree),
    };
    Ok(sums.into_iter().enumerate().map(outcome).collect())
}

#[derive(Clone, Copy, Default)]
struct Sums {
    nll: f64,
    kl: f64,
    agree: u64,
}
