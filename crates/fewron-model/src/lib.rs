//! Model files, tokenizer, chat template, forward and backward pass of small language models.
//!
//! A [`Model`] is immutable and shared; a [`Session`] is one text with its KV cache. Two seams carry
//! everything else: a [`Probe`] observes the forward pass, a [`MaskSource`] decides which neurons
//! run. No architecture name appears after the configuration is built.

mod attention;
mod backward;
pub mod chat;
mod config;
mod error;
mod forward;
pub mod gguf;
pub mod hf;
mod kv_cache;
mod low_rank;
mod mapped;
mod mask;
mod model;
mod norm;
mod probe;
mod rope;
pub mod sampler;
mod session;
mod source;
pub mod tokenizer;
mod trace;

pub use backward::{Gradients, Stop};
pub use config::{Biases, LayerConfig, ModelConfig, NormKind, Residual, RopePairs};
pub use error::ModelError;
pub use fewron_kernels::{KvType, Pool};
pub use kv_cache::KvCache;
pub use low_rank::{LowRank, LowRankScratch};
pub use mask::{Choice, InputSite, MaskSource};
pub use model::{BytesPerToken, Changes, Edit, LoadOptions, Model, PerMatrix, Residency};
pub use probe::{Probe, Site};
pub use session::{Logits, Resume, Session};
pub use source::Source;
pub use trace::Trace;
