//! Tokenizers of Hugging Face directories: `tokenizer.json`, with what `tokenizer_config.json` and
//! the generation's configuration say about special tokens.
//!
//! Words are found and merged by the `tokenizers` crate. Special tokens are matched by
//! [`super::specials`], so that [`super::Specials`] holds here too.

mod export;
mod file;
mod settings;

use std::collections::BTreeMap;

use tokenizers::models::bpe::{BPE, BpeBuilder, Merges, Vocab as BpeVocab};
use tokenizers::{
    Model as _, NormalizedString, Normalizer as _, NormalizerWrapper, OffsetReferential,
    OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper,
};

use crate::hf::{HfDirectory, read_text};

use super::error::TokenizerError;
use super::specials::SpecialMatcher;
use super::vocab::{SpecialIds, TokenType, Vocab};
use super::{Kind, Tokenizer, bytes, sentencepiece};
pub(crate) use export::GgufVocabulary;
use file::{Added, BpeModel, TokenizerFile};
use settings::Settings;

const FILE: &str = "tokenizer.json";
/// Longest tokenizer that is read; Gemma's has 33 MB.
const MAX_FILE_BYTES: u64 = 512 << 20;
/// Ids beyond this belong to no vocabulary.
const MAX_IDS: u32 = 1 << 22;

/// How the vocabulary spells text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// A character for each byte.
    ByteLevel,
    /// `▁` for a space, `<0x0A>` for a byte.
    SentencePiece {
        /// Decoding takes away a space at the start.
        space_prefix: bool,
    },
}

/// Normalizer, pre-tokenizer and BPE of a `tokenizer.json`.
#[derive(Debug)]
pub(super) struct Pipeline {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    model: BPE,
    pub(super) spelling: Spelling,
    /// The start of a text, but not what follows a special token, gets a space.
    space_first: bool,
}

impl Pipeline {
    /// Appends the tokens of a text without special tokens; `first` if it starts the whole text.
    pub(super) fn encode(&self, text: &str, first: bool, out: &mut Vec<u32>) {
        let spaced = self.space_first && first && !text.starts_with([' ', sentencepiece::SPACE]);
        let mut text =
            NormalizedString::from(if spaced { format!(" {text}") } else { text.into() });
        // Normalizers fail on no text, and BPE only on an unknown token that it does not have.
        if let Some(normalizer) = &self.normalizer {
            let _ = normalizer.normalize(&mut text);
        }
        let mut words = PreTokenizedString::from(text);
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            let _ = pre_tokenizer.pre_tokenize(&mut words);
        }
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            if !word.is_empty() {
                out.extend(self.model.tokenize(word).unwrap_or_default().iter().map(|t| t.id));
            }
        }
    }
}

impl Tokenizer {
    /// Builds the tokenizer of a Hugging Face directory.
    ///
    /// # Errors
    /// When `tokenizer.json` is missing or damaged, or asks for something that fewron does not have:
    /// another model than BPE, special tokens that match whole words only, tokens added after a text.
    pub fn from_hf(directory: &HfDirectory) -> Result<Self, TokenizerError> {
        let file = TokenizerFile::read(directory)?;
        let settings = Settings::read(directory.path())?;
        let mut added: BTreeMap<u32, Added> =
            file.added_tokens.into_iter().map(|token| (token.id, token)).collect();
        for token in &settings.added {
            added.entry(token.id).or_insert_with(|| token.clone());
        }
        if let Some(token) = added.values().find(|token| token.single_word) {
            let problem =
                format!("has the token {:?} for whole words only (single_word)", token.content);
            return Err(TokenizerError::Unsupported { problem });
        }
        let spelling = file::spelling(file.decoder.as_ref(), &file.model)?;
        let vocab = vocabulary(&file.model, &added, &settings, spelling)?;
        let id =
            |text: &str| vocab.iter().find(|(_, known, _)| *known == text).map(|(id, _, _)| id);
        let named = |text: &Option<String>| text.as_deref().and_then(id);
        let (bos, eos) = (named(&settings.bos), named(&settings.eos));
        let unk = file.model.unk_token.as_deref().and_then(id);
        if let Some(&id) = settings.ends.iter().find(|id| **id as usize >= vocab.len()) {
            let (key, last) = ("eos_token_id".to_owned(), vocab.len() - 1);
            return Err(TokenizerError::BadId { key, id, last });
        }
        let ends = settings.ends.iter().copied().chain(eos);
        let ids = SpecialIds { bos, eos, unk, ..SpecialIds::default() }.complete(&vocab, ends);
        let prefix = match settings.adds {
            Some((false, _)) => Vec::new(),
            Some((true, _)) => bos.into_iter().collect(),
            None => file::added_around(file.post_processor.as_ref())?,
        };
        if settings.adds.is_some_and(|(_, adds_eos)| adds_eos) && eos.is_some() {
            return Err(file::adds_after("eos_token"));
        }
        let mut matcher = SpecialMatcher::new(&vocab, &ids.ends, &[]);
        for token in added.values() {
            matcher.strip(token.id, token.lstrip, token.rstrip);
        }
        let (pre_tokenizer, space_first) = file::pre_tokenizer(file.pre_tokenizer)?;
        let model = bpe(file.model, &vocab)?;
        let pipeline =
            Pipeline { normalizer: file.normalizer, pre_tokenizer, model, spelling, space_first };
        let kind = Kind::Pipeline(Box::new(pipeline));
        Ok(Tokenizer { kind, vocab, matcher, ids, prefix })
    }
}

impl TokenizerFile {
    fn read(directory: &HfDirectory) -> Result<Self, TokenizerError> {
        let text = read_text(directory.path(), FILE, MAX_FILE_BYTES)?
            .ok_or(TokenizerError::MissingTokenizerJson)?;
        TokenizerFile::parse(&text)
    }
}

/// All tokens by id, with what they are.
fn vocabulary(
    model: &BpeModel,
    added: &BTreeMap<u32, Added>,
    settings: &Settings,
    spelling: Spelling,
) -> Result<Vocab, TokenizerError> {
    let last = model.vocab.values().chain(added.keys()).max().copied();
    let last = last.ok_or(TokenizerError::MissingVocabulary { key: "model.vocab" })?;
    if last >= MAX_IDS {
        let key = FILE.to_owned();
        return Err(TokenizerError::BadId { key, id: last, last: MAX_IDS as usize - 1 });
    }
    let mut tokens = vec![("", TokenType::Unused); last as usize + 1];
    for (text, &id) in &model.vocab {
        let byte = spelling != Spelling::ByteLevel && bytes::byte_token(text).is_some();
        let named = settings.is_special(text);
        let ty = match (byte, named) {
            (true, _) => TokenType::Byte,
            (false, true) => TokenType::Control,
            (false, false) => TokenType::Normal,
        };
        tokens[id as usize] = (text, ty);
    }
    for token in added.values() {
        let special = token.special || settings.is_special(&token.content);
        let ty = if special { TokenType::Control } else { TokenType::UserDefined };
        tokens[token.id as usize] = (&token.content, ty);
    }
    Ok(Vocab::from_tokens(tokens.into_iter()))
}

/// The BPE model. Control tokens stay out of it, so that no text merges into one.
fn bpe(model: BpeModel, vocab: &Vocab) -> Result<BPE, TokenizerError> {
    let is_control = |text: &str| {
        let id = model.vocab.get(text);
        id.is_some_and(|&id| vocab.token_type(id) == Some(TokenType::Control))
    };
    let mut merges: Merges = Vec::with_capacity(model.merges.len());
    for (at, merge) in model.merges.iter().enumerate() {
        let fail = |problem| {
            let text = merge.0.as_ref().map_or_else(String::new, |(a, b)| format!("{a} {b}"));
            TokenizerError::BadMerge { at, text, problem }
        };
        let (left, right) = merge.0.as_ref().ok_or_else(|| fail("not two tokens"))?;
        let known = |text: &str| model.vocab.contains_key(text);
        let skip = model.continuing_subword_prefix.as_deref().unwrap_or_default();
        let joined = [left, right.strip_prefix(skip).unwrap_or(right)].concat();
        if !known(left) || !known(right) || !known(&joined) {
            return Err(fail("it names a token that is not in model.vocab"));
        }
        if ![left, right, &joined].into_iter().any(|text| is_control(text)) {
            merges.push((left.clone(), right.clone()));
        }
    }
    let keep = |text: &str| !is_control(text) || model.unk_token.as_deref() == Some(text);
    let words: BpeVocab =
        model.vocab.iter().filter(|(text, _)| keep(text)).map(|(t, &id)| (t.clone(), id)).collect();
    let mut builder = BpeBuilder::new()
        .vocab_and_merges(words, merges)
        .fuse_unk(model.fuse_unk)
        .byte_fallback(model.byte_fallback)
        .ignore_merges(model.ignore_merges);
    if let Some(unk) = model.unk_token.filter(|unk| model.vocab.contains_key(unk)) {
        builder = builder.unk_token(unk);
    }
    if let Some(prefix) = model.continuing_subword_prefix {
        builder = builder.continuing_subword_prefix(prefix);
    }
    if let Some(suffix) = model.end_of_word_suffix {
        builder = builder.end_of_word_suffix(suffix);
    }
    builder.build().map_err(|e| TokenizerError::Refused(e.to_string()))
}

#[cfg(test)]
mod tests;
