//! Which type each tensor gets when a model file is written.

use fewron_kernels::DType;

const OUTPUT: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";

/// Matrices that stay as they are, besides norms: small ones that steer a lot (llama.cpp
/// `tensor_allows_quantization`).
const KEPT: [&str; 4] =
    ["_norm", "ffn_gate_inp.weight", "position_embd.weight", "token_types.weight"];

/// The types that a file is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Type of the matrices.
    pub dtype: DType,
    /// Type of the output head, which is the embedding where the file has no head of its own.
    /// `None` takes `dtype` where that is a float type or Q8_0; else Q6_K, or Q8_0 where rows are no
    /// multiple of 256 elements, as llama.cpp does.
    pub output: Option<DType>,
    /// Type of the token embedding of a file with a head of its own; `None` takes `dtype`.
    pub embedding: Option<DType>,
}

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Type in the file that is read.
    pub from: DType,
    /// Type in the file that is written.
    pub to: DType,
    /// The type that the recipe has for it, where its rows do not fit that type's blocks.
    pub instead_of: Option<DType>,
}

impl Recipe {
    /// What becomes of a tensor of this type and shape (columns first), in a model whose head is tied
    /// to the embedding or not.
    ///
    /// Tensors with one row, norms and what is no weight stay as they are. Rows that do not fit the
    /// blocks of a type get another one, of about the same or more bits: Q2_K and Q3_K become Q4_0,
    /// Q4_K Q5_0, Q5_K Q5_1, Q6_K Q8_0; and F16 where that does not fit either (llama.cpp
    /// `tensor_type_fallback`).
    pub fn change(&self, name: &str, from: DType, shape: &[usize], tied: bool) -> Change {
        if !is_matrix(name, shape) {
            return Change { from, to: from, instead_of: None };
        }
        let wanted = self.wanted(name, shape[0], tied);
        let to = fitting(wanted, shape[0]);
        Change { from, to, instead_of: (to != wanted).then_some(wanted) }
    }

    fn wanted(&self, name: &str, cols: usize, tied: bool) -> DType {
        match name {
            OUTPUT => self.output_type(cols),
            EMBEDDING if tied => self.output_type(cols),
            EMBEDDING => self.embedding.unwrap_or(self.dtype),
            _ => self.dtype,
        }
    }

    /// The type of a matrix with rows of `cols` elements, in a model whose head is tied to the
    /// embedding or not.
    pub(crate) fn matrix(&self, name: &str, cols: usize, tied: bool) -> DType {
        fitting(self.wanted(name, cols, tied), cols)
    }

    fn output_type(&self, cols: usize) -> DType {
        self.output.unwrap_or(match self.dtype {
            dtype if !dtype.is_quantized() || dtype == DType::Q8_0 => dtype,
            _ if DType::Q6_K.row_bytes(cols).is_some() => DType::Q6_K,
            _ => DType::Q8_0,
        })
    }

    /// The value of `general.file_type` (`enum llama_ftype`) for files of mostly this type.
    pub(super) fn file_type(&self) -> u32 {
        match self.dtype {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::Q4_0 => 2,
            DType::Q4_1 => 3,
            DType::Q8_0 => 7,
            DType::Q5_0 => 8,
            DType::Q5_1 => 9,
            DType::Q2_K => 10,
            DType::Q3_K => 11,
            DType::Q4_K => 14,
            DType::Q5_K => 16,
            DType::Q6_K => 18,
            DType::Bf16 => 32,
        }
    }
}

/// Whether a tensor is a weight matrix that a recipe has a type for.
pub(crate) fn is_matrix(name: &str, shape: &[usize]) -> bool {
    shape[1..].iter().product::<usize>() > 1
        && name.ends_with(".weight")
        && !KEPT.iter().any(|kept| name.contains(kept))
}

/// The type, or the one that stands for it in rows that do not fit its blocks.
fn fitting(dtype: DType, cols: usize) -> DType {
    let fits = |dtype: &DType| dtype.row_bytes(cols).is_some();
    let shorter = match dtype {
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        _ => DType::F16,
    };
    [dtype, shorter].into_iter().find(fits).unwrap_or(DType::F16)
}
