//! `fewron inspect`: what is in a model file or in a plan.

mod facts;
mod words;

use std::fs::File;
use std::io::{Read, Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::Outcome;
use crate::cli::InspectArgs;
use crate::loaded::Loaded;
use crate::mask::read_plan_record;
use crate::plan_words;
use crate::store;

pub(crate) fn run(args: &InspectArgs) -> Result<Outcome> {
    let path = store::plan_file(PathBuf::from(&args.model))?;
    if is_plan(&path) {
        return inspect_plan(&path, args.json);
    }
    let loaded = Loaded::open(&args.model)?;
    let facts = facts::Facts::of(&loaded)?;
    let mut out = stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &facts)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", words::table(&facts))?;
    }
    Ok(Outcome::Done)
}

/// Whether an argument is a plan: by its name, or a safetensors file that says so at its start.
fn is_plan(path: &Path) -> bool {
    let named = path.extension().is_some_and(|e| e == "fewron" || e == "plan");
    path.is_file() && (named || starts_as_plan(path).unwrap_or(false))
}

/// Plans are safetensors files: a length of eight bytes, then JSON with their metadata.
fn starts_as_plan(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(1 << 16).read_to_end(&mut start)?;
    let json = start.get(8..).unwrap_or_default();
    let says = json.windows(11).any(|window| window == b"fewron.plan");
    Ok(json.starts_with(b"{") && says)
}

fn inspect_plan(path: &Path, json: bool) -> Result<Outcome> {
    let record = read_plan_record(path)?;
    let mut out = stdout();
    if json {
        serde_json::to_writer_pretty(&mut out, &record)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", plan_words::words(&record))?;
    }
    Ok(Outcome::Done)
}
