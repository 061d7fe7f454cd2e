//! Where the files that are too big for the repository may lie.

use std::path::{Path, PathBuf};

/// `$FEWRON_HOME`, or `~/.cache/fewron`.
fn home() -> PathBuf {
    match std::env::var_os("FEWRON_HOME") {
        Some(home) => home.into(),
        None => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/fewron"),
    }
}

/// The path in `variable`, else `below` in fewron's folder; `None`, and a note, when it is not there.
#[allow(clippy::print_stderr)]
pub(crate) fn find(variable: &str, below: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| home().join(below), PathBuf::from);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there (or set {variable})", path.display());
        return None;
    }
    Some(path)
}

/// A fixture of this repository.
pub(crate) fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizer").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The SmolLM2 file.
pub(crate) fn smollm2() -> Option<PathBuf> {
    find("FEWRON_SMOLLM2", "models/SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// The Gemma 3 file.
pub(crate) fn gemma3() -> Option<PathBuf> {
    find("FEWRON_GEMMA3", "models/gemma-3-270m-q4_k_m.gguf")
}
