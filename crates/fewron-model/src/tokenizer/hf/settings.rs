//! What `tokenizer_config.json`, `special_tokens_map.json` and the generation's configuration say.

use std::path::Path;

use serde_json::{Map, Value};

use super::file::Added;
use crate::hf::{HfError, read_object};

const MAX_BYTES: u64 = 64 << 20;

/// Special tokens by their role.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) bos: Option<String>,
    pub(super) eos: Option<String>,
    pub(super) unk: Option<String>,
    pub(super) pad: Option<String>,
    /// All special tokens that have a role.
    named: Vec<String>,
    /// `added_tokens_decoder`.
    pub(super) added: Vec<Added>,
    /// Whether BOS and EOS are put around a text, where the configuration says so.
    pub(super) adds: Option<(bool, bool)>,
    /// Ids that end a generation.
    pub(super) ends: Vec<u32>,
}

/// Keys whose values are special tokens.
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "additional_special_tokens",
];

impl Settings {
    pub(super) fn read(folder: &Path) -> Result<Self, HfError> {
        let object = |file| Ok(read_object(folder, file, MAX_BYTES)?.unwrap_or_default());
        let config: Map<String, Value> = object("tokenizer_config.json")?;
        let map: Map<String, Value> = object("special_tokens_map.json")?;
        let role = |key: &str| config.get(key).or_else(|| map.get(key));
        let named = ROLES.iter().filter_map(|key| role(key)).flat_map(texts).collect();
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        // As transformers 5: one of the two in the file replaces what tokenizer.json adds.
        let adds = match (flag("add_bos_token"), flag("add_eos_token")) {
            (None, None) => None,
            (bos, eos) => Some((bos.unwrap_or(false), eos.unwrap_or(false))),
        };
        let (generation, model) = (object("generation_config.json")?, object("config.json")?);
        let ends = [&generation, &model]
            .into_iter()
            .find_map(|config| config.get("eos_token_id").filter(|value| !value.is_null()));
        let one = |key: &str| role(key).and_then(|value| texts(value).pop());
        Ok(Settings {
            bos: one("bos_token"),
            eos: one("eos_token"),
            unk: one("unk_token"),
            pad: one("pad_token"),
            named,
            added: config.get("added_tokens_decoder").map(added).unwrap_or_default(),
            adds,
            ends: ends.map(ids).unwrap_or_default(),
        })
    }

    /// Whether a token has a role.
    pub(super) fn is_special(&self, text: &str) -> bool {
        self.named.iter().any(|named| named == text)
    }
}

/// The texts of a token or of a list of tokens; each is a string or an object with `content`.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Object(map) => map.get("content").map(texts).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// One id or a list of ids.
fn ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}

/// Tokens by id; what is none is left out.
fn added(value: &Value) -> Vec<Added> {
    let token = |(id, value): (&String, &Value)| {
        let token: Added = serde_json::from_value(value.clone()).ok()?;
        Some(Added { id: id.parse().ok()?, ..token })
    };
    value.as_object().into_iter().flatten().filter_map(token).collect()
}
