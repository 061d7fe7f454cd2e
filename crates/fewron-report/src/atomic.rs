//! A file that appears whole or not at all: written under a temporary name, then renamed.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ReportError;

/// Tells two writers in one process apart; the process id does so between processes.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A file on its way to `target`. Dropped without [`commit`](Self::commit), it leaves no trace.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    // `None` only once committed.
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
}

impl AtomicFile {
    /// Opens a temporary file in `target`'s folder.
    ///
    /// # Errors
    /// [`ReportError::Io`] when `target` names no file or its folder cannot be written.
    pub(crate) fn create(target: &Path) -> Result<Self, ReportError> {
        let temporary =
            temporary_name(target).map_err(|source| ReportError::create(target, source))?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|source| ReportError::create(target, source))?;
        let file = Some(BufWriter::new(file));
        Ok(Self { file, temporary, target: target.to_owned() })
    }

    /// Where the file will be.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Flushes to the disk and renames to the target, replacing a former file.
    ///
    /// # Errors
    /// [`ReportError::Io`] when the disk is full or the target cannot be replaced.
    pub(crate) fn commit(mut self) -> Result<(), ReportError> {
        self.sync().map_err(|source| ReportError::write(&self.target, source))?;
        std::fs::rename(&self.temporary, &self.target)
            .map_err(|source| ReportError::rename(&self.target, source))?;
        self.file = None;
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        match &mut self.file {
            Some(file) => {
                file.flush()?;
                file.get_ref().sync_all()
            }
            None => Ok(()),
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |file| file.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Discards what is still buffered: the file goes away.
            let _ = file.into_parts();
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

fn temporary_name(target: &Path) -> std::io::Result<PathBuf> {
    let Some(name) = target.file_name() else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a file name"));
    };
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{serial}.tmp", std::process::id()));
    Ok(target.with_file_name(temporary))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn commit_replaces_the_target_and_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.html");
        std::fs::write(&target, "old").unwrap();
        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        file.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(names(folder.path()), ["a.html"]);
    }

    #[test]
    fn drop_leaves_the_former_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.html");
        std::fs::write(&target, "old").unwrap();
        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(names(folder.path()), ["a.html"]);
    }

    #[test]
    fn errors_name_the_file_and_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none").join("a.html");
        let message = AtomicFile::create(&missing).unwrap_err().to_string();
        assert!(message.contains("a.html") && message.contains("create the folder"), "{message}");
        let message = AtomicFile::create(Path::new("/")).unwrap_err().to_string();
        assert!(message.contains("not a folder"), "{message}");
        let taken = AtomicFile::create(folder.path()).unwrap().commit().unwrap_err().to_string();
        assert!(taken.contains("rename"), "{taken}");
    }
}
