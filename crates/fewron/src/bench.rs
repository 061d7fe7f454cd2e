//! Speed: variants of a model, measured in turn with each other and with llama.cpp.

pub(crate) mod bandwidth;
mod energy;
pub(crate) mod llama_cpp;
pub(crate) mod record;
pub(crate) mod runner;
pub(crate) mod statistics;
pub(crate) mod table;
pub(crate) mod variant;

/// The token at a position of the text that every contestant reads. Which tokens they are does not
/// matter for speed; the stride spreads them over the embedding. `llama_cpp.py` has the same.
fn token(position: usize, vocab: usize) -> u32 {
    ((position * 7919 + 100) % vocab) as u32
}
