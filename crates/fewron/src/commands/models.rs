//! `fewron models`: what can be had by name, and what is in the cache.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::Outcome;
use crate::cli::ModelsArgs;
use crate::store::{self, Home};

/// One line of the list. A cached file that the registry does not know has no licence.
#[derive(Serialize)]
struct Listed {
    name: String,
    aliases: &'static [&'static str],
    size_bytes: u64,
    licence: Option<&'static str>,
    sha256: Option<&'static str>,
    cached: bool,
    path: Option<PathBuf>,
}

pub(crate) fn run(args: &ModelsArgs) -> Result<Outcome> {
    let home = Home::find()?;
    let models = list(&home)?;
    let mut out = stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &models)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", table(&models))?;
        writeln!(out, "\nCache: {}", home.models().display())?;
    }
    Ok(Outcome::Done)
}

fn list(home: &Home) -> Result<Vec<Listed>> {
    let known = store::REGISTRY.iter().map(|entry| {
        let path = home.models().join(entry.file);
        let cached = path.metadata().is_ok_and(|meta| meta.len() == entry.size_bytes);
        Listed {
            name: entry.name.to_owned(),
            aliases: entry.aliases,
            size_bytes: entry.size_bytes,
            licence: Some(entry.licence),
            sha256: Some(entry.sha256),
            cached,
            path: cached.then_some(path),
        }
    });
    let others = home
        .cached_files()?
        .into_iter()
        .filter(|file| store::REGISTRY.iter().all(|entry| entry.file != file.name))
        .map(|file| Listed {
            name: file.name,
            aliases: &[],
            size_bytes: file.size_bytes,
            licence: None,
            sha256: None,
            cached: true,
            path: Some(file.path),
        });
    Ok(known.chain(others).collect())
}

fn table(models: &[Listed]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["NAME", "SIZE", "LICENCE", "CACHED", "ALSO"]);
    for model in models {
        table.add_row([
            model.name.clone(),
            format!("{:.1} MB", model.size_bytes as f64 / 1e6),
            model.licence.unwrap_or("-").to_owned(),
            if model.cached { "yes" } else { "no" }.to_owned(),
            model.aliases.join(", "),
        ]);
    }
    if let Some(size) = table.column_mut(1) {
        size.set_cell_alignment(CellAlignment::Right);
    }
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}
