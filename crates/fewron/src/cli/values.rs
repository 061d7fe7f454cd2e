//! Values that arguments take, and their checks.

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::store;

/// A share between 0 and 1, `.5` as well as `0.5`.
pub(super) fn parse_ratio(text: &str) -> Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        Ok(ratio) => Err(format!("ratio {ratio} is outside 0 to 1")),
        Err(_) => Err(format!("`{text}` is not a number between 0 and 1")),
    }
}

/// A finite number that is not negative.
pub(super) fn parse_non_negative(text: &str) -> Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err(format!("`{text}` is not a number of 0 or more")),
    }
}

/// A finite number above zero.
pub(super) fn parse_positive(text: &str) -> Result<f32, String> {
    parse_non_negative(text)
        .ok()
        .filter(|&number| number > 0.0)
        .ok_or_else(|| format!("`{text}` is not a number above 0"))
}

/// A plan: its file, or the name of one that comes with fewron.
pub(super) fn plan_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|plan| store::plan_file(plan).map_err(|e| e.to_string()))
}

/// Declares an enum of names on the command line with `as_str`.
macro_rules! named_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub(crate) enum $name {
            $($(#[$variant_doc])* #[value(name = $text)] $variant,)+
        }

        impl $name {
            /// The name as records and the command line have it.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named_values! {
    /// Types of cached keys and values.
    KvType {
        /// Half precision
        F16 = "f16",
        /// Single precision
        F32 = "f32",
        /// 8-bit integers with a scale for each head of each position
        Q8 = "q8",
    }
}

impl From<KvType> for fewron_model::KvType {
    fn from(kind: KvType) -> Self {
        match kind {
            KvType::F16 => Self::F16,
            KvType::F32 => Self::F32,
            KvType::Q8 => Self::Q8,
        }
    }
}

named_values! {
    /// Attribution metrics of the oracle protocol.
    Metric {
        /// Size of the output
        Magnitude = "magnitude",
        /// Negative gradient
        Gradient = "gradient",
        /// Negative gradient times output
        Gxo = "gxo",
        /// Size of gradient times output
        Snip = "snip",
        /// Square of gradient times output
        Fisher = "fisher",
        /// Integrated gradients
        Ig = "ig",
        /// Gradient times output with the paper's correction
        CorGxo = "cor-gxo",
        /// Size of the output times the norm of its weights
        Wina = "wina",
        /// Seeded noise
        Random = "random",
    }
}

named_values! {
    /// Mask policies of the run time.
    Policy {
        /// Everything is computed
        Dense = "dense",
        /// The gate says which up rows and down columns are computed
        Gate = "gate",
        /// One set of neurons for a request, by the attribution of its prompt
        Prompt = "prompt",
        /// A trained predictor says which neurons are computed; needs a plan
        Predict = "predict",
        /// The same neurons for every token; needs a plan
        Static = "static",
        /// Input channels of every matrix whose products are small are left out; needs a plan
        Input = "input",
        /// Exact outputs first, then the largest are kept: a reference, not faster
        Magnitude = "magnitude",
    }
}

named_values! {
    /// What is masked.
    Scope {
        /// MLP neurons
        Mlp = "mlp",
        /// Attention heads
        Heads = "heads",
        /// Both
        Both = "both",
    }
}

named_values! {
    /// What masks may know.
    Protocol {
        /// Masks from the dense model's own answer (the paper's)
        Oracle = "oracle",
        /// Masks from what a server sees
        Runtime = "runtime",
    }
}

named_values! {
    /// Among which units the ratio is taken.
    Selection {
        /// The same share in every layer
        Layer = "layer",
        /// One ranking across the layers
        Global = "global",
        /// One score threshold for all tokens
        Threshold = "threshold",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios() {
        assert_eq!(parse_ratio(".5"), Ok(0.5));
        assert_eq!(parse_ratio(" 1"), Ok(1.0));
        assert_eq!(parse_ratio("1.5"), Err("ratio 1.5 is outside 0 to 1".to_owned()));
        assert_eq!(parse_ratio("-0.1"), Err("ratio -0.1 is outside 0 to 1".to_owned()));
        assert_eq!(parse_ratio("NaN"), Err("ratio NaN is outside 0 to 1".to_owned()));
        assert!(parse_ratio("half").unwrap_err().contains("`half` is not a number"));
    }

    #[test]
    fn signs() {
        assert_eq!(parse_non_negative("0"), Ok(0.0));
        assert!(parse_non_negative("-1").is_err() && parse_non_negative("inf").is_err());
        assert!(parse_positive("0").is_err());
        assert_eq!(parse_positive("1.1"), Ok(1.1));
    }
}
