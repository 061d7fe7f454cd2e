//! Writing a model file: its metadata, and its tensors in the types of a recipe.

mod changed;

use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::sync::Mutex;

use fewron_kernels::{DType, EncodeError, Isa, Matrix, Pool};
use thiserror::Error;

use super::recipe::{Change, Recipe};
use super::writer::{self, Entry, Field};
use super::{Gguf, GgufError};
use crate::mapped::Mapped;
use crate::model::Edit;

/// Version of ggml's block formats (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// Bytes of a tensor that are made before they are written, about.
const PIECE_BYTES: usize = 4 << 20;

/// Why a file could not be written.
#[derive(Debug, Error)]
pub enum NewFileError {
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

/// Where the weights of a tensor are.
#[derive(Debug)]
pub(crate) enum Data<'a> {
    /// In a range of a mapped file.
    Mapped(&'a Mapped, Range<usize>),
    /// In a range of a mapped file, but for these edits.
    Edited(&'a Mapped, Range<usize>, &'a [Edit]),
    /// In memory.
    Owned(Vec<u8>),
}

impl Data<'_> {
    fn bytes(&self, dtype: DType) -> Cow<'_, [u8]> {
        match self {
            Data::Mapped(map, range) => Cow::Borrowed(&map[range.clone()]),
            Data::Edited(map, range, edits) => {
                Cow::Owned(Edit::make(edits, dtype, &map[range.clone()]))
            }
            Data::Owned(bytes) => Cow::Borrowed(bytes),
        }
    }

    fn release(&self) {
        match self {
            Data::Mapped(map, range) | Data::Edited(map, range, _) => map.release(range.clone()),
            Data::Owned(_) => {}
        }
    }
}

/// How the weights of a new tensor follow from those there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weights {
    AsTheyAre,
    /// Each is this much more.
    Plus(f32),
    /// The two halves of the rows of each head, of this many rows, are interleaved: (i, i + d/2)
    /// become neighbours.
    Interleaved {
        head_dim: usize,
    },
}

impl Weights {
    /// The row that becomes this one.
    fn source_row(self, row: usize) -> usize {
        match self {
            Weights::Interleaved { head_dim } => {
                let within = row % head_dim;
                row - within + within % 2 * (head_dim / 2) + within / 2
            }
            _ => row,
        }
    }
}

/// A tensor of a new file.
#[derive(Debug)]
pub struct NewTensor<'a> {
    /// Name, such as `blk.3.ffn_down.weight`.
    pub name: String,
    /// Extents in ggml order: columns first.
    pub shape: Vec<usize>,
    /// Its type, and the one that it had.
    pub change: Change,
    pub(crate) data: Data<'a>,
    pub(crate) weights: Weights,
}

impl NewTensor<'_> {
    /// Bytes of its data in the new file, without padding.
    pub fn len_bytes(&self) -> u64 {
        self.bytes_as(self.change.to)
    }

    /// Bytes of its data in a type that fits its rows.
    pub fn bytes_as(&self, dtype: DType) -> u64 {
        let rows: usize = self.shape[1..].iter().product();
        rows as u64 * dtype.row_bytes(self.shape[0]).unwrap_or_default() as u64
    }

    /// Rows and columns as they are read: a vector whose elements change places is rows of one.
    fn extents(&self) -> (usize, usize) {
        match (self.weights, self.shape.as_slice()) {
            (Weights::Interleaved { .. }, [len]) => (*len, 1),
            (_, shape) => (shape[1..].iter().product(), shape[0]),
        }
    }

    /// Gives the new bytes to `write`, piece by piece.
    fn pieces(
        &self,
        pool: &Pool,
        write: &mut dyn FnMut(&[u8]) -> Result<(), NewFileError>,
    ) -> Result<(), NewFileError> {
        let Change { from, to, .. } = self.change;
        let bytes = self.data.bytes(from);
        if from == to && self.weights == Weights::AsTheyAre {
            return bytes.chunks(PIECE_BYTES).try_for_each(write);
        }
        let (rows, cols) = self.extents();
        let source = Matrix::new(from, rows, cols, &bytes);
        let (Some(source), Some(row_bytes)) = (source, to.row_bytes(cols)) else {
            unreachable!("the source was checked, and the new type fits the rows");
        };
        let isa = Isa::detect();
        let read = |row: usize, out: &mut [f32]| {
            source.dequantize_row(isa, self.weights.source_row(row), out);
            if let Weights::Plus(more) = self.weights {
                out.iter_mut().for_each(|x| *x += more);
            }
        };
        let piece_rows = (PIECE_BYTES / row_bytes).clamp(1, rows);
        let mut piece = vec![0; piece_rows * row_bytes];
        for first in (0..rows).step_by(piece_rows) {
            let count = piece_rows.min(rows - first);
            let piece = &mut piece[..count * row_bytes];
            encode_rows(pool, cols, first, to, piece, read).map_err(|(row, problem)| {
                NewFileError::Encode { tensor: self.name.clone(), row, problem }
            })?;
            write(piece)?;
        }
        Ok(())
    }
}

/// A GGUF file of version 3 that is to be written.
#[derive(Debug)]
pub struct NewFile<'a> {
    fields: Vec<(String, Field)>,
    alignment: u64,
    tensors: Vec<NewTensor<'a>>,
}

impl<'a> NewFile<'a> {
    /// A file with these values and tensors, and what the recipe says about its types.
    pub(crate) fn new(
        mut fields: Vec<(String, Field)>,
        alignment: u64,
        tensors: Vec<NewTensor<'a>>,
        recipe: &Recipe,
    ) -> Self {
        set(&mut fields, "general.file_type", Field::U32(recipe.file_type()));
        set(&mut fields, "general.quantization_version", Field::U32(QUANTIZATION_VERSION));
        Self { fields, alignment, tensors }
    }

    /// The model of another file with other element types.
    ///
    /// Metadata is copied byte for byte, but for `general.file_type` and
    /// `general.quantization_version`. A tensor that keeps its type keeps its bytes.
    ///
    /// # Errors
    /// [`super::GgufProblem::UnsupportedType`] when a tensor has a type that fewron cannot read.
    pub fn requantized(gguf: &'a Gguf, recipe: &Recipe) -> Result<Self, GgufError> {
        let tied = gguf.tensor_info("output.weight").is_none();
        let tensors = gguf.tensors().map(|info| {
            let tensor = gguf.tensor(&info.name)?;
            Ok(NewTensor {
                name: info.name.clone(),
                shape: info.shape.clone(),
                change: recipe.change(&info.name, tensor.dtype, tensor.shape, tied),
                data: Data::Mapped(&gguf.map, info.range.clone()),
                weights: Weights::AsTheyAre,
            })
        });
        let tensors = tensors.collect::<Result<_, GgufError>>()?;
        Ok(Self::new(fields_of(gguf)?, gguf.index.alignment, tensors, recipe))
    }

    /// Sets a text among the metadata.
    pub fn set_text(&mut self, key: &str, value: &str) {
        set(&mut self.fields, key, Field::Str(value.to_owned()));
    }

    /// The tensors in the order of the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &NewTensor<'a>> {
        self.tensors.iter()
    }

    /// Bytes of all tensors, without padding.
    pub fn data_bytes(&self) -> u64 {
        self.tensors().map(NewTensor::len_bytes).sum()
    }

    /// Writes the file to `out`, tensor by tensor, with rows spread over the threads of the pool. The
    /// same file comes out on every machine and with any number of threads.
    ///
    /// `progress` gets the tensor bytes that are written, now and then, and may stop the work.
    ///
    /// # Errors
    /// [`NewFileError`]; `out` then holds a part of the file.
    pub fn write(
        &self,
        out: &mut impl Write,
        pool: &Pool,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), NewFileError> {
        let header = self.header();
        out.write_all(&header)?;
        pad(out, header.len() as u64, self.alignment)?;
        let mut written = 0;
        for tensor in self.tensors() {
            tensor.pieces(pool, &mut |piece| {
                out.write_all(piece)?;
                written += piece.len() as u64;
                match progress(written) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(NewFileError::Stopped),
                }
            })?;
            pad(out, tensor.len_bytes(), self.alignment)?;
            tensor.data.release();
        }
        Ok(())
    }

    fn header(&self) -> Vec<u8> {
        let shapes: Vec<Vec<u64>> = self
            .tensors()
            .map(|tensor| tensor.shape.iter().map(|&extent| extent as u64).collect())
            .collect();
        let entries = self.tensors().zip(&shapes).map(|(tensor, shape)| Entry {
            name: &tensor.name,
            ggml_type: tensor.change.to.ggml_id(),
            shape,
            bytes: tensor.len_bytes(),
        });
        writer::header(&self.fields, entries, self.alignment)
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
    let isa = Isa::detect();
    let read = |row: usize, out: &mut [f32]| source.dequantize_row(isa, row, out);
    encode_rows(pool, source.cols(), first, to, out, read)
}

/// [`encode`] of the rows of `cols` elements that `read` gives.
fn encode_rows(
    pool: &Pool,
    cols: usize,
    first: usize,
    to: DType,
    out: &mut [u8],
    read: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<(), (usize, EncodeError)> {
    let row_bytes = to.row_bytes(cols).unwrap_or_default();
    let failed: Mutex<Option<(usize, EncodeError)>> = Mutex::new(None);
    pool.rows(out, row_bytes, |index, out| {
        let mut row = vec![0.0; cols];
        read(first + index, &mut row);
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

/// The metadata of a file, byte for byte.
fn fields_of(gguf: &Gguf) -> Result<Vec<(String, Field)>, GgufError> {
    let metadata = gguf.metadata();
    let mut fields = Vec::new();
    for key in metadata.keys() {
        fields.extend(metadata.field(key)?.map(|field| (key.to_owned(), field)));
    }
    Ok(fields)
}

/// Sets a metadata value in its place, or at the end.
fn set(fields: &mut Vec<(String, Field)>, key: &str, value: Field) {
    match fields.iter_mut().find(|(k, _)| k == key) {
        Some((_, field)) => *field = value,
        None => fields.push((key.to_owned(), value)),
    }
}

/// Writes zeros from `len` to the next multiple of the alignment.
fn pad(out: &mut impl Write, len: u64, alignment: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), len.next_multiple_of(alignment) - len), out)?;
    Ok(())
}

#[cfg(test)]
mod tests;
