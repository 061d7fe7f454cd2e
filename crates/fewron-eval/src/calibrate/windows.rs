//! Calibration text in windows: what plans are made from, and what is held out.

use crate::data::{CALIBRATION_TEXT, DataError};
use crate::hash::{sha256, sha256_of};
use fewron_model::tokenizer::{Specials, Tokenizer};
use std::fs;
use std::path::Path;
use thiserror::Error;

/// Tokens of a window of plain text, BOS included.
const WINDOW: usize = 256;

/// Tokens at the start of a window of plain text that are dense, as a prompt is.
const DENSE: usize = 32;

/// One window in this many is held out.
const HELD_OUT_EVERY: usize = 8;

/// Most windows that are held out: what is measured on them is measured many times.
const MOST_HELD_OUT: usize = 24;

/// A text that is run as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// How many of them, from the first on, are dense.
    pub dense: usize,
}

impl Window {
    /// Tokens that are sparse.
    pub fn sparse(&self) -> usize {
        self.tokens.len() - self.dense
    }
}

/// Calibration text.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Where it comes from.
    pub name: String,
    /// SHA-256 of the data's bytes.
    pub sha256: String,
    /// What plans are made from.
    pub calibration: Vec<Window>,
    /// What they are measured on.
    pub held_out: Vec<Window>,
}

/// Why there are no windows.
#[derive(Debug, Error)]
pub enum WindowsError {
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Too little text to hold some out.
    #[error(
        "{name} is too short to calibrate on: it makes {tokens} tokens, and at least {} are needed, \
         some of them to be held out; give a longer text with --data", 2 * WINDOW
    )]
    TooShort {
        /// The data.
        name: String,
        /// What it makes.
        tokens: usize,
    },
}

/// Windows from one source.
pub struct Part {
    name: String,
    sha256: String,
    windows: Vec<Window>,
    /// What the source makes, cut into windows or not.
    tokens: usize,
}

impl Part {
    /// A plain text from a file, or the built-in one: windows of 256 tokens, spread evenly over the text
    /// where it makes more than `tokens`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_text(
        file: &str,
        tokenizer: &Tokenizer,
        context: usize,
        tokens: usize,
    ) -> Result<Self, WindowsError> {
        let (name, text) = read(file)?;
        let ids = tokenizer.encode(&text, Specials::Plain);
        let windows = cut(&ids, tokenizer, context, tokens);
        Ok(Self { name, sha256: sha256(text.as_bytes()), windows, tokens: ids.len() })
    }

    /// What a model wrote: windows of what it was given, which is dense, and what it wrote then; see
    /// [`super::answer`] and [`super::write_on`].
    pub fn of_written(name: String, windows: Vec<Window>) -> Self {
        let bytes = windows.iter().flat_map(|window| &window.tokens).map(|id| id.to_le_bytes());
        let sha256 = sha256_of(bytes);
        let tokens = windows.iter().map(|window| window.tokens.len()).sum();
        let windows = windows.into_iter().filter(|window| window.sparse() > 1).collect();
        Self { name, sha256, windows, tokens }
    }
}

/// Beginnings of texts for a model to go on with: pieces of the built-in text, as the dense parts of
/// windows are, so many that they and what is written make about `tokens`. With the most tokens that
/// may be written after each.
pub fn openings(tokenizer: &Tokenizer, context: usize, tokens: usize) -> (Vec<Vec<u32>>, usize) {
    let ids = tokenizer.encode(CALIBRATION_TEXT, Specials::Plain);
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let room = WINDOW.min(context) - usize::from(bos.is_some());
    let dense = DENSE.min(room / 2);
    let wanted = (tokens / room).max(2);
    let last = ids.len().saturating_sub(dense);
    let opening = |index: usize| {
        let piece = ids[index * last / wanted..].iter().take(dense);
        bos.into_iter().chain(piece.copied()).collect()
    };
    ((0..wanted).map(opening).collect(), room - dense)
}

impl Windows {
    /// Windows from some sources, some of them held out.
    ///
    /// # Errors
    /// When there are too few to hold some out.
    pub fn new(parts: Vec<Part>) -> Result<Self, WindowsError> {
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        let name = names.join("+");
        let sha256 = match parts.as_slice() {
            [part] => part.sha256.clone(),
            parts => sha256_of(parts.iter().map(|part| &part.sha256)),
        };
        let tokens = parts.iter().map(|part| part.tokens).sum();
        let windows: Vec<Window> = parts.into_iter().flat_map(|part| part.windows).collect();
        if windows.len() < 2 {
            return Err(WindowsError::TooShort { name, tokens });
        }
        let (mut calibration, mut held_out) = (Vec::new(), Vec::new());
        for (index, window) in windows.into_iter().enumerate() {
            // From the second on, so that of two windows one is held out.
            match index % HELD_OUT_EVERY == 1 && held_out.len() < MOST_HELD_OUT {
                true => held_out.push(window),
                false => calibration.push(window),
            }
        }
        Ok(Self { name, sha256, calibration, held_out })
    }

    /// Tokens that plans are made from.
    pub fn tokens(&self) -> usize {
        self.calibration.iter().map(|window| window.tokens.len()).sum()
    }
}

/// The name and text of a file, or of the built-in text.
fn read(file: &str) -> Result<(String, String), WindowsError> {
    if file == "builtin" {
        return Ok((file.to_owned(), CALIBRATION_TEXT.to_owned()));
    }
    let path = Path::new(file);
    let name = path.file_name().map_or(file.into(), |name| name.to_string_lossy());
    let text = fs::read_to_string(path)
        .map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    Ok((name.into_owned(), text))
}

/// Windows of a text, at most `tokens` in all, spread evenly.
fn cut(ids: &[u32], tokenizer: &Tokenizer, context: usize, tokens: usize) -> Vec<Window> {
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let room = WINDOW.min(context) - usize::from(bos.is_some());
    let whole: Vec<&[u32]> = ids.chunks_exact(room).collect();
    let wanted = (tokens / room).clamp(1, whole.len().max(1));
    let window = |index: usize| Window {
        tokens: bos.into_iter().chain(whole[index].iter().copied()).collect(),
        dense: DENSE.min(room / 2),
    };
    let spread = (0..wanted).map(|index| index * whole.len() / wanted);
    spread.filter(|&index| index < whole.len()).map(window).collect()
}
