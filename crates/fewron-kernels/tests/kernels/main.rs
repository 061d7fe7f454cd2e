//! Every kernel, for every block format and instruction set of this processor, against naive
//! references in f64.
#![allow(missing_docs)]

mod attention;
mod codes;
mod dequantize;
mod encode;
mod matmul;
mod naive;
mod neuron_major;
mod pool;
mod vector;
