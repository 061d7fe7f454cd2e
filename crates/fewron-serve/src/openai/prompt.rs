//! Prompts of completions: a text, texts, tokens, or lists of tokens.

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Text, which the tokenizer reads.
    Text(String),
    /// Tokens, which are taken as they are.
    Tokens(Vec<u32>),
}

/// The prompts of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompts(pub(crate) Vec<Prompt>);

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptsVisitor)
    }
}

struct PromptsVisitor;

impl<'de> Visitor<'de> for PromptsVisitor {
    type Value = Prompts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list of texts, a list of tokens, or a list of lists of tokens")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Prompts, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Prompts, E> {
        Ok(Prompts(vec![Prompt::Text(text)]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Prompts, A::Error> {
        let (mut prompts, mut tokens) = (Vec::new(), Vec::new());
        while let Some(item) = list.next_element()? {
            match item {
                Item::Token(token) => tokens.push(token),
                Item::Prompt(prompt) => prompts.push(prompt),
            }
            if !prompts.is_empty() && !tokens.is_empty() {
                return Err(A::Error::custom("tokens and prompts cannot stand in one list"));
            }
        }
        if !tokens.is_empty() {
            prompts.push(Prompt::Tokens(tokens));
        }
        Ok(Prompts(prompts))
    }
}

/// An element of a list of prompts, or of the one prompt.
enum Item {
    Token(u32),
    Prompt(Prompt),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a token or a list of tokens")
    }

    fn visit_u64<E: Error>(self, token: u64) -> Result<Item, E> {
        let token = u32::try_from(token);
        token.map(Item::Token).map_err(|_| E::custom("a token is a number below 4294967296"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Item, E> {
        Ok(Item::Prompt(Prompt::Text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item, A::Error> {
        let mut tokens = Vec::new();
        while let Some(token) = list.next_element()? {
            tokens.push(token);
        }
        Ok(Item::Prompt(Prompt::Tokens(tokens)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<Prompt>, String> {
        serde_json::from_str::<Prompts>(json).map(|p| p.0).map_err(|e| e.to_string())
    }

    #[test]
    fn all_four_forms() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        assert_eq!(read(r#""a""#), Ok(vec![text("a")]));
        assert_eq!(read(r#"["a", "b"]"#), Ok(vec![text("a"), text("b")]));
        assert_eq!(read("[1, 2]"), Ok(vec![Prompt::Tokens(vec![1, 2])]));
        assert_eq!(
            read("[[1], [2, 3]]"),
            Ok(vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])])
        );
        assert_eq!(read("[]"), Ok(vec![]));
    }

    #[test]
    fn nothing_else() {
        for json in ["1", "null", "[1, \"a\"]", "[[\"a\"]]", "[-1]", "[1.5]", "[4294967296]", "{}"]
        {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
