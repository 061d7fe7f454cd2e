//! Values of parameters that mean nothing here.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// As much of a value as tells whether it asks for something.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Loose {
    /// `false`, an empty list, an empty object.
    Empty,
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// Anything else.
    Other,
}

impl Loose {
    /// Whether it is nothing, or one of these texts.
    pub(crate) fn is(&self, texts: &[&str]) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => texts.contains(&text.as_str()),
            Self::Number(_) | Self::Other => false,
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Loose, E> {
        Ok(if value { Loose::Other } else { Loose::Empty })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Loose, E> {
        Ok(Loose::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Loose, E> {
        Ok(Loose::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Loose, E> {
        Ok(Loose::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Loose, E> {
        Ok(Loose::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
        let mut loose = Loose::Empty;
        while list.next_element::<IgnoredAny>()?.is_some() {
            loose = Loose::Other;
        }
        Ok(loose)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        let mut loose = Loose::Empty;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            loose = Loose::Other;
        }
        Ok(loose)
    }
}
