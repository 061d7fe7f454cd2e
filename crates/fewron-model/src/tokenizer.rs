//! Text to tokens and back, from the vocabulary inside a GGUF file or from `tokenizer.json`.
//!
//! Two kinds exist: byte-level BPE (`gpt2`: SmolLM, Llama 3, Qwen, Phi) and SentencePiece BPE
//! (`llama`: Gemma, Llama 2, TinyLlama). Text is first cut at special tokens, then (byte-level) into
//! words. Words merge in the BPE model of the `tokenizers` crate, SentencePiece text by the scores of
//! its vocabulary. Ids equal those of `transformers` with the model's own `tokenizer.json`.
//!
//! Whether a control token typed in text counts as one is always the caller's choice
//! ([`Specials`]); with [`Specials::Plain`] no text can produce one.

mod bpe;
mod bytes;
mod decode;
mod error;
mod hf;
mod sentencepiece;
mod specials;
mod split;
mod vocab;

use tokenizers::Model;
use tokenizers::models::bpe::BPE;

use crate::gguf::{Gguf, Metadata};

pub use decode::Decoder;
pub use error::TokenizerError;
pub use vocab::TokenType;

pub(crate) use hf::GgufVocabulary;
use hf::{Pipeline, Spelling};
use sentencepiece::SentencePiece;
use specials::{Piece, SpecialMatcher};
use split::PreTokenizer;
use vocab::{SpecialIds, Vocab};

/// What control tokens in text are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// Text like any other: for what users write.
    Plain,
    /// The tokens they name: for rendered chat templates.
    Parse,
}

#[derive(Debug)]
enum Kind {
    ByteLevel { pre: PreTokenizer, pre_name: String, bpe: Box<BPE> },
    SentencePiece { space_prefix: bool, model: SentencePiece },
    Pipeline(Box<Pipeline>),
}

/// The tokenizer of a model; immutable and shareable between threads.
#[derive(Debug)]
pub struct Tokenizer {
    kind: Kind,
    vocab: Vocab,
    matcher: SpecialMatcher,
    ids: SpecialIds,
    /// What a prompt starts with.
    prefix: Vec<u32>,
}

impl Tokenizer {
    /// Builds the tokenizer described by `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// When the vocabulary or the merges are missing or contradict each other, or the file asks for
    /// a tokenizer or a pre-tokenizer that fewron does not know.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        let meta = gguf.metadata();
        const MODEL: &str = "tokenizer.ggml.model";
        let model: &str =
            meta.get(MODEL)?.ok_or(TokenizerError::MissingVocabulary { key: MODEL })?;
        match model {
            "gpt2" => Self::byte_level(meta),
            "llama" => Self::sentencepiece(meta),
            other => Err(TokenizerError::UnknownModel { found: other.to_string() }),
        }
    }

    fn byte_level(meta: Metadata<'_>) -> Result<Self, TokenizerError> {
        let name: Option<&str> = meta.get("tokenizer.ggml.pre")?;
        let pre = name.and_then(PreTokenizer::from_name).ok_or_else(|| {
            let found = name.map_or("absent".to_string(), |n| format!("{n:?}"));
            TokenizerError::UnknownPre { found, known: PreTokenizer::known() }
        })?;
        let vocab = Vocab::from_metadata(meta)?;
        let bpe = bpe::byte_level(&vocab, &vocab::merges(meta)?, pre.ignores_merges())?;
        let pre_name = name.unwrap_or_default().to_string();
        let kind = Kind::ByteLevel { pre, pre_name, bpe: Box::new(bpe) };
        Self::assemble(meta, kind, vocab, pre.adds_bos(), &[])
    }

    fn sentencepiece(meta: Metadata<'_>) -> Result<Self, TokenizerError> {
        let vocab = Vocab::from_metadata(meta)?;
        let scores = vocab::scores(meta, vocab.len())?;
        let unk = SpecialIds::from_metadata(meta, &vocab)?.unk;
        let model = SentencePiece::new(&vocab, &scores, unk);
        let space_prefix = meta.get("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        // Converters write user-defined runs of ▁ with spaces; both spellings are the token.
        let also: Vec<(String, u32)> = vocab
            .iter()
            .filter(|(_, text, ty)| *ty == TokenType::UserDefined && text.contains(' '))
            .map(|(id, text, _)| (sentencepiece::normalize_spaces(text), id))
            .collect();
        let kind = Kind::SentencePiece { space_prefix, model };
        Self::assemble(meta, kind, vocab, true, &also)
    }

    fn assemble(
        meta: Metadata<'_>,
        kind: Kind,
        vocab: Vocab,
        bos_default: bool,
        also: &[(String, u32)],
    ) -> Result<Self, TokenizerError> {
        let ids = SpecialIds::from_metadata(meta, &vocab)?;
        let asked = meta.get("tokenizer.ggml.add_bos_token")?.unwrap_or(bos_default);
        let matcher = SpecialMatcher::new(&vocab, &ids.ends, also);
        let prefix = ids.bos.filter(|_| asked).into_iter().collect();
        Ok(Tokenizer { kind, vocab, matcher, ids, prefix })
    }

    /// The tokens of `text`, without BOS.
    ///
    /// Bytes that the vocabulary has no token for are left out, as in the reference tokenizers.
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<u32> {
        self.encode_with(text, specials, str::to_string)
    }

    /// The tokens of a prompt: BOS where the model's file asks for it, then `text` with control
    /// tokens as plain text.
    pub fn encode_prompt(&self, text: &str) -> Vec<u32> {
        self.prefix.iter().copied().chain(self.encode(text, Specials::Plain)).collect()
    }

    /// [`Tokenizer::encode`], with `restore` applied to the text between special tokens.
    pub(crate) fn encode_with(
        &self,
        text: &str,
        specials: Specials,
        restore: impl Fn(&str) -> String,
    ) -> Vec<u32> {
        let mut out = Vec::new();
        for (at, piece) in self.matcher.split(text, specials).into_iter().enumerate() {
            match piece {
                Piece::Token(id) => out.push(id),
                Piece::Text(text) => self.encode_text(&restore(text), at == 0, &mut out),
            }
        }
        out
    }

    /// Byte positions in `text` where the text of a control token starts.
    pub(crate) fn control_starts(&self, text: &str) -> Vec<usize> {
        self.matcher.control_starts(text)
    }

    fn encode_text(&self, text: &str, first: bool, out: &mut Vec<u32>) {
        match &self.kind {
            Kind::Pipeline(pipeline) => pipeline.encode(text, first, out),
            Kind::ByteLevel { pre, bpe, .. } => pre.split(text, &mut |word| {
                let word: String = word.bytes().map(bytes::byte_to_char).collect();
                // The model can only fail on an unknown token, and this one has none.
                out.extend(bpe.tokenize(&word).unwrap_or_default().iter().map(|t| t.id));
            }),
            Kind::SentencePiece { space_prefix, model } => {
                let mut spaced = sentencepiece::normalize_spaces(text);
                if *space_prefix && !text.is_empty() {
                    spaced.insert(0, sentencepiece::SPACE);
                }
                model.encode(&spaced, out);
            }
        }
    }

    /// The text of `ids`. Bytes that form no character become U+FFFD; ids outside the vocabulary
    /// give nothing. With `skip_special`, control tokens give nothing either.
    ///
    /// The space that a SentencePiece tokenizer puts before a text is taken away again; use
    /// [`Tokenizer::decoder`] for tokens that continue a text.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        ids.iter().for_each(|&id| self.append_bytes(id, skip_special, &mut bytes));
        let prefixed = self.spelling() == Spelling::SentencePiece { space_prefix: true };
        let bytes = bytes.strip_prefix(b" ").filter(|_| prefixed).unwrap_or(&bytes);
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// A decoder for tokens that come one by one and continue a text.
    pub fn decoder(&self, skip_special: bool) -> Decoder<'_> {
        Decoder::new(self, skip_special)
    }

    fn spelling(&self) -> Spelling {
        match &self.kind {
            Kind::ByteLevel { .. } => Spelling::ByteLevel,
            Kind::SentencePiece { space_prefix, .. } => {
                Spelling::SentencePiece { space_prefix: *space_prefix }
            }
            Kind::Pipeline(pipeline) => pipeline.spelling,
        }
    }

    fn append_bytes(&self, id: u32, skip_special: bool, out: &mut Vec<u8>) {
        let (Some(text), Some(ty)) = (self.vocab.text(id), self.vocab.token_type(id)) else {
            return;
        };
        match (ty, self.spelling()) {
            (TokenType::Control | TokenType::Unknown, _) if skip_special => {}
            (TokenType::Normal, Spelling::ByteLevel) => {
                match text.chars().map(bytes::char_to_byte).collect::<Option<Vec<u8>>>() {
                    Some(bytes) => out.extend(bytes),
                    None => out.extend(text.as_bytes()),
                }
            }
            (TokenType::Normal, Spelling::SentencePiece { .. }) => {
                out.extend(text.replace(sentencepiece::SPACE, " ").as_bytes());
            }
            (TokenType::Byte, _) => match bytes::byte_token(text) {
                Some(byte) => out.push(byte),
                None => out.extend(text.as_bytes()),
            },
            (TokenType::Unused, _) => {}
            _ => out.extend(text.as_bytes()),
        }
    }

    /// The bytes that a token adds to a text: part of a character, maybe. Empty for an id outside the
    /// vocabulary.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_bytes(id, false, &mut bytes);
        bytes
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The beginning-of-text token.
    pub fn bos(&self) -> Option<u32> {
        self.ids.bos
    }

    /// The end-of-text token.
    pub fn eos(&self) -> Option<u32> {
        self.ids.eos
    }

    /// The end-of-turn token: the one the file names, else a control token with a usual name such as
    /// `<|im_end|>` or `<end_of_turn>`.
    pub fn eot(&self) -> Option<u32> {
        self.ids.eot
    }

    /// Whether generation ends at this token: end of text, end of turn, and the control tokens that
    /// llama.cpp counts as such.
    pub fn is_end(&self, id: u32) -> bool {
        self.ids.ends.binary_search(&id).is_ok()
    }

    /// Whether a prompt starts with BOS by the rule of the model's file.
    pub fn add_bos(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// The token as the vocabulary spells it (`Ġthe`, `▁the`, `<0x0A>`), or `None` for an id
    /// outside it.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocab.text(id)
    }

    /// What the token is, or `None` for an id outside the vocabulary.
    pub fn token_type(&self, id: u32) -> Option<TokenType> {
        self.vocab.token_type(id)
    }

    /// The kind in words, such as `byte-level BPE (smollm)`.
    pub fn kind(&self) -> String {
        match &self.kind {
            Kind::ByteLevel { pre_name, .. } => format!("byte-level BPE ({pre_name})"),
            Kind::SentencePiece { .. } => "SentencePiece BPE".to_string(),
            Kind::Pipeline(pipeline) => match pipeline.spelling {
                Spelling::ByteLevel => "byte-level BPE (tokenizer.json)".to_string(),
                Spelling::SentencePiece { .. } => "SentencePiece BPE (tokenizer.json)".to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
