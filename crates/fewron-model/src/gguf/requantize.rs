//! Writing a model file anew with other element types.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Mutex;

use fewron_kernels::{DType, EncodeError, Isa, Matrix, Pool};
use thiserror::Error;

use super::recipe::{Change, Recipe};
use super::writer::{self, Entry, Field};
use super::{Gguf, GgufError, TensorInfo};

/// Version of ggml's block formats (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// Bytes of a tensor that are made before they are written, about.
const PIECE_BYTES: usize = 4 << 20;

/// Why a file could not be written anew.
#[derive(Debug, Error)]
pub enum RequantizeError {
    /// The source cannot be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A row of weights cannot be encoded.
    #[error("tensor {tensor}, row {row}: {problem}")]
    Encode {
        /// The tensor.
        tensor: String,
        /// The row, from 0.
        row: usize,
        /// What is in the way.
        problem: EncodeError,
    },
    /// The target cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The caller's progress function said so.
    #[error("stopped")]
    Stopped,
}

/// A model file, and what its tensors are to become.
pub struct Requantize<'a> {
    gguf: &'a Gguf,
    recipe: Recipe,
    changes: Vec<Change>,
}

impl<'a> Requantize<'a> {
    /// Decides what becomes of each tensor of `gguf`.
    ///
    /// # Errors
    /// As [`Recipe::changes`].
    pub fn new(gguf: &'a Gguf, recipe: Recipe) -> Result<Self, GgufError> {
        Ok(Self { gguf, recipe, changes: recipe.changes(gguf)? })
    }

    /// The tensors of the file, each with what becomes of it.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = (&'a TensorInfo, Change)> {
        self.gguf.tensors().zip(self.changes.iter().copied())
    }

    /// Bytes of all tensors in the new file, without padding.
    pub fn data_bytes(&self) -> u64 {
        self.changes().map(|(tensor, change)| bytes(tensor, change.to)).sum()
    }

    /// Writes the new file to `out`, tensor by tensor, with rows spread over the threads of the pool.
    ///
    /// Metadata is copied byte for byte, but for `general.file_type` and
    /// `general.quantization_version`. A tensor that keeps its type keeps its bytes. The same file
    /// comes out on every machine and with any number of threads.
    ///
    /// `progress` gets the tensor bytes that are written, now and then, and may stop the work.
    ///
    /// # Errors
    /// [`RequantizeError`]; `out` then holds a part of the file.
    pub fn write(
        &self,
        out: &mut impl Write,
        pool: &Pool,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), RequantizeError> {
        let alignment = self.gguf.index.alignment;
        let header = self.header(alignment)?;
        out.write_all(&header)?;
        pad(out, header.len() as u64, alignment)?;
        let mut written = 0;
        for (tensor, change) in self.changes() {
            self.pieces(tensor, change, pool, &mut |piece| {
                out.write_all(piece)?;
                written += piece.len() as u64;
                match progress(written) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(RequantizeError::Stopped),
                }
            })?;
            pad(out, bytes(tensor, change.to), alignment)?;
            self.gguf.release_tensor(&tensor.name);
        }
        Ok(())
    }

    fn header(&self, alignment: u64) -> Result<Vec<u8>, GgufError> {
        let metadata = self.gguf.metadata();
        let mut fields = Vec::new();
        for key in metadata.keys() {
            fields.extend(metadata.field(key)?.map(|field| (key.to_owned(), field)));
        }
        set(&mut fields, "general.file_type", self.recipe.file_type());
        set(&mut fields, "general.quantization_version", QUANTIZATION_VERSION);
        let shapes: Vec<Vec<u64>> = self
            .gguf
            .tensors()
            .map(|tensor| tensor.shape.iter().map(|&extent| extent as u64).collect())
            .collect();
        let entries = self.changes().zip(&shapes).map(|((tensor, change), shape)| Entry {
            name: &tensor.name,
            ggml_type: change.to.ggml_id(),
            shape,
            bytes: bytes(tensor, change.to),
        });
        Ok(writer::header(&fields, entries, alignment))
    }

    /// Gives the new bytes of a tensor to `write`, piece by piece.
    fn pieces(
        &self,
        tensor: &TensorInfo,
        change: Change,
        pool: &Pool,
        write: &mut dyn FnMut(&[u8]) -> Result<(), RequantizeError>,
    ) -> Result<(), RequantizeError> {
        let view = self.gguf.tensor(&tensor.name)?;
        if change.from == change.to {
            return view.data.chunks(PIECE_BYTES).try_for_each(write);
        }
        let (rows, cols) = (view.rows(), view.cols());
        let source = Matrix::new(view.dtype, rows, cols, view.data);
        let (Some(source), Some(row_bytes)) = (source, change.to.row_bytes(cols)) else {
            unreachable!("the header was checked, and the new type fits the rows");
        };
        let piece_rows = (PIECE_BYTES / row_bytes).clamp(1, rows);
        let mut piece = vec![0; piece_rows * row_bytes];
        for first in (0..rows).step_by(piece_rows) {
            let count = piece_rows.min(rows - first);
            let piece = &mut piece[..count * row_bytes];
            encode(pool, &source, first, change.to, piece).map_err(|(row, problem)| {
                RequantizeError::Encode { tensor: tensor.name.clone(), row, problem }
            })?;
            write(piece)?;
        }
        Ok(())
    }
}

/// Encodes the rows of `source` from `first` on that `out` has room for; an error names the first row that has
/// one.
pub(crate) fn encode(
    pool: &Pool,
    source: &Matrix<'_>,
    first: usize,
    to: DType,
    out: &mut [u8],
) -> Result<(), (usize, EncodeError)> {
    let (isa, cols) = (Isa::detect(), source.cols());
    let row_bytes = to.row_bytes(cols).unwrap_or_default();
    let failed: Mutex<Option<(usize, EncodeError)>> = Mutex::new(None);
    pool.rows(out, row_bytes, |index, out| {
        let mut row = vec![0.0; cols];
        source.dequantize_row(isa, first + index, &mut row);
        if let Err(problem) = to.encode_row(&row, out) {
            let mut failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if failed.is_none_or(|(row, _)| first + index < row) {
                *failed = Some((first + index, problem));
            }
        }
    });
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

/// Sets a metadata value in its place, or at the end.
fn set(fields: &mut Vec<(String, Field)>, key: &str, value: u32) {
    match fields.iter_mut().find(|(k, _)| k == key) {
        Some((_, field)) => *field = Field::U32(value),
        None => fields.push((key.to_owned(), Field::U32(value))),
    }
}

/// Bytes of a tensor's data in a type that fits its rows.
fn bytes(tensor: &TensorInfo, dtype: DType) -> u64 {
    let rows: usize = tensor.shape[1..].iter().product();
    rows as u64 * dtype.row_bytes(tensor.shape[0]).unwrap_or_default() as u64
}

/// Writes zeros from `len` to the next multiple of the alignment.
fn pad(out: &mut impl Write, len: u64, alignment: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), len.next_multiple_of(alignment) - len), out)?;
    Ok(())
}

#[cfg(test)]
mod tests;
