//! `fewron inspect`: what is in a model file.

mod facts;
mod words;

use std::io::{Write, stdout};

use anyhow::Result;

use crate::Outcome;
use crate::cli::InspectArgs;
use crate::loaded::Loaded;

pub(crate) fn run(args: &InspectArgs) -> Result<Outcome> {
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
