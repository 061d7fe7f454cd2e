//! The weight files of a directory: one, or several with an index.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::error::{HfError, HfProblem};
use super::read_object;
use super::safetensors::{self, Entry};
use crate::mapped::Mapped;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLES: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
/// Longest index that is read.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// One mapped and checked file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: Mapped,
    entries: Vec<Entry>,
}

/// All of a directory's tensors.
#[derive(Debug)]
pub(super) struct Weights {
    shards: Vec<Shard>,
    /// Shard and position there.
    by_name: HashMap<String, (usize, usize)>,
}

impl Weights {
    pub(super) fn open(folder: &Path) -> Result<Self, HfError> {
        let (single, index) = (folder.join(SINGLE).exists(), folder.join(INDEX).exists());
        match (single, index) {
            (true, true) => Err(HfError::new(folder, HfProblem::TwoKindsOfWeights)),
            (true, false) => Self::of_files(folder, [SINGLE]),
            (false, true) => Self::of_index(folder),
            (false, false) => {
                let pickle = PICKLES.iter().find(|file| folder.join(file).exists());
                Err(HfError::new(
                    folder,
                    pickle.map_or(HfProblem::NoWeights, |file| HfProblem::OnlyPickle {
                        file: (*file).to_owned(),
                    }),
                ))
            }
        }
    }

    fn of_index(folder: &Path) -> Result<Self, HfError> {
        let index = read_object(folder, INDEX, MAX_INDEX_BYTES)?.unwrap_or_default();
        let fail = |problem| HfError::new(&folder.join(INDEX), problem);
        let damaged =
            || fail(HfProblem::Json { problem: "weight_map is missing or no object".into() });
        let map = index.get("weight_map").and_then(Value::as_object).ok_or_else(damaged)?;
        if map.is_empty() {
            return Err(fail(HfProblem::EmptyIndex));
        }
        let mut files = BTreeSet::new();
        for (tensor, file) in map {
            let file = file.as_str().unwrap_or_default();
            if !is_plain_name(file) {
                let (tensor, file) = (tensor.clone(), file.to_owned());
                return Err(fail(HfProblem::OutsideFolder { tensor, file }));
            }
            files.insert(file);
        }
        if let Some(file) = files.iter().find(|file| !folder.join(file).exists()) {
            let file = (*file).to_owned();
            return Err(HfError::new(folder, HfProblem::MissingShard { file, index: INDEX }));
        }
        let weights = Self::of_files(folder, files)?;
        for (tensor, file) in map {
            let path = folder.join(file.as_str().unwrap_or_default());
            if weights.find(tensor).is_none_or(|(shard, _)| weights.shards[shard].path != path) {
                let tensor = tensor.clone();
                return Err(HfError::new(&path, HfProblem::BrokenPromise { tensor, index: INDEX }));
            }
        }
        Ok(weights)
    }

    fn of_files<'a>(
        folder: &Path,
        files: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, HfError> {
        let mut weights = Weights { shards: Vec::new(), by_name: HashMap::new() };
        for file in files {
            weights.add(Shard::open(folder.join(file))?)?;
        }
        Ok(weights)
    }

    fn add(&mut self, shard: Shard) -> Result<(), HfError> {
        for (at, entry) in shard.entries.iter().enumerate() {
            let place = (self.shards.len(), at);
            if let Some((other, _)) = self.by_name.insert(entry.name.clone(), place) {
                let other = self.shards.get(other).map_or(&shard.path, |other| &other.path);
                let other = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let problem = HfProblem::InTwoFiles { tensor: entry.name.clone(), other };
                return Err(HfError::new(&shard.path, problem));
            }
        }
        self.shards.push(shard);
        Ok(())
    }

    /// Refuses types that fewron cannot compute with, but for tensors that are not computed with.
    pub(super) fn refuse_other_types(
        &self,
        is_ignored: impl Fn(&str) -> bool,
    ) -> Result<(), HfError> {
        for shard in &self.shards {
            let mut entries = shard.entries.iter();
            if let Some(entry) = entries.find(|e| e.dtype().is_none() && !is_ignored(&e.name)) {
                let (tensor, dtype) = (entry.name.clone(), entry.dtype.clone());
                return Err(HfError::new(
                    &shard.path,
                    HfProblem::UnsupportedType { tensor, dtype },
                ));
            }
        }
        Ok(())
    }

    /// Number of tensors.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Every tensor, file after file, in the order of the data.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flat_map(|shard| &shard.entries)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.by_name.keys().map(String::as_str)
    }

    /// A tensor and the index of its file.
    pub(super) fn find(&self, name: &str) -> Option<(usize, &Entry)> {
        let &(shard, at) = self.by_name.get(name)?;
        Some((shard, &self.shards[shard].entries[at]))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.find(name).map(|(_, entry)| entry)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.map.len() as u64).sum()
    }

    pub(super) fn map(&self, file: usize) -> &Mapped {
        &self.shards[file].map
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, HfError> {
        let io = |e| HfError::new(&path, HfProblem::Io(e));
        let file = File::open(&path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            let what = "the length of the header".into();
            return Err(HfError::new(&path, HfProblem::Truncated { what, needed: 8, len: 0 }));
        }
        let map = Mapped::file(&file).map_err(io)?;
        let entries = safetensors::parse(&map).map_err(|problem| HfError::new(&path, problem))?;
        Ok(Shard { path, map, entries })
    }
}

/// Whether a name is a file's in the same folder: no separators, no `..`.
fn is_plain_name(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        && !file.contains(['/', '\\'])
}
