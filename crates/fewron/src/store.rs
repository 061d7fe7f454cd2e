//! Where models and plans come from: files, the registry of names, the Hugging Face hub.

mod cache;
mod directory;
mod fetch;
mod hash;
mod hub;
mod pip;
mod registry;
mod source_tree;
mod spec;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use cache::Home;
pub(crate) use hash::{hex, write_whole};
pub(crate) use registry::{DEFAULT_MODEL, Entry, PLANS, Place, PlanEntry, REGISTRY};
pub(crate) use source_tree::{has_model, path as source_path};

use crate::ui;
use fetch::Wanted;
use spec::{Found, Spec};

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

    /// Bytes of the file, or of a folder's weight files.
    pub(crate) fn size_bytes(&self) -> Result<u64> {
        if self.path.is_dir() {
            return cache::weight_bytes(&self.path);
        }
        let meta = self.path.metadata();
        Ok(meta.with_context(|| format!("cannot read {}", self.path.display()))?.len())
    }

    /// Where the plan of this model lies by itself: `MODEL.fewron`.
    pub(crate) fn plan_beside(&self) -> PathBuf {
        let mut path: OsString = self.path.components().as_path().into();
        path.push(".fewron");
        path.into()
    }

    /// The plan that is meant: `auto` is the one beside the model.
    pub(crate) fn plan<'a>(&self, given: &'a Path) -> Cow<'a, Path> {
        if given == Path::new("auto") { self.plan_beside().into() } else { given.into() }
    }

    fn local(path: &Path) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self { path: path.to_owned(), name, known_sha256: None }
    }
}

/// Finds the file or folder that `MODEL` means, and downloads it if it is a name that is not in the cache.
pub(crate) fn resolve(model: &str) -> Result<ModelFile> {
    let path = Path::new(model);
    if path.is_file() || path.join("config.json").is_file() {
        return Ok(ModelFile::local(path));
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
    if let Some(Entry { name, place: Place::Source(_), .. }) = registry::find(name) {
        ui::note(&format!("{name} comes with fewron's source: there is nothing to download"));
    }
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

/// The model of a registry name or of an `hf:` name.
fn named(model: &str, check: Check) -> Result<Option<ModelFile>> {
    let home = Home::find()?;
    let (name, path) = if let Some(spec) = model.strip_prefix("hf:") {
        let spec = Spec::parse(spec)?;
        let name = format!("hf:{}", spec.repo);
        match spec.find(&home, check == Check::Everything)? {
            Found::File(wanted) => return downloaded(&home, name, &wanted, check).map(Some),
            Found::Directory(directory) => (name, directory.fetch(&home, check)?),
            Found::Cached(folder) => (name, folder),
        }
    } else if let Some(entry) = registry::find(model) {
        let name = entry.name.to_owned();
        match &entry.place {
            Place::Download(download) => {
                let wanted = Wanted::new(download, entry.size_bytes);
                return downloaded(&home, name, &wanted, check).map(Some);
            }
            Place::Source(folder) => {
                let path = source_tree::model(&name, folder)?;
                (name, path)
            }
        }
    } else {
        return Ok(None);
    };
    Ok(Some(ModelFile { path, name, known_sha256: None }))
}

fn downloaded(home: &Home, name: String, wanted: &Wanted, check: Check) -> Result<ModelFile> {
    let path = fetch::fetch(home, wanted, check)?;
    Ok(ModelFile { path, name, known_sha256: wanted.sha256.clone() })
}

fn unknown(name: &str) -> String {
    let hint = registry::closest(name)
        .map_or("see `fewron models`".to_owned(), |close| format!("did you mean `{close}`?"));
    format!("there is no model `{name}`; {hint}")
}

/// The file that `--plan` means: one that is there, else the plan of that name, else the path as it is.
///
/// # Errors
/// When the plan of that name is not in the source any more.
pub(crate) fn plan_file(plan: PathBuf) -> Result<PathBuf> {
    let named = plan.to_str().filter(|_| !plan.exists()).and_then(registry::find_plan);
    named.map_or(Ok(plan), |entry| source_tree::plan(entry.name, entry.file))
}

/// The name of a plan that may be meant, in words.
pub(crate) fn plan_hint(plan: &Path) -> String {
    let close = plan.to_str().and_then(registry::closest_plan);
    close.map_or(String::new(), |close| format!(" (did you mean `{close}`?)"))
}

#[cfg(test)]
mod tests;
