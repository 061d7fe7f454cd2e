//! Metrics of tasks: what they are called, how their values are written, and which way is better.

use fewron_eval::record::Interval;
use fewron_eval::tasks::lower_is_better;

use super::format::{number, percent};

/// How values of a metric are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A share, 0..1, written in percent.
    Share,
    /// A change, written in percent with its sign.
    Change,
    /// A number with so many decimals.
    Decimals(usize),
    /// A number with three digits or so.
    Plain,
}

/// A metric in words.
struct Words {
    name: &'static str,
    words: &'static str,
    unit: Unit,
    meaning: &'static str,
}

const WORDS: [Words; 24] = [
    Words {
        name: "perplexity",
        words: "Perplexity",
        unit: Unit::Decimals(2),
        meaning: "exp of the mean negative log-likelihood of a token; lower is better.",
    },
    Words {
        name: "kl",
        words: "KL, nats",
        unit: Unit::Plain,
        meaning: "Mean KL(dense‖sparse) of a token in nats; 0 is the same distribution.",
    },
    Words {
        name: "agreement",
        words: "Agreement",
        unit: Unit::Share,
        meaning: "Share of tokens whose likeliest next token is the dense model’s.",
    },
    Words {
        name: "acc",
        words: "Accuracy",
        unit: Unit::Share,
        meaning: "Share of samples whose likeliest choice is right.",
    },
    Words {
        name: "acc_norm",
        words: "Accuracy by length",
        unit: Unit::Share,
        meaning: "The same by log-likelihood per character of a choice.",
    },
    Words {
        name: "mc2",
        words: "MC2",
        unit: Unit::Share,
        meaning: "Share of the choices’ probability that right choices hold.",
    },
    Words {
        name: "exact_match",
        words: "Exact match",
        unit: Unit::Share,
        meaning: "Share of samples whose text gives a reference’s answer.",
    },
    Words {
        name: "bleu",
        words: "BLEU",
        unit: Unit::Decimals(1),
        meaning: "Best BLEU of a text against its references, 0 to 100.",
    },
    Words {
        name: "bleu_dense",
        words: "BLEU against dense",
        unit: Unit::Decimals(1),
        meaning: "BLEU of a text against the dense model’s, 0 to 100.",
    },
    Words {
        name: "decode_tok_s",
        words: "Decoding, tokens/s",
        unit: Unit::Decimals(1),
        meaning: "Tokens written in a second, median over repetitions.",
    },
    Words {
        name: "prefill_tok_s",
        words: "Prefill, tokens/s",
        unit: Unit::Decimals(1),
        meaning: "Tokens of a prompt read in a second, median over repetitions.",
    },
    Words {
        name: "active",
        words: "Neurons on",
        unit: Unit::Share,
        meaning: "Share of MLP neurons that ran at masked tokens.",
    },
    Words {
        name: "rouge1",
        words: "ROUGE-1",
        unit: Unit::Share,
        meaning: "Best F-measure of shared words of a text and a reference.",
    },
    Words {
        name: "rouge2",
        words: "ROUGE-2",
        unit: Unit::Share,
        meaning: "The same of pairs of words.",
    },
    Words {
        name: "rougeL",
        words: "ROUGE-L",
        unit: Unit::Share,
        meaning: "The same of the longest common run of words, gaps allowed.",
    },
    Words {
        name: "rougeL_dense",
        words: "ROUGE-L against dense",
        unit: Unit::Share,
        meaning: "ROUGE-L of a text and the dense model’s.",
    },
    Words {
        name: "f1",
        words: "F1",
        unit: Unit::Share,
        meaning: "Best F1 of shared words without articles and punctuation (SQuAD).",
    },
    Words {
        name: "em",
        words: "Exact match of texts",
        unit: Unit::Share,
        meaning: "Share of texts that equal a reference but for case, articles and punctuation (SQuAD).",
    },
    Words {
        name: "tok_s",
        words: "Tokens/s",
        unit: Unit::Decimals(1),
        meaning: "Tokens in a second, median over repetitions; the bar is their range.",
    },
    Words {
        name: "time_to_first_token_s",
        words: "Time to first token, s",
        unit: Unit::Plain,
        meaning: "From the prompt to the logits of its next token.",
    },
    Words {
        name: "bytes_per_token",
        words: "Bytes per token",
        unit: Unit::Decimals(0),
        meaning: "Weight bytes that a decoded token reads.",
    },
    Words {
        name: "flops_per_token",
        words: "Operations per token",
        unit: Unit::Decimals(0),
        meaning: "Two for each weight that is used, four for each element and position of attention.",
    },
    Words {
        name: "peak_rss_bytes",
        words: "Peak memory, bytes",
        unit: Unit::Decimals(0),
        meaning: "Most resident memory of the process.",
    },
    Words {
        name: "joules_per_token",
        words: "Joules per token",
        unit: Unit::Plain,
        meaning: "Of all processors and their memory, measured.",
    },
];

fn find(metric: &str) -> Option<&'static Words> {
    WORDS.iter().find(|words| words.name == metric)
}

/// The metric's name for people; an unknown one stands for itself.
pub(super) fn words(metric: &str) -> &str {
    find(metric).map_or(metric, |words| words.words)
}

/// How its values are written.
pub(super) fn unit(metric: &str) -> Unit {
    find(metric).map_or(Unit::Plain, |words| words.unit)
}

/// Names and meanings of those of `metrics` that are known, each once.
pub(super) fn glossary<'a>(
    metrics: impl Iterator<Item = &'a str>,
) -> Vec<(&'static str, &'static str)> {
    let mut known: Vec<(&str, &str)> = Vec::new();
    for words in metrics.filter_map(find) {
        if known.iter().all(|(name, _)| *name != words.words) {
            known.push((words.words, words.meaning));
        }
    }
    known
}

/// A relative change of `metric` as what is lost: positive where it gets worse.
pub(super) fn loss(metric: &str, change: Interval) -> Interval {
    if lower_is_better(metric) { change } else { turned(change) }
}

/// The other way round.
pub(super) fn turned(change: Interval) -> Interval {
    // Zero has no sign.
    let minus = |value: f64| 0.0 - value;
    Interval { mean: minus(change.mean), low: minus(change.high), high: minus(change.low) }
}

impl Unit {
    /// A value as a reader wants it.
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Self::Share => percent(value, 1),
            Self::Change => signed_percent(value),
            Self::Decimals(decimals) if value.is_finite() => format!("{value:.decimals$}"),
            Self::Decimals(_) | Self::Plain => number(value),
        }
    }

    /// `low – high`.
    pub(super) fn range(self, low: f64, high: f64) -> String {
        format!("{} to {}", self.text(low), self.text(high))
    }

    /// A tick's text on an axis whose ticks are `step` apart.
    pub(super) fn tick(self, value: f64, step: f64) -> String {
        let value = if value.abs() < step / 1e6 { 0.0 } else { value };
        let (value, step, end) = match self {
            Self::Share | Self::Change => (value * 100.0, step * 100.0, "%"),
            Self::Decimals(_) | Self::Plain => (value, step, ""),
        };
        let decimals = (0..6).find(|&d| {
            let scaled = step * 10f64.powi(d);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0)
        });
        let decimals = decimals.unwrap_or(6) as usize;
        let sign = if self == Self::Change && value > 0.0 { "+" } else { "" };
        format!("{sign}{value:.decimals$}{end}").replace('-', "−")
    }
}

/// `0.05` → `+5.0%`.
pub(super) fn signed_percent(share: f64) -> String {
    if !share.is_finite() {
        return "–".to_owned();
    }
    let percent = share * 100.0;
    let decimals = usize::from(percent.abs() < 99.95);
    let text = format!("{:.decimals$}", percent.abs());
    match percent {
        _ if text.trim_matches(['0', '.']).is_empty() => "0%".to_owned(),
        below if below < 0.0 => format!("−{text}%"),
        _ => format!("+{text}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_sign() {
        let texts = [0.123, -0.05, 0.0, -0.0001, 12.0, f64::NAN].map(signed_percent);
        assert_eq!(texts, ["+12.3%", "−5.0%", "0%", "0%", "+1200%", "–"]);
    }

    #[test]
    fn ticks_have_the_decimals_of_their_step() {
        assert_eq!(Unit::Share.tick(0.425, 0.025), "42.5%");
        assert_eq!(Unit::Share.tick(0.5, 0.25), "50%");
        assert_eq!(Unit::Change.tick(-0.1, 0.05), "−10%");
        assert_eq!(Unit::Change.tick(0.05, 0.05), "+5%");
        assert_eq!(Unit::Plain.tick(1e-18, 0.5), "0.0");
        assert_eq!(Unit::Plain.tick(27.5, 2.5), "27.5");
    }

    #[test]
    fn losses_point_the_same_way() {
        let rise = Interval { mean: 0.1, low: 0.0, high: 0.3 };
        assert_eq!(loss("perplexity", rise), rise);
        assert_eq!(loss("acc", rise), Interval { mean: -0.1, low: -0.3, high: 0.0 });
    }
}
