//! What reads bytes from outside, as functions of bytes: no input may make one of them panic, hang or
//! allocate by a length that nobody checked.
//!
//! `scripts/fuzz TARGET SECONDS` lets libFuzzer look for such inputs; `corpus/TARGET` holds inputs to start
//! from and those that were found, which the tests run too.

mod data;
mod files;
mod http;
mod plan;
mod template;

use std::path::{Path, PathBuf};

/// A name, and what is done with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("gguf", files::gguf),
    ("safetensors", files::safetensors),
    ("config", files::config),
    ("tokenizer", files::tokenizer),
    ("template", template::template),
    ("plan", plan::plan),
    ("data", data::data),
    ("task", data::task),
    ("http", http::http),
];

/// The target of a name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}

/// Where a target's inputs lie.
pub fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

/// A file of the source tree.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
