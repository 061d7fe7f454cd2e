//! The cache folder: `FEWRON_HOME`, or `~/.cache/fewron`.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::source_tree::has_model;
use crate::ui;

/// The cache folder. Nothing is created before something is written.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

/// A model file or folder in the cache.
#[derive(Clone, Debug)]
pub(crate) struct CachedFile {
    /// Name below the models folder, with `/` between its parts.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Of a folder: of its weight files.
    pub(crate) size_bytes: u64,
}

impl Home {
    /// `FEWRON_HOME`, or `~/.cache/fewron`.
    pub(crate) fn find() -> Result<Self> {
        match std::env::var_os("FEWRON_HOME") {
            Some(home) if !home.is_empty() => Ok(Self(home.into())),
            _ => std::env::home_dir()
                .map(|home| Self(home.join(".cache").join("fewron")))
                .context("this user has no home folder; set FEWRON_HOME to a folder for models"),
        }
    }

    /// The cache at `path`.
    #[cfg(test)]
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The folder itself, which is made if need be.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        fs::create_dir_all(&self.0)
            .with_context(|| format!("cannot make the cache folder {}", self.0.display()))?;
        Ok(self.0.clone())
    }

    /// The folder of model files.
    pub(crate) fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    /// The folder of remembered hashes of files elsewhere.
    pub(super) fn hashes(&self) -> PathBuf {
        self.0.join("hashes")
    }

    /// Where sweeps without a folder of their own keep their results.
    pub(crate) fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// The folder of calibrations of models.
    pub(crate) fn calibrations(&self) -> PathBuf {
        self.0.join("calibration")
    }

    /// The model files and folders that are there, by name.
    pub(crate) fn cached_files(&self) -> Result<Vec<CachedFile>> {
        let mut files = Vec::new();
        collect_models(&self.models(), "", &mut files)?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// The cached file with this name, with or without `.gguf`.
    pub(super) fn cached_file(&self, name: &str) -> Result<Option<PathBuf>> {
        let with_extension = format!("{name}.gguf");
        let files = self.cached_files()?;
        Ok(files
            .into_iter()
            .find(|file| file.name == name || file.name == with_extension)
            .map(|file| file.path))
    }
}

/// Adds the `.gguf` files of a folder and of its sub-folders, one level deep, and those of the
/// sub-folders that are Hugging Face directories.
fn collect_models(folder: &Path, prefix: &str, files: &mut Vec<CachedFile>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{prefix}{file_name}");
        if path.is_dir() && prefix.is_empty() {
            collect_models(&path, &format!("{name}/"), files)?;
            if has_model(&path) {
                files.push(CachedFile { name, size_bytes: weight_bytes(&path)?, path });
            }
        } else if path.extension().is_some_and(|e| e == "gguf")
            && let Ok(meta) = path.metadata()
        {
            files.push(CachedFile { name, size_bytes: meta.len(), path });
        }
    }
    Ok(())
}

/// Bytes of a Hugging Face directory's weight files.
pub(super) fn weight_bytes(folder: &Path) -> Result<u64> {
    let cannot = || format!("cannot read {}", folder.display());
    let mut total = 0;
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            total += path.metadata().with_context(cannot)?.len();
        }
    }
    Ok(total)
}

/// Creates the folder of a cache file.
pub(super) fn create_parent(file: &Path) -> Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    fs::create_dir_all(folder).with_context(|| {
        format!(
            "cannot create the cache folder {} (set FEWRON_HOME to a folder that you can write)",
            folder.display()
        )
    })
}

/// `file` with `suffix` after its extension.
pub(super) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Waits until no other process fetches `file`, and keeps others out until dropped.
pub(super) fn lock(file: &Path) -> Result<File> {
    create_parent(file)?;
    let path = with_suffix(file, ".lock");
    let cannot = || {
        format!("cannot lock {} (set FEWRON_HOME to a folder that you can write)", path.display())
    };
    let lock = File::options().create(true).append(true).open(&path).with_context(cannot)?;
    let mut waited = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
            Err(TryLockError::WouldBlock) if !waited => {
                ui::note("waiting for another fewron that downloads the same file");
                waited = true;
            }
            Err(TryLockError::WouldBlock) => {}
        }
        ui::check_interrupt()?;
        thread::sleep(Duration::from_millis(200));
    }
}
