//! The Hugging Face hub over HTTPS: `HF_ENDPOINT` and `HF_TOKEN` as its own tools read them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

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

/// A file as the hub lists it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RepoFile {
    pub(super) path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Clone, Debug, Deserialize)]
struct Lfs {
    /// SHA-256.
    oid: String,
    size: u64,
}

impl RepoFile {
    pub(super) fn size_bytes(&self) -> u64 {
        self.lfs.as_ref().map_or(self.size, |lfs| lfs.size)
    }

    /// SHA-256 in lower-case hex, which the hub tells of large files.
    pub(super) fn sha256(&self) -> Option<String> {
        self.lfs.as_ref().map(|lfs| lfs.oid.to_ascii_lowercase())
    }

    #[cfg(test)]
    pub(super) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), size: 1, lfs: None }
    }
}

/// The files of a repository.
pub(super) fn list(repo: &str) -> Result<Vec<RepoFile>> {
    let url = format!("{}/api/models/{repo}/tree/main?recursive=true", endpoint());
    let mut response = get(&url, 0).with_context(|| format!("cannot list {repo}"))?;
    let body = response.body_mut().with_config().limit(LIST_LIMIT_BYTES).reader();
    serde_json::from_reader(body).with_context(|| format!("cannot read the hub's list of {repo}"))
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
