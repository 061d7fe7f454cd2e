//! Calibration text in windows: what plans are made from, and what is held out.

use crate::data::{CALIBRATION_TEXT, DataError, Dataset};
use fewron_model::tokenizer::{Specials, Tokenizer};
use sha2::{Digest, Sha256};
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

impl Windows {
    /// Plain text from files, or the built-in one: windows of 256 tokens, spread evenly over the text
    /// where it makes more than `tokens`.
    ///
    /// # Errors
    /// When a file cannot be read or is too short.
    pub fn of_text(
        files: &[&str],
        tokenizer: &Tokenizer,
        context: usize,
        tokens: usize,
    ) -> Result<Self, WindowsError> {
        let mut hash = Sha256::new();
        let mut windows = Vec::new();
        let (mut all, mut names) = (0, Vec::new());
        for file in files {
            let (name, text) = read(file)?;
            hash.update(text.as_bytes());
            let ids = tokenizer.encode(&text, Specials::Plain);
            all += ids.len();
            windows.extend(cut(&ids, tokenizer, context, tokens / files.len()));
            names.push(name);
        }
        let name = names.join("+");
        if windows.len() < 2 {
            return Err(WindowsError::TooShort { name, tokens: all });
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self::split(name, sha256, windows))
    }

    /// Texts that a model answered: each window is a prompt, which is dense, and its answer; see
    /// [`super::answer`].
    ///
    /// # Errors
    /// When there are too few to hold some out.
    pub fn of_answers(data: &Dataset, windows: Vec<Window>) -> Result<Self, WindowsError> {
        let windows: Vec<Window> = windows.into_iter().filter(|w| w.sparse() > 1).collect();
        if windows.len() < 2 {
            let tokens = windows.iter().map(|w| w.tokens.len()).sum();
            return Err(WindowsError::TooShort { name: data.name.clone(), tokens });
        }
        Ok(Self::split(data.name.clone(), data.sha256.clone(), windows))
    }

    fn split(name: String, sha256: String, windows: Vec<Window>) -> Self {
        let (mut calibration, mut held_out) = (Vec::new(), Vec::new());
        for (index, window) in windows.into_iter().enumerate() {
            // From the second on, so that of two windows one is held out.
            match index % HELD_OUT_EVERY == 1 && held_out.len() < MOST_HELD_OUT {
                true => held_out.push(window),
                false => calibration.push(window),
            }
        }
        Self { name, sha256, calibration, held_out }
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
