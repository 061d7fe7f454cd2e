//! The source tree that this program was built from: some models and plans come with it.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// Names a copy of the source where the one that was built from is gone.
const VARIABLE: &str = "FEWRON_SOURCE";

const BUILT_FROM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Where a file or folder of the source is, whether it is there or not.
pub(crate) fn path(inside: &str) -> PathBuf {
    let root = std::env::var_os(VARIABLE).filter(|root| !root.is_empty());
    let root = root.map_or_else(|| PathBuf::from(BUILT_FROM), PathBuf::from);
    root.canonicalize().unwrap_or(root).join(inside)
}

/// Whether there is a model in a folder.
pub(crate) fn has_model(path: &Path) -> bool {
    path.join("config.json").is_file()
}

/// The folder of a model that comes with the source.
///
/// # Errors
/// When it is not there any more.
pub(super) fn model(name: &str, folder: &str) -> Result<PathBuf> {
    there(
        path(folder),
        has_model,
        &format!("{name} comes with fewron's source, but there is no model in"),
    )
}

/// The file of a plan that comes with the source.
///
/// # Errors
/// When it is not there any more.
pub(super) fn plan(name: &str, file: &str) -> Result<PathBuf> {
    there(
        path(file),
        Path::is_file,
        &format!("{name} comes with fewron's source, but there is no file"),
    )
}

fn there(path: PathBuf, is: impl Fn(&Path) -> bool, problem: &str) -> Result<PathBuf> {
    ensure!(
        is(&path),
        "{problem} {}; set {VARIABLE} to a copy of the source, or build fewron again from one",
        path.display()
    );
    Ok(path)
}
