//! Block formats and the kernels that read them: dense and neuron-sparse matrix products on
//! quantised weights, chosen for the processor at run time.
//!
//! Slices in, slices out; no I/O, but for rows in a [`ColdFile`], and no model names. The only crate of the workspace with `unsafe`.
//!
//! Two properties hold everywhere, to the last bit: the result for a token depends neither on the
//! other tokens of its batch nor on the number of threads; and skipping a neuron equals running
//! dense with its output set to zero.

#![allow(unsafe_code)]
// Index loops over fixed-size arrays are what the vectoriser turns into the widest code.
#![allow(clippy::needless_range_loop)]

mod activations;
mod attention;
mod codes;
mod dtype;
mod encode;
mod format;
mod gemm;
mod isa;
mod lines;
mod matmul;
mod memory;
mod neuron_major;
mod packed;
mod pool;
mod rows;
mod scalar;
mod unpack;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::{Activations, Layout};
pub use attention::{AttentionScratch, KvPage, KvShape, KvType, Query, attend};
pub use dtype::DType;
pub use encode::EncodeError;
pub use isa::{Isa, UnknownIsa};
pub use matmul::{
    Margin, Matrix, Weights, matmul, matmul_each, matmul_transposed, matvec_rows, matvec_shortlist,
};
pub use memory::Memory;
pub use neuron_major::NeuronMajor;
pub use packed::Packed;
pub use pool::Pool;
pub use rows::{ColdFile, Placement};
pub use vector::{
    Activation, activate, activate_backward, axpy, dot, kl_divergence, layer_norm,
    layer_norm_backward, log_sum_exp, max, rms_norm, rms_norm_backward, softmax, sum_exp,
};
