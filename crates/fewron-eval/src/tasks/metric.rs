//! The metrics of tasks: their names, and what a sample gives to each.

use serde::Deserialize;

use super::record::Outcome;

/// An enum of metrics by their names in task files and records.
macro_rules! metrics {
    ($(#[$about:meta])* $kind:ident { $($(#[$meaning:meta])* $metric:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        pub enum $kind {
            $($(#[$meaning])* #[serde(rename = $name)] $metric,)+
        }

        impl $kind {
            /// All of them.
            pub(super) const ALL: &[Self] = &[$(Self::$metric),+];

            /// The name in task files and records.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$metric => $name,)+
                }
            }
        }
    };
}

metrics! {
    /// Metrics of perplexity.
    WindowMetric {
        /// exp of the mean negative log-likelihood.
        Perplexity = "perplexity",
        /// KL(dense‖sparse) in nats per token.
        Kl = "kl",
        /// Share of tokens at which both models find the same token likeliest.
        Agreement = "agreement",
    }
}

metrics! {
    /// Metrics of multiple choice, as lm-evaluation-harness defines them.
    ChoiceMetric {
        /// The choice of the largest log-likelihood is right.
        Acc = "acc",
        /// The choice of the largest log-likelihood per character is right.
        AccNorm = "acc_norm",
        /// Share of the choices' probability that right choices hold.
        Mc2 = "mc2",
    }
}

metrics! {
    /// Metrics of written texts. With several references the best counts.
    GenerateMetric {
        /// Sentence BLEU against a reference.
        Bleu = "bleu",
        /// Sentence BLEU against the dense model's text.
        BleuDense = "bleu_dense",
        /// ROUGE-1, F-measure.
        Rouge1 = "rouge1",
        /// ROUGE-2, F-measure.
        Rouge2 = "rouge2",
        /// ROUGE-L, F-measure.
        RougeL = "rougeL",
        /// ROUGE-L against the dense model's text, F-measure.
        RougeLDense = "rougeL_dense",
        /// F1 over words, as SQuAD defines it.
        F1 = "f1",
        /// Exact match, as SQuAD defines it.
        Em = "em",
        /// The text's last number is a reference's.
        ExactMatch = "exact_match",
    }
}

/// A metric of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Window(WindowMetric),
    Choice(ChoiceMetric),
    Generate(GenerateMetric),
}

impl Metric {
    /// The metric of a name in records.
    pub(super) fn named(name: &str) -> Option<Self> {
        let window = WindowMetric::ALL.iter().map(|&metric| Self::Window(metric));
        let choice = ChoiceMetric::ALL.iter().map(|&metric| Self::Choice(metric));
        let generate = GenerateMetric::ALL.iter().map(|&metric| Self::Generate(metric));
        window.chain(choice).chain(generate).find(|metric| metric.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Window(metric) => metric.name(),
            Self::Choice(metric) => metric.name(),
            Self::Generate(metric) => metric.name(),
        }
    }

    /// The sample's mean and its weight; `None` for what only a comparison with the dense model has.
    pub(super) fn term(self, outcome: &Outcome) -> Option<(f64, f64)> {
        match (self, outcome) {
            (Self::Choice(metric), Outcome::Choice { correct, correct_norm, true_mass, .. }) => {
                Some(match metric {
                    ChoiceMetric::Acc => share(*correct),
                    ChoiceMetric::AccNorm => share(*correct_norm),
                    ChoiceMetric::Mc2 => (*true_mass, 1.0),
                })
            }
            (Self::Window(metric), Outcome::Window { nll, tokens, kl, agree }) => {
                let sum = match metric {
                    WindowMetric::Perplexity => Some(*nll),
                    WindowMetric::Kl => *kl,
                    WindowMetric::Agreement => agree.map(|agree| agree as f64),
                };
                sum.map(|sum| (sum / *tokens as f64, *tokens as f64))
            }
            (Self::Generate(metric), Outcome::Text { correct, scores, .. }) => match metric {
                GenerateMetric::ExactMatch => correct.map(share),
                _ => scores.get(metric.name()).map(|&score| (score, 1.0)),
            },
            _ => None,
        }
    }

    /// The metric's value from the weighted mean of the samples.
    pub(super) fn value(self, mean: f64) -> f64 {
        if self == Self::Window(WindowMetric::Perplexity) { mean.exp() } else { mean }
    }

    /// How fast the value grows with the mean, at a value.
    pub(super) fn slope(self, value: f64) -> f64 {
        // The slope of exp is exp.
        if self == Self::Window(WindowMetric::Perplexity) { value } else { 1.0 }
    }
}

fn share(truth: bool) -> (f64, f64) {
    (f64::from(u8::from(truth)), 1.0)
}
