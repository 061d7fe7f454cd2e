//! Model files, tokenizer, chat template, forward and backward pass of small language models.

pub mod chat;
pub mod gguf;
pub mod sampler;
pub mod tokenizer;
