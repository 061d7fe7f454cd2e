//! Where models come from: files, the registry of names, the Hugging Face hub.

mod cache;
mod fetch;
mod hash;
mod hub;
mod pip;
mod registry;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use cache::Home;
pub(crate) use hash::write_whole;
pub(crate) use registry::{DEFAULT_MODEL, REGISTRY};

use fetch::Wanted;

/// The tiny trained models of the source tree that this program was built from.
const TINY_MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny");

/// A model file or folder on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Name in the registry, `hf:…` without the file, or the file's name.
    pub(crate) name: String,
    /// SHA-256 where it is known without reading the file.
    known_sha256: Option<String>,
}

impl ModelFile {
    /// SHA-256 of the file in lower-case hex; read once, then remembered by size and time.
    pub(crate) fn sha256(&self) -> Result<String> {
        match &self.known_sha256 {
            Some(sha256) => Ok(sha256.clone()),
            None if self.path.is_dir() => hash::folder_sha256(&Home::find()?, &self.path),
            None => hash::file_sha256(&Home::find()?, &self.path),
        }
    }

    fn local(path: &Path) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self { path: path.to_owned(), name, known_sha256: None }
    }
}

/// Finds the file that `MODEL` means, and downloads it if it is a name that is not in the cache.
pub(crate) fn resolve(model: &str) -> Result<ModelFile> {
    let path = Path::new(model);
    if path.is_file() || path.join("config.json").is_file() {
        return Ok(ModelFile::local(path));
    }
    let tiny = Path::new(TINY_MODELS).join(model);
    if model.starts_with("tiny-") && tiny.is_dir() {
        return Ok(ModelFile::local(&tiny));
    }
    if let Some(found) = named(model, Check::Size)? {
        return Ok(found);
    }
    ensure!(
        !path.is_dir(),
        "{model} is a folder without config.json: name a .gguf file or a Hugging Face model folder"
    );
    let home = Home::find()?;
    if let Some(file) = home.cached_file(model)? {
        return Ok(ModelFile::local(&file));
    }
    ensure!(
        !model.ends_with(".gguf") && !model.contains(['/', '\\']),
        "there is no model file {model}; for a file on the Hugging Face hub write hf:org/repo:file"
    );
    bail!(unknown(model))
}

/// Downloads a model by name, or checks the whole file if it is there.
pub(crate) fn pull(name: &str) -> Result<ModelFile> {
    named(name, Check::Everything)?.with_context(|| unknown(name))
}

/// How closely a file that is in the cache is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Its size, and that its hash was right when it came.
    Size,
    /// Its hash, now.
    Everything,
}

/// The file of a registry name or of an `hf:` name.
fn named(model: &str, check: Check) -> Result<Option<ModelFile>> {
    let home = Home::find()?;
    let (name, wanted) = if let Some(spec) = model.strip_prefix("hf:") {
        let spec = hub::Spec::parse(spec)?;
        let wanted = spec.find(&home, check == Check::Everything)?;
        (format!("hf:{}", spec.repo), wanted)
    } else if let Some(entry) = registry::find(model) {
        (entry.name.to_owned(), Wanted::from(entry))
    } else {
        return Ok(None);
    };
    let known_sha256 = wanted.sha256.clone();
    let path = fetch::fetch(&home, &wanted, check)?;
    Ok(Some(ModelFile { path, name, known_sha256 }))
}

fn unknown(name: &str) -> String {
    let hint = registry::closest(name)
        .map_or("see `fewron models`".to_owned(), |close| format!("did you mean `{close}`?"));
    format!("there is no model `{name}`; {hint}")
}

#[cfg(test)]
mod tests;
