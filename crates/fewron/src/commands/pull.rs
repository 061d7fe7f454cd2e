//! `fewron pull`: a model into the cache.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::Outcome;
use crate::cli::PullArgs;
use crate::store::{self, ModelFile};

#[derive(Serialize)]
struct Pulled {
    name: String,
    path: PathBuf,
    size_bytes: u64,
    sha256: String,
}

pub(crate) fn run(args: &PullArgs) -> Result<Outcome> {
    let model = store::pull(&args.name)?;
    let (sha256, size_bytes) = (model.sha256()?, model.size_bytes()?);
    let ModelFile { path, name, .. } = model;
    let pulled = Pulled { name, path, size_bytes, sha256 };
    let mut out = stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &pulled)?;
        writeln!(out)?;
    } else {
        let Pulled { name, path, size_bytes, sha256 } = pulled;
        writeln!(out, "{name}: {} ({size_bytes} bytes, sha256 {sha256})", path.display())?;
    }
    Ok(Outcome::Done)
}
