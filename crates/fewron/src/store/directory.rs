//! A repository of the hub as a Hugging Face directory in the cache.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Check;
use super::cache::Home;
use super::fetch;
use super::hub::RepoFile;
use super::spec::{cache_name, listed};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What a directory may have besides its configuration, tokenizer and weights.
const OPTIONAL: [&str; 5] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Longest index that is read.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The files of a repository that make a model.
#[derive(Debug)]
pub(super) struct Directory {
    repo: String,
    /// Those at the top.
    files: Vec<RepoFile>,
}

impl Directory {
    /// # Errors
    /// When the repository lacks a file that a model must have, or has its weights as pickles only.
    pub(super) fn new(repo: &str, files: &[RepoFile]) -> Result<Self> {
        let files = files.iter().filter(|file| is_plain(&file.path)).cloned();
        let directory = Self { repo: repo.to_owned(), files: files.collect() };
        if directory.file(SINGLE).is_none() && directory.file(INDEX).is_none() {
            let pickle = directory.files.iter().find(|file| file.path.ends_with(".bin"));
            match pickle {
                Some(file) => bail!(
                    "{repo} has no safetensors, and {} is a Python pickle; convert it with \
                     `AutoModelForCausalLM.from_pretrained(\"{repo}\").save_pretrained(DIR)` of the \
                     Python package transformers and name the folder",
                    file.path
                ),
                None => bail!("{repo} has no .gguf file and no {SINGLE}; name another repository"),
            }
        }
        ensure!(
            directory.file(CONFIG).is_some(),
            "{repo} has {SINGLE} but no {CONFIG}; name another repository"
        );
        ensure!(
            directory.file(TOKENIZER).is_some(),
            "{repo} has no {TOKENIZER}; make a folder that has one with \
             `AutoTokenizer.from_pretrained(\"{repo}\").save_pretrained(DIR)` of the Python package \
             transformers, add the weights and {CONFIG}, and name it"
        );
        Ok(directory)
    }

    /// Path of the directory in the cache, with whatever was missing downloaded. `config.json` comes
    /// last, and goes first where a file must come again: a folder that has it is whole. Weights of
    /// the other kind, which the repository once had, go too.
    pub(super) fn fetch(&self, home: &Home, check: Check) -> Result<PathBuf> {
        let folder = home.models().join(cache_name(&self.repo));
        let get = |file: &RepoFile| {
            let wanted = listed(&self.repo, file);
            if !fetch::is_cached(home, &wanted)? {
                let _ = fs::remove_file(folder.join(CONFIG));
            }
            fetch::fetch(home, &wanted, check)
        };
        let optional = OPTIONAL.iter().filter_map(|name| self.file(name));
        for file in self.file(TOKENIZER).into_iter().chain(optional) {
            get(file)?;
        }
        if let Some(file) = self.file(SINGLE) {
            get(file)?;
            let _ = fs::remove_file(folder.join(INDEX));
        } else if let Some(index) = self.file(INDEX) {
            for name in shards(&get(index)?)? {
                let missing = || format!("{} has no {name}, which {INDEX} names", self.repo);
                get(self.file(&name).with_context(missing)?)?;
            }
            let _ = fs::remove_file(folder.join(SINGLE));
        }
        if let Some(config) = self.file(CONFIG) {
            get(config)?;
        }
        Ok(folder)
    }

    fn file(&self, name: &str) -> Option<&RepoFile> {
        self.files.iter().find(|file| file.path == name)
    }
}

/// Whether a name is that of a file at the top, and nothing else.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// The weight files that an index names.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let damaged = || format!("{} is damaged; remove it and pull again", index.display());
    let mut text = String::new();
    let file = File::open(index).with_context(damaged)?;
    file.take(MAX_INDEX_BYTES).read_to_string(&mut text).with_context(damaged)?;
    let value: Value = serde_json::from_str(&text).with_context(damaged)?;
    let map = value.get("weight_map").and_then(Value::as_object).with_context(damaged)?;
    let names = map.values().map(|name| name.as_str().unwrap_or_default().to_owned());
    let names: BTreeSet<String> = names.collect();
    for name in &names {
        ensure!(
            is_plain(name) && name.ends_with(".safetensors"),
            "{} names the file {name:?}; only safetensors files beside it are downloaded",
            index.display()
        );
    }
    ensure!(!names.is_empty(), damaged());
    Ok(names)
}
