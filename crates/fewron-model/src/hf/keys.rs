//! Reading `config.json`: typed access, and refusal of keys that may change the arithmetic.

use serde_json::{Map, Value};

use crate::error::ModelError;

/// An object of `config.json` and its place there.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    map: &'a Map<String, Value>,
    /// `config.json: `, or `config.json: rope_scaling.` and the like.
    place: &'a str,
}

/// Longest value that a message shows.
const SHOWN_CHARS: usize = 60;

/// Parts of names that keys which change the arithmetic have.
const ARITHMETIC: &[&str] = &[
    "rope",
    "rotary",
    "alibi",
    "position",
    "scal",
    "norm",
    "bias",
    "softcap",
    "cap",
    "window",
    "chunk",
    "attn",
    "attention",
    "multiplier",
    "logit",
    "quant",
    "expert",
    "moe",
    "lora",
    "adapter",
    "pruned",
    "cross",
    "factor",
    "theta",
    "freq",
    "layer",
    "act",
    "embed",
    "embd",
    "mlp",
    "sparse",
    "parallel",
    "mrope",
];

/// Keys that any `config.json` may have and that inference does not depend on.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "activation_dropout",
    "attention_dropout",
    "attn_implementation",
    "attn_pdrop",
    "embd_pdrop",
    "chunk_size_feed_forward",
    "is_llama_config",
    "layerdrop",
    "max_window_layers",
    "output_attentions",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "transformers.js_config",
];

impl<'a> Keys<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, place: &'a str) -> Self {
        Keys { map, place }
    }

    /// The key with its place, for messages.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    pub(super) fn bad(&self, name: &str, problem: &str) -> ModelError {
        ModelError::BadKey { key: self.key(name), problem: problem.into() }
    }

    pub(super) fn unsupported(&self, name: &str, supported: &str) -> ModelError {
        let value = self.map.get(name).unwrap_or(&Value::Null);
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        ModelError::Unsupported { key: self.key(name), value: shown, supported: supported.into() }
    }

    /// The value, unless it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        self.typed(name, "is no text", Value::as_str)
    }

    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, ModelError> {
        self.typed(name, "is neither true nor false", Value::as_bool)
    }

    pub(super) fn bool_or(&self, name: &str, default: bool) -> Result<bool, ModelError> {
        Ok(self.bool(name)?.unwrap_or(default))
    }

    pub(super) fn list(&self, name: &str) -> Result<Option<&'a Vec<Value>>, ModelError> {
        self.typed(name, "is no list", Value::as_array)
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ModelError> {
        self.typed(name, "is no object", Value::as_object)
    }

    fn typed<T>(
        &self,
        name: &str,
        problem: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let value = self.get(name).map(|value| read(value).ok_or_else(|| self.bad(name, problem)));
        value.transpose()
    }

    /// A positive size with a sane bound, so that products of two sizes cannot overflow.
    pub(super) fn size(&self, name: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64() {
            Some(size @ 1..=0x1000_0000) => Ok(Some(size as usize)),
            Some(0) => Err(self.bad(name, "is zero")),
            Some(_) => Err(self.bad(name, "is absurdly large")),
            None => Err(self.bad(name, "is no positive whole number")),
        }
    }

    pub(super) fn size_or(&self, name: &str, default: usize) -> Result<usize, ModelError> {
        Ok(self.size(name)?.unwrap_or(default))
    }

    pub(super) fn need_size(&self, name: &str) -> Result<usize, ModelError> {
        self.size(name)?.ok_or_else(|| self.bad(name, "is missing"))
    }

    /// A positive number.
    pub(super) fn float(&self, name: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number)
                if number > 0.0 && (number as f32) > 0.0 && (number as f32).is_finite() =>
            {
                Ok(Some(number))
            }
            _ => Err(self.bad(name, "is not a positive number")),
        }
    }

    pub(super) fn float_or(&self, name: &str, default: f64) -> Result<f64, ModelError> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub(super) fn need_float(&self, name: &str) -> Result<f64, ModelError> {
        self.float(name)?.ok_or_else(|| self.bad(name, "is missing"))
    }

    /// Refuses a key unless it is absent, null or this value.
    pub(super) fn only(&self, name: &str, value: bool) -> Result<(), ModelError> {
        match self.get(name) {
            None => Ok(()),
            Some(found) if found.as_bool() == Some(value) => Ok(()),
            Some(_) => Err(self.unsupported(name, if value { "true" } else { "false" })),
        }
    }

    /// Refuses every key that is not `known`, sounds like arithmetic, and is not switched off.
    pub(super) fn refuse_unknown(&self, known: &[&str]) -> Result<(), ModelError> {
        for (name, value) in self.map {
            let lower = name.to_ascii_lowercase();
            let arithmetic = ARITHMETIC.iter().any(|part| lower.contains(part));
            let known = known.contains(&name.as_str()) || HARMLESS.contains(&name.as_str());
            if arithmetic && !known && !is_off(&lower, value) {
                return Err(self.unsupported(name, "no such key, or null"));
            }
        }
        Ok(())
    }
}

/// Whether a value asks for nothing: null, false, empty, or a factor of 1.
fn is_off(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => {
            number.as_f64() == Some(1.0)
                && ["scal", "multiplier", "factor"].iter().any(|part| name.contains(part))
        }
        _ => false,
    }
}
