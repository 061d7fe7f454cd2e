//! Chat templates: messages to the text, and to the tokens, that a model was trained on.
//!
//! Templates are Jinja programs out of model files. They run in minijinja with the settings and the
//! names that `transformers` gives them, under a limit on steps and recursion.

mod functions;
mod template;

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::gguf::{Gguf, GgufError};
use crate::hf::{HfDirectory, HfError, read_object, read_text};
use crate::tokenizer::{Specials, Tokenizer};

use template::Template;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or `developer`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message from its role and text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }
}

/// A chat template that cannot be used, or messages that it refuses.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ChatError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    HuggingFace(#[from] HfError),
    #[error(
        "the model's chat template cannot be used: {0}; use `--raw` to send \
         text without it"
    )]
    Template(String),
    #[error("the model's chat template refuses these messages: {0}")]
    Render(String),
    #[error("role {found:?} is not known; use system, user, assistant, tool or developer")]
    UnknownRole { found: String },
    #[error("the messages use every private character there is, none is left to mark text with")]
    NoFreeCharacter,
}

const ROLES: [&str; 5] = ["system", "user", "assistant", "tool", "developer"];

/// The chat template of a model.
#[derive(Debug)]
pub struct ChatTemplate {
    template: Template,
}

impl ChatTemplate {
    /// The template in `tokenizer.chat_template`, or `None` when the file has none (base models).
    ///
    /// # Errors
    /// When the template cannot be parsed.
    pub fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<Self>, ChatError> {
        let source: Option<&str> = gguf.metadata().get("tokenizer.chat_template")?;
        source.map(|source| Self::of(source, tokenizer)).transpose()
    }

    /// The template in `chat_template.jinja`, `chat_template.json` or `tokenizer_config.json`, or
    /// `None` when the directory has none (base models). Of several the one named `default` is taken.
    ///
    /// # Errors
    /// When a file is damaged, no template is the default, or it cannot be parsed.
    pub fn from_hf(
        directory: &HfDirectory,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Self>, ChatError> {
        let source = Self::source_in(directory)?;
        source.map(|source| Self::of(&source, tokenizer)).transpose()
    }

    /// The Jinja source of the template that [`Self::from_hf`] takes.
    pub(crate) fn source_in(directory: &HfDirectory) -> Result<Option<String>, ChatError> {
        const MAX_BYTES: u64 = 64 << 20;
        let folder = directory.path();
        if let Some(source) = read_text(folder, "chat_template.jinja", MAX_BYTES)? {
            return Ok(Some(source));
        }
        for file in ["chat_template.json", "tokenizer_config.json"] {
            let object = read_object(folder, file, MAX_BYTES)?.unwrap_or_default();
            match object.get("chat_template") {
                None | Some(Value::Null) => {}
                Some(value) => {
                    return default_template(value).map(|source| Some(source.to_owned()));
                }
            }
        }
        Ok(None)
    }

    fn of(source: &str, tokenizer: &Tokenizer) -> Result<Self, ChatError> {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        Self::new(source, text(tokenizer.bos()), text(tokenizer.eos()))
    }

    /// A template from its Jinja source and the texts of the BOS and EOS tokens.
    ///
    /// # Errors
    /// When the template cannot be parsed.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, ChatError> {
        Ok(ChatTemplate { template: Template::new(source, bos, eos)? })
    }

    /// Fixes the time that `strftime_now` tells, in seconds since 1970 UTC; else it is the clock's.
    #[must_use]
    pub fn at_unix_time(mut self, seconds: u64) -> Self {
        self.template.fix_time(seconds);
        self
    }

    /// The conversation as text; with `add_generation_prompt` it ends where the model's answer
    /// starts.
    ///
    /// Control tokens inside contents come out as they went in: use [`ChatTemplate::ids`] to feed a
    /// model.
    ///
    /// # Errors
    /// When a role is not known, or the template raises an error or runs too long.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        check_roles(messages)?;
        self.template.render(messages, add_generation_prompt)
    }

    /// The tokens of the conversation. The template's control tokens are control tokens; those that
    /// occur inside contents are plain text, so that nobody can end a turn or start another one by
    /// typing its token. No BOS is added beyond what the template writes, as in `transformers`.
    ///
    /// For contents without the text of a control token the ids are those of the rendered text.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn ids(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, ChatError> {
        check_roles(messages)?;
        let mut disguise = Disguise::new(messages);
        let masked = messages
            .iter()
            .map(|m| Ok(Message::new(&m.role, disguise.apply(tokenizer, &m.content)?)))
            .collect::<Result<Vec<Message>, ChatError>>()?;
        let text = self.template.render(&masked, add_generation_prompt)?;
        Ok(tokenizer.encode_with(&text, Specials::Parse, |piece| disguise.undo(piece)))
    }
}

/// A template, or the default one of a list of `{"name", "template"}`.
fn default_template(value: &Value) -> Result<&str, ChatError> {
    let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
    let source = match value {
        Value::Array(list) => list.iter().find(named).and_then(|entry| entry.get("template")),
        one => Some(one),
    };
    let none = || ChatError::Template("none of several is named default".into());
    source.and_then(Value::as_str).ok_or_else(none)
}

fn check_roles(messages: &[Message]) -> Result<(), ChatError> {
    match messages.iter().find(|m| !ROLES.contains(&m.role.as_str())) {
        Some(m) => Err(ChatError::UnknownRole { found: m.role.clone() }),
        None => Ok(()),
    }
}

/// Replaces the first character of every control token in contents by a stand-in that occurs in no
/// message, so that the token survives rendering as text and is not recognised afterwards.
struct Disguise {
    free: Box<dyn Iterator<Item = char>>,
    stand_ins: HashMap<char, char>,
    originals: HashMap<char, char>,
}

impl Disguise {
    fn new(messages: &[Message]) -> Self {
        let used: std::collections::HashSet<char> =
            messages.iter().flat_map(|m| m.content.chars()).filter(|c| is_private(*c)).collect();
        let free = PRIVATE.clone().chain(PRIVATE_PLANE).filter(move |c| !used.contains(c));
        Disguise { free: Box::new(free), stand_ins: HashMap::new(), originals: HashMap::new() }
    }

    fn apply(&mut self, tokenizer: &Tokenizer, content: &str) -> Result<String, ChatError> {
        let mut out = String::with_capacity(content.len());
        let mut done = 0;
        for at in tokenizer.control_starts(content) {
            out.push_str(&content[done..at]);
            let Some(first) = content[at..].chars().next() else { break };
            out.push(self.stand_in(first)?);
            done = at + first.len_utf8();
        }
        out.push_str(&content[done..]);
        Ok(out)
    }

    fn stand_in(&mut self, original: char) -> Result<char, ChatError> {
        if let Some(&known) = self.stand_ins.get(&original) {
            return Ok(known);
        }
        let new = self.free.next().ok_or(ChatError::NoFreeCharacter)?;
        self.stand_ins.insert(original, new);
        self.originals.insert(new, original);
        Ok(new)
    }

    fn undo(&self, text: &str) -> String {
        text.chars().map(|c| *self.originals.get(&c).unwrap_or(&c)).collect()
    }
}

/// Noncharacters, which no text should hold, then a private-use plane.
const PRIVATE: std::ops::RangeInclusive<char> = '\u{FDD0}'..='\u{FDEF}';
const PRIVATE_PLANE: std::ops::RangeInclusive<char> = '\u{F0000}'..='\u{FFFFD}';

fn is_private(c: char) -> bool {
    PRIVATE.contains(&c) || PRIVATE_PLANE.contains(&c)
}

#[cfg(test)]
mod tests;
