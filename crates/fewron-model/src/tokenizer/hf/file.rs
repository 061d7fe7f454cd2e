//! `tokenizer.json` as far as it is read here (the `tokenizers` crate reads the rest).

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use super::super::error::TokenizerError;
use super::Spelling;

/// A token that is matched as a whole.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Added {
    #[serde(default)]
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) special: bool,
}

/// A BPE model.
#[derive(Debug, Deserialize)]
pub(super) struct BpeModel {
    pub(super) vocab: HashMap<String, u32>,
    pub(super) merges: Vec<Merge>,
    dropout: Option<f32>,
    pub(super) unk_token: Option<String>,
    #[serde(default, deserialize_with = "not_empty")]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default, deserialize_with = "not_empty")]
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
}

/// Two tokens that become one, as `"a b"` or `["a", "b"]`.
#[derive(Debug)]
pub(super) struct Merge(pub(super) Option<(String, String)>);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelt {
            Pair(String, String),
            Text(String),
        }
        Ok(Merge(match Spelt::deserialize(deserializer)? {
            Spelt::Pair(left, right) => Some((left, right)),
            Spelt::Text(text) => text.split_once(' ').map(|(l, r)| (l.to_owned(), r.to_owned())),
        }))
    }
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerFile {
    #[serde(default)]
    pub(super) added_tokens: Vec<Added>,
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: Option<Value>,
    pub(super) post_processor: Option<Value>,
    pub(super) decoder: Option<Value>,
    pub(super) model: BpeModel,
}

impl TokenizerFile {
    pub(super) fn parse(text: &str) -> Result<Self, TokenizerError> {
        // The kind first: the vocabulary of another one has another shape.
        #[derive(Deserialize)]
        struct Outline {
            model: Kind,
        }
        #[derive(Deserialize)]
        struct Kind {
            #[serde(rename = "type")]
            kind: Option<String>,
        }
        let damaged = |e: serde_json::Error| TokenizerError::Json { problem: e.to_string() };
        let outline: Outline = serde_json::from_str(text).map_err(damaged)?;
        if let Some(kind) = outline.model.kind.filter(|kind| kind != "BPE") {
            let problem = format!("has a model of type {kind:?} instead of BPE");
            return Err(TokenizerError::Unsupported { problem });
        }
        let file: TokenizerFile = serde_json::from_str(text).map_err(damaged)?;
        if file.model.dropout.is_some_and(|dropout| dropout != 0.0) {
            let problem = "drops merges at random (dropout)".to_owned();
            return Err(TokenizerError::Unsupported { problem });
        }
        Ok(file)
    }
}

/// The parts of a normalizer, pre-tokenizer, decoder or post-processor: itself, or a sequence's.
pub(super) fn parts<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match value.get(list).and_then(Value::as_array) {
        Some(list) => list.iter().collect(),
        None => vec![value],
    }
}

pub(super) fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// How the decoder says that the vocabulary spells text.
pub(super) fn spelling(
    decoder: Option<&Value>,
    model: &BpeModel,
) -> Result<Spelling, TokenizerError> {
    let parts = decoder.map(|decoder| parts(decoder, "decoders")).unwrap_or_default();
    if parts.iter().any(|part| kind(part) == "ByteLevel") {
        return Ok(Spelling::ByteLevel);
    }
    let metaspace = parts.iter().find(|part| kind(part) == "Metaspace");
    let replaces = parts.iter().any(|part| kind(part) == "Replace");
    if metaspace.is_none() && !replaces && !model.byte_fallback {
        let problem = "has a decoder that is neither ByteLevel nor SentencePiece's".to_owned();
        return Err(TokenizerError::Unsupported { problem });
    }
    let strips = parts.iter().any(|part| {
        kind(part) == "Strip" && part.get("start").and_then(Value::as_u64).unwrap_or_default() > 0
    });
    let prepends = metaspace.is_some_and(|part| {
        part.get("prepend_scheme").and_then(Value::as_str) != Some("never")
            && part.get("add_prefix_space").and_then(Value::as_bool) != Some(false)
    });
    Ok(Spelling::SentencePiece { space_prefix: strips || prepends })
}

/// The pre-tokenizer, and whether a text gets a space at its start. The crate would give one to
/// every piece between special tokens, since it sees them one by one.
pub(super) fn pre_tokenizer(
    value: Option<Value>,
) -> Result<(Option<PreTokenizerWrapper>, bool), TokenizerError> {
    let Some(mut value) = value else { return Ok((None, false)) };
    let mut space_first = false;
    let mut change = |part: &mut Value| {
        if kind(part) == "Metaspace" && part["prepend_scheme"] == "first" {
            part["prepend_scheme"] = "never".into();
            // The older spelling of the same must not contradict.
            part.as_object_mut().map(|part| part.remove("add_prefix_space"));
            space_first = true;
        }
    };
    match value.get_mut("pretokenizers").and_then(Value::as_array_mut) {
        Some(list) => list.iter_mut().for_each(change),
        None => change(&mut value),
    }
    let pre_tokenizer = serde_json::from_value(value)
        .map_err(|e| TokenizerError::Json { problem: format!("pre_tokenizer: {e}") })?;
    Ok((Some(pre_tokenizer), space_first))
}

/// The tokens that the post-processor puts before a text.
pub(super) fn added_around(value: Option<&Value>) -> Result<Vec<u32>, TokenizerError> {
    let mut before = Vec::new();
    for part in value.map(|value| parts(value, "processors")).unwrap_or_default() {
        match kind(part) {
            "ByteLevel" => {}
            "TemplateProcessing" => before.extend(template(part)?),
            other => {
                let problem = format!("has a post-processor of type {other:?}");
                return Err(TokenizerError::Unsupported { problem });
            }
        }
    }
    Ok(before)
}

/// The error for tokens that would come between a prompt and its answer.
pub(super) fn adds_after(token: &str) -> TokenizerError {
    let problem = format!("puts {token} after every text, so that no answer could follow");
    TokenizerError::Unsupported { problem }
}

fn template(part: &Value) -> Result<Vec<u32>, TokenizerError> {
    let damaged = || TokenizerError::Json { problem: "post_processor: no such template".into() };
    let mut before = Vec::new();
    let mut after_text = false;
    for item in part.get("single").and_then(Value::as_array).ok_or_else(damaged)? {
        if item.get("Sequence").is_some() {
            after_text = true;
            continue;
        }
        let name = item.pointer("/SpecialToken/id").and_then(Value::as_str).ok_or_else(damaged)?;
        if after_text {
            return Err(adds_after(name));
        }
        let ids = part.get("special_tokens").and_then(|tokens| tokens.get(name)?.get("ids"));
        for id in ids.and_then(Value::as_array).ok_or_else(damaged)? {
            before.push(id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(damaged)?);
        }
    }
    Ok(before)
}
