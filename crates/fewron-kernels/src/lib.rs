//! Block formats and the kernels that read them: dense and neuron-sparse matrix products on
//! quantised weights, chosen for the processor at run time.
//!
//! Slices in, slices out; no I/O and no model names. The only crate of the workspace with `unsafe`.

#![allow(unsafe_code)]

mod dtype;

pub use dtype::DType;
