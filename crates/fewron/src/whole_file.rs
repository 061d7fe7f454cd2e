//! A large file, written piece by piece, that appears whole or not at all.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::{Builder, NamedTempFile};

/// A file on its way to its name, beside it under another one. Dropped without
/// [`WholeFile::commit`], it leaves no trace.
pub(crate) struct WholeFile {
    out: BufWriter<NamedTempFile>,
    target: PathBuf,
}

impl WholeFile {
    /// Starts a file that will be `target`.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        let shown = target.display();
        ensure!(!target.is_dir(), "{shown} is a folder; name a file in it");
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        ensure!(folder.is_dir(), "there is no folder {} for {shown}; make it", folder.display());
        let mut builder = Builder::new();
        builder.prefix(".fewron-").suffix(".part");
        if let Some(permissions) = of_new_files() {
            builder.permissions(permissions);
        }
        let file = builder.tempfile_in(folder);
        let file = file.with_context(|| format!("cannot write in {}", folder.display()))?;
        Ok(Self { out: BufWriter::new(file), target: target.to_owned() })
    }

    /// Brings everything to the disk and gives the file its name, replacing a former one.
    pub(crate) fn commit(self) -> Result<()> {
        let cannot = || format!("cannot write {}", self.target.display());
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.with_context(cannot)?;
        file.as_file().sync_all().with_context(cannot)?;
        file.persist(&self.target).with_context(cannot)?;
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The permissions that files get where nothing else is said; the system takes its mask off.
#[cfg(unix)]
fn of_new_files() -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn of_new_files() -> Option<Permissions> {
    None
}
