//! A directory's tokenizer in the keys of GGUF files (`tokenizer.ggml.*`).
//!
//! Two kinds of tokenizer can be said there: byte-level BPE with a split that has a name, and
//! SentencePiece BPE, whose merges follow from scores. Everything else is refused.

mod pieces;

use std::collections::HashSet;

use serde_json::Value;

use super::super::split::PreTokenizer;
use super::file::{kind, parts};
use super::{Settings, Spelling, TokenType, Tokenizer, TokenizerError, TokenizerFile};
use super::{bytes, sentencepiece};
use crate::gguf::Field;
use crate::hf::HfDirectory;

/// `tokenizer.ggml.*`, and what readers of it do otherwise.
pub(crate) struct GgufVocabulary {
    pub(crate) fields: Vec<(String, Field)>,
    pub(crate) notes: Vec<String>,
}

impl Tokenizer {
    /// The tokenizer of a directory in the keys of GGUF files, with tokens for all `rows` of the
    /// embedding.
    ///
    /// # Errors
    /// As [`Tokenizer::from_hf`], and when GGUF files cannot say what `tokenizer.json` says.
    pub(crate) fn gguf_vocabulary(
        directory: &HfDirectory,
        rows: usize,
    ) -> Result<GgufVocabulary, TokenizerError> {
        let tokenizer = Tokenizer::from_hf(directory)?;
        let file = TokenizerFile::read(directory)?;
        let settings = Settings::read(directory.path())?;
        let mut export =
            Export { tokenizer, file, settings, fields: Vec::new(), notes: Vec::new() };
        export.check_added()?;
        export.tokens(rows)?;
        match export.tokenizer.spelling() {
            Spelling::ByteLevel => export.byte_level()?,
            Spelling::SentencePiece { .. } => export.sentencepiece()?,
        }
        export.special_ids()?;
        Ok(GgufVocabulary { fields: export.fields, notes: export.notes })
    }
}

struct Export {
    tokenizer: Tokenizer,
    file: TokenizerFile,
    settings: Settings,
    fields: Vec<(String, Field)>,
    notes: Vec<String>,
}

fn refuse(problem: impl Into<String>) -> TokenizerError {
    TokenizerError::NotInGguf { problem: problem.into() }
}

/// A value of `tokenizer.json` for a message.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut shown: String = text.chars().take(160).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

impl Export {
    fn set(&mut self, key: &str, field: Field) {
        self.fields.push((format!("tokenizer.ggml.{key}"), field));
    }

    /// Tokens that take white space along.
    fn check_added(&self) -> Result<(), TokenizerError> {
        let mut added = self.file.added_tokens.iter().chain(&self.settings.added);
        match added.find(|token| token.lstrip || token.rstrip) {
            None => Ok(()),
            Some(token) => Err(refuse(format!(
                "lets the token {:?} take white space beside it along (lstrip, rstrip)",
                token.content
            ))),
        }
    }

    /// What a token is in the file.
    fn token_type(&self, id: u32, ty: TokenType) -> TokenType {
        let unknown =
            Some(id) == self.tokenizer.ids.unk && self.tokenizer.spelling() != Spelling::ByteLevel;
        if unknown { TokenType::Unknown } else { ty }
    }

    /// Texts and types of all rows of the embedding; those without a token are padding.
    fn tokens(&mut self, rows: usize) -> Result<(), TokenizerError> {
        let vocab = &self.tokenizer.vocab;
        if vocab.len() > rows {
            let problem =
                format!("has {} tokens for the {rows} rows of the embedding", vocab.len());
            return Err(refuse(problem));
        }
        let spaces = self.tokenizer.spelling() != Spelling::ByteLevel;
        let (mut texts, mut types) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for (id, text, ty) in vocab.iter() {
            texts.push(match ty {
                TokenType::Unused if text.is_empty() => format!("[PAD{id}]"),
                // Readers look for these in the text before they replace spaces.
                TokenType::UserDefined if spaces => text.replace(sentencepiece::SPACE, " "),
                _ => text.to_owned(),
            });
            types.push(self.token_type(id, ty).ggml_id());
        }
        texts.extend((texts.len()..rows).map(|id| format!("[PAD{id}]")));
        types.resize(rows, TokenType::Unused.ggml_id());
        let mut seen = HashSet::new();
        if let Some(twice) = texts.iter().find(|text| !seen.insert(text.as_str())) {
            return Err(refuse(format!("has the token {twice:?} twice")));
        }
        self.set("tokens", Field::Strs(texts));
        self.set("token_type", Field::I32s(types));
        Ok(())
    }

    fn byte_level(&mut self) -> Result<(), TokenizerError> {
        let model = &self.file.model;
        if model.continuing_subword_prefix.is_some() || model.end_of_word_suffix.is_some() {
            return Err(refuse("marks the parts of words (continuing_subword_prefix)"));
        }
        let all_bytes =
            (0..=255).all(|byte| model.vocab.contains_key(&bytes::byte_to_char(byte).to_string()));
        if model.unk_token.is_some() && !all_bytes {
            return Err(refuse("has an unk_token for bytes that are no tokens"));
        }
        let pre = self.pre_tokenizer()?;
        self.check_normalizer()?;
        let merges = self.merges()?;
        self.set("model", Field::Str("gpt2".into()));
        self.set("pre", Field::Str(pre.into()));
        self.set("merges", Field::Strs(merges));
        Ok(())
    }

    /// The name of the split.
    fn pre_tokenizer(&self) -> Result<&'static str, TokenizerError> {
        let value = self.file.pre_tokenizer.as_ref();
        let unknown = || {
            let value = value.map_or_else(|| "null".to_owned(), shown);
            let known = PreTokenizer::known();
            refuse(format!("has the pre-tokenizer {value}, none of those with a name ({known})"))
        };
        let parts = value.map(|value| parts(value, "pretokenizers")).unwrap_or_default();
        let flag = |part: &Value, key: &str, default: bool| {
            part.get(key).and_then(Value::as_bool).unwrap_or(default)
        };
        let bytes_only = |part: &Value, splits: bool| {
            kind(part) == "ByteLevel"
                && !flag(part, "add_prefix_space", true)
                && flag(part, "use_regex", true) == splits
        };
        let name = match parts.as_slice() {
            [all] if bytes_only(all, true) => Some("gpt-2"),
            [digits, all] if bytes_only(all, true) => {
                let each = kind(digits) == "Digits" && flag(digits, "individual_digits", false);
                each.then_some("smollm")
            }
            [split, all] if bytes_only(all, false) && kind(split) == "Split" => {
                let isolated = split.get("behavior").and_then(Value::as_str) == Some("Isolated")
                    && !flag(split, "invert", false);
                let pattern = split.pointer("/pattern/Regex").and_then(Value::as_str);
                pattern.filter(|_| isolated).and_then(PreTokenizer::name_of_pattern)
            }
            _ => None,
        };
        let name = name.ok_or_else(unknown)?;
        let ignores = PreTokenizer::from_name(name).is_some_and(PreTokenizer::ignores_merges);
        if self.file.model.ignore_merges != ignores {
            let found = self.file.model.ignore_merges;
            return Err(refuse(format!("has ignore_merges {found} with the split of {name}")));
        }
        Ok(name)
    }

    fn normalizer(&self) -> Result<Value, TokenizerError> {
        serde_json::to_value(&self.file.normalizer)
            .map_err(|e| TokenizerError::Json { problem: format!("normalizer: {e}") })
    }

    fn check_normalizer(&mut self) -> Result<(), TokenizerError> {
        let normalizer = self.normalizer()?;
        let parts: Vec<_> =
            parts(&normalizer, "normalizers").into_iter().filter(|part| !part.is_null()).collect();
        if let Some(other) = parts.iter().find(|part| kind(part) != "NFC") {
            return Err(refuse(format!("has the normalizer {}", shown(other))));
        }
        if !parts.is_empty() {
            self.notes.push(
                "the tokenizer composes characters (NFC), which GGUF files cannot say: decomposed \
                 text gets other tokens"
                    .into(),
            );
        }
        Ok(())
    }

    fn merges(&self) -> Result<Vec<String>, TokenizerError> {
        let mut merges = Vec::with_capacity(self.file.model.merges.len());
        for (left, right) in self.file.model.merges.iter().filter_map(|merge| merge.0.as_ref()) {
            if left.contains(' ') || right.contains(' ') {
                return Err(refuse(format!("merges {left:?} and {right:?}, with a space")));
            }
            merges.push(format!("{left} {right}"));
        }
        Ok(merges)
    }

    fn special_ids(&mut self) -> Result<(), TokenizerError> {
        let ids = self.tokenizer.ids.clone();
        let id = |text: &Option<String>| {
            let text = text.as_deref()?;
            self.tokenizer.vocab.iter().find(|(_, known, _)| *known == text).map(|(id, _, _)| id)
        };
        let (unk, pad) = (ids.unk.or(id(&self.settings.unk)), id(&self.settings.pad));
        let named = [
            ("bos", ids.bos),
            ("eos", ids.eos),
            ("eot", ids.eot),
            ("unknown", unk),
            ("padding", pad),
        ];
        for (name, id) in named {
            if let Some(id) = id {
                self.set(&format!("{name}_token_id"), Field::U32(id));
            }
        }
        self.further_ends();
        if ids.eos.is_none() {
            self.notes.push(
                "the tokenizer names no eos_token: llama.cpp ends texts at a token of its own choice"
                    .into(),
            );
        }
        let adds_bos = match (self.tokenizer.prefix.as_slice(), ids.bos) {
            ([], _) => false,
            ([first], Some(bos)) if *first == bos => true,
            (prefix, _) => {
                let prefix = prefix.iter().filter_map(|&id| self.tokenizer.token_text(id));
                let prefix: Vec<_> = prefix.collect();
                return Err(refuse(format!("starts texts with {prefix:?}, not with bos_token")));
            }
        };
        self.set("add_bos_token", Field::Bool(adds_bos));
        self.set("add_eos_token", Field::Bool(false));
        Ok(())
    }

    /// Ends of a generation besides EOS and end of turn that no reader knows by their texts.
    fn further_ends(&mut self) {
        let ids = &self.tokenizer.ids;
        let known = ids.known_ends(&self.tokenizer.vocab);
        let rest: Vec<u32> = ids.ends.iter().copied().filter(|id| !known.contains(id)).collect();
        if let Some(&first) = rest.first() {
            self.set("eom_token_id", Field::U32(first));
        }
        for &id in rest.iter().skip(1) {
            let text = self.tokenizer.token_text(id).unwrap_or_default();
            self.notes.push(format!(
                "generation ends at {text:?} too (eos_token_id), which GGUF files have no key for"
            ));
        }
    }
}
