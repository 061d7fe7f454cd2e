//! `fewron pull`: a model into the cache.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result};
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
    let sha256 = model.sha256()?;
    let ModelFile { path, name, .. } = model;
    let size_bytes =
        path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
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
