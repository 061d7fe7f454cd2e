//! SHA-256 of files, remembered so that a file is not read twice for it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cache::{self, Home};
use crate::ui::{self, Progress, Unit};

/// SHA-256 of a whole file, lower-case hex, with progress.
pub(super) fn sha256(path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let progress =
        Progress::new("checking", Unit::Bytes, file.metadata().with_context(cannot)?.len());
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        ui::check_interrupt()?;
        match file.read(&mut buffer).with_context(cannot)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => {
                hasher.update(&buffer[..n]);
                done += n as u64;
                progress.set(done);
            }
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file was like when it was hashed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    path: String,
    size_bytes: u64,
    modified_ns: u128,
    sha256: String,
}

/// SHA-256 of any file; remembered in the cache until the file's size or time changes. A cache
/// that cannot be written costs time and nothing else.
pub(super) fn file_sha256(home: &Home, path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let path = path.canonicalize().with_context(cannot)?;
    let meta = path.metadata().with_context(cannot)?;
    let modified_ns = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos());
    let path_text = path.to_string_lossy().into_owned();
    let memory = home.hashes().join(format!("{}.json", hex(&Sha256::digest(&path_text)[..12])));
    let known = fs::read(&memory).ok().and_then(|b| serde_json::from_slice::<Remembered>(&b).ok());
    if let Some(known) = known
        && (known.path.as_str(), known.size_bytes, known.modified_ns)
            == (path_text.as_str(), meta.len(), modified_ns)
    {
        return Ok(known.sha256);
    }
    let sha256 = sha256(&path)?;
    let now =
        Remembered { path: path_text, size_bytes: meta.len(), modified_ns, sha256: sha256.clone() };
    let _ = write_whole(&memory, &serde_json::to_vec(&now)?);
    Ok(sha256)
}

/// SHA-256 of a model folder: of the names and hashes of its configuration and weights, by name.
pub(super) fn folder_sha256(home: &Home, path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let entries = fs::read_dir(path).with_context(cannot)?.collect::<Result<Vec<_>, _>>();
    let mut files: Vec<PathBuf> =
        entries.with_context(cannot)?.iter().map(fs::DirEntry::path).collect();
    files.retain(|file| {
        file.extension().is_some_and(|extension| extension == "safetensors")
            || file.file_name().is_some_and(|name| name == "config.json")
    });
    files.sort();
    let mut all = Sha256::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.update(format!("{} {name}\n", file_sha256(home, &file)?));
    }
    Ok(hex(&all.finalize()))
}

/// Writes a small file so that nobody ever sees half of it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    cache::create_parent(path)?;
    let temporary = cache::with_suffix(path, &format!(".{}.tmp", std::process::id()));
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
