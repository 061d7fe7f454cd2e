//! Contents of messages: a text, or a list of parts that are texts.

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

use super::Loose;

/// The text of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content(pub(crate) String);

/// A part of a content.
#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: PartKind,
    text: String,
    #[serde(default, rename = "annotations")]
    _annotations: Option<Loose>,
}

/// The only type of part that is understood.
struct PartKind;

impl<'de> Deserialize<'de> for PartKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = String::deserialize(deserializer)?;
        match kind.as_str() {
            "text" | "input_text" | "output_text" => Ok(Self),
            _ => Err(D::Error::custom(format_args!(
                "parts of type {kind:?} are not supported: this model reads text alone"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of text parts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Content, E> {
        Ok(Content(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut whole = String::new();
        while let Some(Part { kind: PartKind, text, .. }) = parts.next_element()? {
            whole.push_str(&text);
        }
        Ok(Content(whole))
    }
}
