//! Log-probabilities from logits.

use super::request::ChosenToken;
use fewron_kernels::{Isa, log_sum_exp};

/// A token with its log-probability by a row of logits, and those of the `count` likeliest.
pub(super) fn chosen(isa: Isa, logits: &[f32], id: u32, count: usize) -> ChosenToken {
    let norm = log_sum_exp(isa, logits);
    let top = likeliest(logits, count).into_iter();
    let top = top.map(|id| (id, logits[id as usize] - norm)).collect();
    ChosenToken { id, logprob: Some(logits[id as usize] - norm), top }
}

/// A token without log-probabilities.
pub(super) fn plain(id: u32) -> ChosenToken {
    ChosenToken { id, logprob: None, top: Vec::new() }
}

/// The `count` highest logits, the highest first, the lowest id among equals. NaN counts as minus infinity.
fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
    let value = |id: u32| match logits[id as usize] {
        logit if logit.is_nan() => f32::NEG_INFINITY,
        logit => logit,
    };
    let mut best: Vec<u32> = Vec::with_capacity(count + 1);
    for id in 0..logits.len() as u32 {
        if best.len() == count && best.last().is_none_or(|&last| value(id) <= value(last)) {
            continue;
        }
        let at = best.partition_point(|&other| value(other) >= value(id));
        best.insert(at, id);
        best.truncate(count);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first() {
        let logits = [1.0, f32::NAN, 3.0, 3.0, -1.0];
        assert_eq!(likeliest(&logits, 3), [2, 3, 0]);
        assert_eq!(likeliest(&logits, 0), [0u32; 0]);
        assert_eq!(likeliest(&logits, 9).len(), 5);
    }

    #[test]
    fn probabilities_add_up_to_one() {
        let logits = [0.5, -2.0, 1.5, 0.0];
        let token = chosen(Isa::SCALAR, &logits, 1, 4);
        let sum: f32 = token.top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert_eq!(token.logprob, token.top.iter().find(|(id, _)| *id == 1).map(|(_, p)| *p));
    }
}
