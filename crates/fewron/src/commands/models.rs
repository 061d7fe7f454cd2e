//! `fewron models`: what can be had by name, and what is in the cache.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::Outcome;
use crate::cli::ModelsArgs;
use crate::store::{self, Entry, Home, Place};

/// One line of the list. A cached file that the registry does not know has no licence.
#[derive(Serialize)]
struct Listed {
    name: String,
    aliases: &'static [&'static str],
    size_bytes: u64,
    licence: Option<&'static str>,
    sha256: Option<&'static str>,
    /// Whether it comes with fewron's source and needs no download.
    with_source: bool,
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
    let known = store::REGISTRY.iter().map(|entry| registered(home, entry));
    let others = home
        .cached_files()?
        .into_iter()
        .filter(|file| {
            let mut known = store::REGISTRY.iter().filter_map(Entry::download);
            known.all(|download| download.file != file.name)
        })
        .map(|file| Listed {
            name: file.name,
            aliases: &[],
            size_bytes: file.size_bytes,
            licence: None,
            sha256: None,
            with_source: false,
            cached: true,
            path: Some(file.path),
        });
    Ok(known.chain(others).collect())
}

fn registered(home: &Home, entry: &Entry) -> Listed {
    let (path, there) = match &entry.place {
        Place::Download(download) => {
            let path = home.models().join(download.file);
            let there = path.metadata().is_ok_and(|meta| meta.len() == entry.size_bytes);
            (path, there)
        }
        Place::Source(folder) => {
            let path = store::source_path(folder);
            let there = store::has_model(&path);
            (path, there)
        }
    };
    let download = entry.download();
    Listed {
        name: entry.name.to_owned(),
        aliases: entry.aliases,
        size_bytes: entry.size_bytes,
        licence: Some(entry.licence),
        sha256: download.map(|download| download.sha256),
        with_source: download.is_none(),
        cached: there && download.is_some(),
        path: there.then_some(path),
    }
}

fn table(models: &[Listed]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["NAME", "SIZE", "LICENCE", "CACHED", "ALSO"]);
    for model in models {
        table.add_row([
            model.name.clone(),
            format!("{:.1} MB", model.size_bytes as f64 / 1e6),
            model.licence.unwrap_or("-").to_owned(),
            match (model.with_source, &model.path) {
                (true, Some(_)) => "comes with the source",
                (true, None) => "the source is gone",
                (false, Some(_)) => "yes",
                (false, None) => "no",
            }
            .to_owned(),
            model.aliases.join(", "),
        ]);
    }
    if let Some(size) = table.column_mut(1) {
        size.set_cell_alignment(CellAlignment::Right);
    }
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}
