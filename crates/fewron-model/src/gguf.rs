//! Memory-mapped reader of GGUF model files, versions 2 and 3 (ggml `docs/gguf.md`).
//!
//! Opening a file checks all of its header: counts, lengths, types, offsets, sizes and overlaps.
//! Nothing is copied but the names; metadata arrays and tensor data are read from the map when asked
//! for. A tensor type that fewron cannot compute with does not keep the file from opening, only
//! [`Gguf::tensor`] from returning that tensor.

mod cursor;
mod error;
mod index;
mod metadata;
mod new_file;
mod recipe;
mod value;
mod writer;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fewron_kernels::DType;

pub use error::{GgufError, GgufProblem};
pub use index::TensorInfo;
pub use metadata::{FromValue, Metadata};
pub(crate) use new_file::{Data, Weights, encode};
pub use new_file::{NewFile, NewFileError, NewTensor};
pub(crate) use recipe::is_matrix;
pub use recipe::{Change, Recipe};
pub use value::{Array, Value, ValueType};
pub use writer::{Field, Writer};

use crate::mapped::Mapped;
use index::Index;

/// An open GGUF file.
///
/// The map is read-only and private. A file that another process shortens while it is open makes
/// reads fault, as with every mapped file: replace model files by renaming, not in place.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mapped,
    index: Index,
}

impl Gguf {
    /// Opens and checks the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, is no GGUF file of version 2 or 3, is truncated, or contradicts
    /// itself (see [`GgufProblem`]).
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let fail = |problem| GgufError::new(path, problem);
        let file = File::open(path).map_err(|e| fail(GgufProblem::Io(e)))?;
        let about = file.metadata().map_err(|e| fail(GgufProblem::Io(e)))?;
        if !about.is_file() {
            return Err(fail(GgufProblem::NotAFile));
        }
        if about.len() == 0 {
            return Err(fail(GgufProblem::NotGguf { found: Vec::new() }));
        }
        let map = Mapped::file(&file).map_err(|e| fail(GgufProblem::Io(e)))?;
        Self::from_map(path, map)
    }

    /// Reads a GGUF file held in memory; `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, GgufError> {
        let path = Path::new(name);
        let io = |e| GgufError::new(path, GgufProblem::Io(e));
        if bytes.is_empty() {
            return Err(GgufError::new(path, GgufProblem::NotGguf { found: Vec::new() }));
        }
        Self::from_map(path, Mapped::copy(bytes).map_err(io)?)
    }

    fn from_map(path: &Path, map: Mapped) -> Result<Self, GgufError> {
        let index = Index::parse(&map).map_err(|p| GgufError::new(path, p))?;
        Ok(Gguf { path: path.to_path_buf(), map, index })
    }

    /// The path given to [`Gguf::open`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file in bytes.
    pub fn len_bytes(&self) -> usize {
        self.map.len()
    }

    /// The whole file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Version of the container format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.index.version
    }

    /// The key-value pairs of the file.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::new(&self.path, &self.map, &self.index)
    }

    /// Every tensor in the order of the file, also those of unsupported types.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.index.tensors.iter()
    }

    /// What the header says about the tensor `name`, or `None` when there is no such tensor.
    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.index.tensor(name)
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// [`GgufProblem::MissingTensor`], or [`GgufProblem::UnsupportedType`] when fewron has no
    /// kernel for its type.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, GgufError> {
        self.find_tensor(name)?
            .ok_or_else(|| self.error(GgufProblem::MissingTensor { tensor: name.to_string() }))
    }

    /// The tensor `name`, or `None` when the file has no such tensor (biases, tied outputs).
    ///
    /// # Errors
    /// [`GgufProblem::UnsupportedType`].
    pub fn find_tensor(&self, name: &str) -> Result<Option<TensorView<'_>>, GgufError> {
        let Some(info) = self.index.tensor(name) else { return Ok(None) };
        let Some(dtype) = info.dtype else {
            return Err(self.error(GgufProblem::UnsupportedType {
                tensor: info.name.clone(),
                ggml_type: info.type_name(),
            }));
        };
        // `Index::parse` checked the range against the length of the map.
        let data = &self.map[info.range.clone()];
        Ok(Some(TensorView { name: &info.name, dtype, shape: &info.shape, data }))
    }

    /// Tells the kernel that the pages of a byte range of the file are not needed for now; reading
    /// them again loads them from the disk.
    ///
    /// Use it after weights have been repacked into memory of their own. A range beyond the end is
    /// cut; a refusal by the system is ignored, since nothing depends on it.
    pub fn release(&self, range: Range<usize>) {
        self.map.release(range);
    }

    /// [`Gguf::release`] for the bytes of one tensor; a name not in the file is ignored.
    pub fn release_tensor(&self, name: &str) {
        if let Some(info) = self.index.tensor(name) {
            self.release(info.range.clone());
        }
    }

    fn error(&self, problem: GgufProblem) -> GgufError {
        GgufError::new(&self.path, problem)
    }
}

/// A tensor of a GGUF file, borrowed from the map.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Name, such as `blk.3.ffn_down.weight`.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Extents in ggml order: `shape[0]` is the contiguous one (columns, the inputs of a matrix),
    /// the reverse of a PyTorch shape. One to four entries, none zero.
    pub shape: &'a [usize],
    /// Little-endian elements or blocks, `rows() * dtype.row_bytes(cols())` bytes, starting at a
    /// multiple of 8 in memory.
    pub data: &'a [u8],
}

impl TensorView<'_> {
    /// Contiguous elements per row: `shape[0]`.
    pub fn cols(&self) -> usize {
        self.shape[0]
    }

    /// Number of rows: the product of the other extents.
    pub fn rows(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

#[cfg(test)]
mod tests;
