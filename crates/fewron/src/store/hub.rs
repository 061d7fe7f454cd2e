//! The Hugging Face hub over HTTPS: `HF_ENDPOINT` and `HF_TOKEN` as its own tools read them.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::cache::Home;
use super::fetch::Wanted;
use crate::ui::{self, Progress, Unit};

/// A machine without access should notice within seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest list of files that is believed.
const LIST_LIMIT_BYTES: u64 = 32 << 20;

/// How often a broken transfer is taken up again.
const RETRIES: usize = 3;

/// A file on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) repo: String,
    pub(super) revision: String,
    pub(super) file: String,
}

impl Location {
    /// Where the file can be downloaded.
    pub(super) fn url(&self) -> String {
        let Self { repo, revision, file } = self;
        format!("{}/{repo}/resolve/{revision}/{}", endpoint(), percent_encoded(file))
    }
}

/// The hub's address.
pub(super) fn endpoint() -> String {
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_default();
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.is_empty() { "https://huggingface.co" } else { endpoint }.to_owned()
}

fn percent_encoded(path: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(byte);
    path.bytes()
        .map(|b| if plain(&b) { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// `org/repo[:file]` as the user writes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) repo: String,
    file: Option<String>,
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

    /// The file that is meant: one in the cache, unless `fresh`, else as the hub lists it.
    pub(super) fn find(&self, home: &Home, fresh: bool) -> Result<Wanted> {
        if !fresh && let Some(wanted) = self.cached(home) {
            return Ok(wanted);
        }
        let files = list(&self.repo)?;
        let file = self.choose(&files)?;
        let lfs = file.lfs.as_ref();
        Ok(Wanted {
            size_bytes: Some(lfs.map_or(file.size, |lfs| lfs.size)),
            sha256: lfs.map(|lfs| lfs.oid.to_ascii_lowercase()),
            ..self.wanted(&file.path)
        })
    }

    /// The cached file with its recorded hash.
    fn cached(&self, home: &Home) -> Option<Wanted> {
        let prefix = self.cache_path("");
        let files = home.cached_files().ok()?;
        let mut names = files.iter().filter_map(|file| file.name.strip_prefix(&prefix));
        let name = match &self.file {
            Some(file) => names.find(|name| *name == file.replace('/', "--"))?,
            None => names.next().filter(|_| names.next().is_none())?,
        };
        let record = home.models().join(format!("{prefix}{name}.sha256"));
        let sha256 = fs::read_to_string(record).ok()?.split_whitespace().next()?.to_owned();
        Some(Wanted { sha256: Some(sha256), ..self.wanted(self.file.as_deref().unwrap_or(name)) })
    }

    fn wanted(&self, file: &str) -> Wanted {
        let revision = "main".to_owned();
        Wanted {
            file: self.cache_path(file),
            size_bytes: None,
            sha256: None,
            hub: Location { repo: self.repo.clone(), revision, file: file.to_owned() },
            wheels: &[],
        }
    }

    fn cache_path(&self, file: &str) -> String {
        format!("{}/{}", self.repo.replace('/', "--"), file.replace('/', "--"))
    }

    fn choose<'a>(&self, files: &'a [RepoFile]) -> Result<&'a RepoFile> {
        let names = || files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(", ");
        match (&self.file, files) {
            (_, []) => bail!("{} has no .gguf file", self.repo),
            (Some(wanted), _) => files
                .iter()
                .find(|file| file.path == *wanted)
                .ok_or_else(|| anyhow!("{} has no {wanted}; it has {}", self.repo, names())),
            (None, [only]) => Ok(only),
            (None, _) => bail!(
                "{} has {} model files; choose one as hf:{}:FILE: {}",
                self.repo,
                files.len(),
                self.repo,
                names()
            ),
        }
    }
}

/// A file as the hub lists it.
#[derive(Debug, Deserialize)]
struct RepoFile {
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    /// SHA-256.
    oid: String,
    size: u64,
}

/// The `.gguf` files of a repository.
fn list(repo: &str) -> Result<Vec<RepoFile>> {
    let url = format!("{}/api/models/{repo}/tree/main?recursive=true", endpoint());
    let mut response = get(&url, 0).with_context(|| format!("cannot list {repo}"))?;
    let body = response.body_mut().with_config().limit(LIST_LIMIT_BYTES).reader();
    let files: Vec<RepoFile> = serde_json::from_reader(body)
        .with_context(|| format!("cannot read the hub's list of {repo}"))?;
    Ok(files.into_iter().filter(|file| file.path.ends_with(".gguf")).collect())
}

fn get(url: &str, offset: u64) -> Result<Response<Body>> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("fewron/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(RESPONSE_TIMEOUT))
        .timeout_per_read(Some(STALL_TIMEOUT))
        .build();
    let mut request = Agent::new_with_config(config).get(url).header("Accept-Encoding", "identity");
    if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty()) {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    if offset > 0 {
        request = request.header("Range", format!("bytes={offset}-"));
    }
    let response = request.call()?;
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            bail!("{url} needs a login (accept the model's terms there and set HF_TOKEN)")
        }
        status if status.is_success() => Ok(response),
        status => bail!("{url} answered {status}"),
    }
}

/// Downloads into `part`, and goes on where an earlier try ended.
pub(super) fn download(location: &Location, size: Option<u64>, part: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", part.display());
    let mut output = File::options().create(true).append(true).open(part).with_context(cannot)?;
    let mut retries = 0..RETRIES;
    loop {
        let before = output.seek(SeekFrom::End(0)).with_context(cannot)?;
        if size.is_some_and(|size| before >= size) {
            return Ok(());
        }
        let error = match transfer(location, size, &mut output) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let after = output.seek(SeekFrom::End(0)).with_context(cannot)?;
        let may_retry = after > before && !error.is::<ui::Interrupted>();
        if !may_retry || retries.next().is_none() {
            return Err(error);
        }
    }
}

/// One request: appends what comes, or starts anew where the server does not resume.
fn transfer(location: &Location, size: Option<u64>, output: &mut File) -> Result<()> {
    let mut done = output.seek(SeekFrom::End(0)).context("cannot seek")?;
    let response = get(&location.url(), done)?;
    if response.status() != StatusCode::PARTIAL_CONTENT {
        output.set_len(0).context("cannot start the file anew")?;
        done = 0;
    }
    let remaining = response.body().content_length();
    let total = size.or(remaining.map(|n| done + n)).unwrap_or(0);
    let progress = Progress::new(&location.file, Unit::Bytes, total);
    let mut reader = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 18];
    loop {
        ui::check_interrupt()?;
        match reader.read(&mut buffer).context("the transfer broke off")? {
            0 => break,
            n => {
                output.write_all(&buffer[..n]).context("cannot write the download")?;
                done += n as u64;
                progress.set(done);
            }
        }
    }
    ensure!(done >= total, "the transfer broke off at {done} of {total} bytes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let spec = Spec::parse("org/repo:sub/model one.gguf").unwrap();
        assert_eq!(spec.cache_path("sub/m.gguf"), "org--repo/sub--m.gguf");
        let url = spec.wanted(spec.file.as_deref().unwrap()).hub.url();
        assert!(url.ends_with("/org/repo/resolve/main/sub/model%20one.gguf"), "{url}");
        for bad in ["repo", "a/b/c", "../b", "a/b:", "a/b:../x.gguf", "a/b:x.bin", "a b/c"] {
            assert!(Spec::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_repository_with_many_files_asks_for_one() {
        let file = |path: &str| RepoFile { path: path.to_owned(), size: 1, lfs: None };
        let files = [file("a.gguf"), file("b.gguf")];
        let choose = |spec: &str| {
            let spec = Spec::parse(spec).unwrap();
            spec.choose(&files).map(|f| f.path.clone()).map_err(|e| e.to_string())
        };
        assert_eq!(choose("o/r:b.gguf"), Ok("b.gguf".to_owned()));
        let many = "o/r has 2 model files; choose one as hf:o/r:FILE: a.gguf, b.gguf";
        assert_eq!(choose("o/r"), Err(many.to_owned()));
        let none = "o/r has no c.gguf; it has a.gguf, b.gguf";
        assert_eq!(choose("o/r:c.gguf"), Err(none.to_owned()));
    }
}
