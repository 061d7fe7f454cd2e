//! Parameters that both kinds of completions have.

use fewron_model::sampler::{Sampler, SamplerConfig};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

use super::Loose;
use crate::api::ApiError;

/// Most texts that end an answer.
const MAX_STOPS: usize = 16;

/// A text or a list of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

/// How sparse one request runs. Not part of OpenAI's API: their clients pass it in `extra_body`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sparsity {
    /// `gate`, `magnitude` and so on, or `dense`.
    pub(crate) policy: Option<String>,
    /// Share of the MLP neurons that is off, 0 to 1 in steps of 0.01 (default 0.5).
    pub(crate) sparsity: Option<f64>,
}

/// What a stream holds besides the answer.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    /// Whether the last event counts the tokens.
    pub(crate) include_usage: Option<bool>,
    /// Whether every event does, as vLLM has it.
    pub(crate) continuous_usage_stats: Option<bool>,
    #[serde(default, rename = "include_obfuscation")]
    #[schema(ignore)]
    _include_obfuscation: Option<bool>,
}

/// The events of a stream that count the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// None.
    None,
    /// One behind all answers; the others say null.
    Last,
    /// All.
    All,
}

/// Declares a request with the parameters that both kinds have besides its own.
macro_rules! request {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// `NAME`, or `NAME:VARIANT` for a variant of it: see `/v1/models`.
            pub(crate) model: String,
            $($(#[$field_doc])* pub(crate) $field: $type,)+
            /// Longest answer in tokens.
            pub(crate) max_tokens: Option<usize>,
            /// Answers to each prompt (default 1).
            pub(crate) n: Option<usize>,
            /// Seed of the sampler (default: another one each time). Answer `i` has seed + i.
            pub(crate) seed: Option<i64>,
            /// 0 takes the likeliest token every time (default 1).
            pub(crate) temperature: Option<f32>,
            /// Sample among the likeliest tokens that together have this probability (default 1).
            pub(crate) top_p: Option<f32>,
            /// Sample among so many of the likeliest tokens; 0 or -1: among all (default).
            pub(crate) top_k: Option<i64>,
            /// Sample among tokens with this share of the likeliest one's probability (default 0).
            pub(crate) min_p: Option<f32>,
            /// Divides the logits of tokens that were there already (default 1).
            pub(crate) repetition_penalty: Option<f32>,
            /// A text or up to 16 texts that end the answer and are not part of it.
            #[schema(value_type = Option<Vec<String>>)]
            pub(crate) stop: Option<crate::openai::Texts>,
            /// Whether an answer goes on behind a token that ends it, as vLLM has it: for measurements.
            pub(crate) ignore_eos: Option<bool>,
            /// Whether the answer comes in server-sent events.
            pub(crate) stream: Option<bool>,
            /// What a stream holds besides the answer.
            pub(crate) stream_options: Option<crate::openai::StreamOptions>,
            /// Who asks: the same user always gets the same share of a split traffic.
            pub(crate) user: Option<String>,
            /// How sparse this request runs.
            pub(crate) fewron: Option<crate::openai::Sparsity>,
            #[schema(ignore)]
            pub(crate) presence_penalty: Option<f64>,
            #[schema(ignore)]
            pub(crate) frequency_penalty: Option<f64>,
            #[schema(ignore)]
            pub(crate) logit_bias: Option<std::collections::BTreeMap<String, f64>>,
        }

        impl $name {
            /// The parameters that both kinds have.
            pub(crate) fn common(&self) -> crate::openai::Common<'_> {
                crate::openai::Common {
                    n: self.n,
                    seed: self.seed,
                    temperature: self.temperature,
                    top_p: self.top_p,
                    top_k: self.top_k,
                    min_p: self.min_p,
                    repetition_penalty: self.repetition_penalty,
                    stop: self.stop.as_ref(),
                    stream: self.stream.unwrap_or(false),
                    stream_options: self.stream_options.as_ref(),
                    penalties: [
                        ("presence_penalty", self.presence_penalty),
                        ("frequency_penalty", self.frequency_penalty),
                    ],
                    logit_bias: self.logit_bias.as_ref(),
                }
            }
        }
    };
}
pub(super) use request;

/// The parameters that both kinds of completions have, as they were sent.
pub(crate) struct Common<'a> {
    pub(crate) n: Option<usize>,
    pub(crate) seed: Option<i64>,
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<i64>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repetition_penalty: Option<f32>,
    pub(crate) stop: Option<&'a Texts>,
    pub(crate) stream: bool,
    pub(crate) stream_options: Option<&'a StreamOptions>,
    pub(crate) penalties: [(&'static str, Option<f64>); 2],
    pub(crate) logit_bias: Option<&'a BTreeMap<String, f64>>,
}

impl Common<'_> {
    /// Refuses what the sampler does not have.
    ///
    /// # Errors
    /// Names the parameter.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        for (name, value) in self.penalties {
            if value.unwrap_or(0.0) != 0.0 {
                let instead = "use repetition_penalty, or leave it at 0";
                return Err(ApiError::unsupported(name, instead));
            }
        }
        if self.logit_bias.is_some_and(|bias| bias.values().any(|&value| value != 0.0)) {
            return Err(ApiError::unsupported("logit_bias", "leave it empty"));
        }
        if self.stream_options.is_some() && !self.stream {
            let message = "stream_options is only for streams: set stream to true";
            return Err(ApiError::parameter("stream_options", message));
        }
        Ok(())
    }

    /// Answers to each prompt.
    ///
    /// # Errors
    /// When it is 0.
    pub(crate) fn choices(&self) -> Result<usize, ApiError> {
        match self.n {
            Some(0) => Err(ApiError::parameter("n", "n is at least 1")),
            n => Ok(n.unwrap_or(1)),
        }
    }

    /// Texts that end an answer.
    ///
    /// # Errors
    /// When there are too many, or one is empty.
    pub(crate) fn stops(&self) -> Result<Vec<String>, ApiError> {
        let stops = self.stop.map(|texts| texts.0.clone()).unwrap_or_default();
        if stops.len() > MAX_STOPS {
            let message =
                format!("stop has {} texts; at most {MAX_STOPS} are allowed", stops.len());
            return Err(ApiError::parameter("stop", message));
        }
        if stops.iter().any(String::is_empty) {
            return Err(ApiError::parameter("stop", "a text in stop is empty"));
        }
        Ok(stops)
    }

    /// How tokens are chosen.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub(crate) fn sampling(&self) -> Result<SamplerConfig, ApiError> {
        let top_k = match self.top_k.unwrap_or(0) {
            -1 => 0,
            k => usize::try_from(k).map_err(|_| {
                ApiError::parameter("top_k", "top_k is -1 or 0 for all tokens, or a number above")
            })?,
        };
        let config = SamplerConfig {
            temperature: self.temperature.unwrap_or(1.0),
            top_k,
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            // Any 64 bits are a seed.
            seed: self.seed.map_or_else(rand::random, |seed| seed as u64),
            ..SamplerConfig::default()
        };
        Sampler::new(config.clone())
            .map_err(|error| ApiError::parameter(error.name, error.to_string()))?;
        Ok(config)
    }

    /// Which events of a stream count the tokens.
    pub(crate) fn counted(&self) -> Counted {
        let asked = |of: fn(&StreamOptions) -> Option<bool>| {
            self.stream_options.and_then(of).unwrap_or(false)
        };
        match (asked(|o| o.include_usage), asked(|o| o.continuous_usage_stats)) {
            (_, true) => Counted::All,
            (true, false) => Counted::Last,
            (false, false) => Counted::None,
        }
    }
}

/// Refuses parameters that mean nothing here unless they ask for nothing: name, value, and the texts that
/// ask for nothing.
///
/// # Errors
/// Names the first that is refused.
pub(super) fn refuse(list: &[(&'static str, &Option<Loose>, &[&str])]) -> Result<(), ApiError> {
    let asks = |(_, value, texts): &&(&str, &Option<Loose>, &[&str])| {
        value.as_ref().is_some_and(|value| !value.is(texts))
    };
    match list.iter().find(asks) {
        Some((name, ..)) => Err(ApiError::unsupported(name, "leave it out")),
        None => Ok(()),
    }
}
