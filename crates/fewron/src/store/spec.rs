//! What `hf:org/repo[:file]` means: a GGUF file of a repository on the hub, or the repository itself
//! as a Hugging Face directory.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::cache::Home;
use super::directory::Directory;
use super::fetch::Wanted;
use super::hub::{self, Location, RepoFile};
use super::source_tree;

/// `org/repo[:file]` as the user writes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) repo: String,
    file: Option<String>,
}

/// What a spec stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// A GGUF file, in the cache or on the hub.
    File(Wanted),
    /// A directory on the hub.
    Directory(Directory),
    /// A whole directory in the cache.
    Cached(PathBuf),
}

impl Spec {
    pub(super) fn parse(spec: &str) -> Result<Self> {
        let (repo, file) = match spec.split_once(':') {
            Some((repo, file)) => (repo, Some(file)),
            None => (spec, None),
        };
        let is_name = |part: &str| {
            !part.starts_with('.')
                && !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        ensure!(
            repo.split('/').count() == 2 && repo.split('/').all(is_name),
            "`hf:{spec}` is not hf:org/repo or hf:org/repo:file.gguf"
        );
        if let Some(file) = file {
            let is_inside = file.split('/').all(|part| !part.is_empty() && part != "..");
            ensure!(
                is_inside && file.ends_with(".gguf"),
                "`{file}` is not the path of a .gguf file"
            );
        }
        Ok(Self { repo: repo.to_owned(), file: file.map(str::to_owned) })
    }

    /// What is meant: something in the cache, unless `fresh`, else as the hub lists it.
    pub(super) fn find(&self, home: &Home, fresh: bool) -> Result<Found> {
        let folder = home.models().join(self.cache_name());
        if !fresh && self.file.is_none() && source_tree::has_model(&folder) {
            return Ok(Found::Cached(folder));
        }
        if !fresh && let Some(wanted) = self.cached(home) {
            return Ok(Found::File(wanted));
        }
        self.choose(&hub::list(&self.repo)?)
    }

    /// The cached file with its recorded hash.
    fn cached(&self, home: &Home) -> Option<Wanted> {
        let prefix = format!("{}/", self.cache_name());
        let files = home.cached_files().ok()?;
        let mut names = files.iter().filter_map(|file| file.name.strip_prefix(&prefix));
        let name = match &self.file {
            Some(file) => names.find(|name| *name == file.replace('/', "--"))?,
            None => names.next().filter(|_| names.next().is_none())?,
        };
        let record = home.models().join(format!("{prefix}{name}.sha256"));
        let sha256 = fs::read_to_string(record).ok()?.split_whitespace().next()?.to_owned();
        let path = self.file.as_deref().unwrap_or(name);
        Some(Wanted { sha256: Some(sha256), ..wanted(&self.repo, path) })
    }

    fn cache_name(&self) -> String {
        cache_name(&self.repo)
    }

    /// A named file, the only GGUF file, or the directory.
    fn choose(&self, files: &[RepoFile]) -> Result<Found> {
        let ggufs = files.iter().filter(|file| file.path.ends_with(".gguf"));
        let ggufs: Vec<&RepoFile> = ggufs.collect();
        let names = || ggufs.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(", ");
        let repo = &self.repo;
        let file = match (&self.file, ggufs.as_slice()) {
            (Some(_), []) => bail!("{repo} has no .gguf file"),
            (Some(wanted), _) => ggufs
                .iter()
                .find(|file| file.path == *wanted)
                .with_context(|| format!("{repo} has no {wanted}; it has {}", names()))?,
            (None, [only]) => only,
            (None, []) => return Directory::new(repo, files).map(Found::Directory),
            // A repository of many GGUF files is taken as a directory where it is one too.
            (None, [_, ..]) => {
                let many = |_| {
                    anyhow!(
                        "{repo} has {} model files; choose one as hf:{repo}:FILE: {}",
                        ggufs.len(),
                        names()
                    )
                };
                return Directory::new(repo, files).map(Found::Directory).map_err(many);
            }
        };
        Ok(Found::File(listed(repo, file)))
    }
}

/// The name of a repository's folder in the cache.
pub(super) fn cache_name(repo: &str) -> String {
    repo.replace('/', "--")
}

/// A file of a repository, as the hub lists it.
pub(super) fn listed(repo: &str, file: &RepoFile) -> Wanted {
    let (size_bytes, sha256) = (Some(file.size_bytes()), file.sha256());
    Wanted { size_bytes, sha256, ..wanted(repo, &file.path) }
}

fn wanted(repo: &str, file: &str) -> Wanted {
    Wanted {
        file: format!("{}/{}", cache_name(repo), file.replace('/', "--")),
        size_bytes: None,
        sha256: None,
        hub: Location { repo: repo.to_owned(), revision: "main".to_owned(), file: file.to_owned() },
        wheels: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let spec = Spec::parse("org/repo:sub/model one.gguf").unwrap();
        let wanted = wanted(&spec.repo, spec.file.as_deref().unwrap());
        assert_eq!(wanted.file, "org--repo/sub--model one.gguf");
        let url = wanted.hub.url();
        assert!(url.ends_with("/org/repo/resolve/main/sub/model%20one.gguf"), "{url}");
        for bad in ["repo", "a/b/c", "../b", "a/b:", "a/b:../x.gguf", "a/b:x.bin", "a b/c"] {
            assert!(Spec::parse(bad).is_err(), "{bad}");
        }
    }

    fn choose(spec: &str, files: &[&str]) -> Result<String, String> {
        let files: Vec<RepoFile> = files.iter().map(|path| RepoFile::new(path)).collect();
        match Spec::parse(spec).unwrap().choose(&files) {
            Ok(Found::File(wanted)) => Ok(wanted.hub.file),
            Ok(_) => Ok("directory".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_repository_with_many_files_asks_for_one() {
        let files = ["a.gguf", "b.gguf", "README.md"];
        assert_eq!(choose("o/r:b.gguf", &files), Ok("b.gguf".to_owned()));
        let many = "o/r has 2 model files; choose one as hf:o/r:FILE: a.gguf, b.gguf";
        assert_eq!(choose("o/r", &files), Err(many.to_owned()));
        let none = "o/r has no c.gguf; it has a.gguf, b.gguf";
        assert_eq!(choose("o/r:c.gguf", &files), Err(none.to_owned()));
        assert_eq!(choose("o/r:c.gguf", &["x"]), Err("o/r has no .gguf file".to_owned()));
    }

    #[test]
    fn one_gguf_file_goes_before_a_directory_and_a_directory_before_many() {
        let directory = ["config.json", "tokenizer.json", "model.safetensors"];
        assert_eq!(choose("o/r", &directory), Ok("directory".to_owned()));
        let one = [&directory[..], &["a.gguf"]].concat();
        assert_eq!(choose("o/r", &one), Ok("a.gguf".to_owned()));
        let many = [&one[..], &["b.gguf"]].concat();
        assert_eq!(choose("o/r", &many), Ok("directory".to_owned()));
    }
}
