//! `fewron models`: models and plans that can be had by name, and what is in the cache.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use fewron_sparsity::plan::record::PlanRecord;
use serde::Serialize;

use crate::Outcome;
use crate::cli::ModelsArgs;
use crate::mask::read_plan_record;
use crate::store::{self, Entry, Home, Place, PlanEntry};
use crate::ui::show_bytes;

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
    /// The plans that come with it.
    plans: Vec<ListedPlan>,
}

/// A plan that comes with fewron's source.
#[derive(Serialize)]
struct ListedPlan {
    name: &'static str,
    licence: &'static str,
    size_bytes: Option<u64>,
    path: Option<PathBuf>,
    /// What the file says about itself.
    record: Option<PlanRecord>,
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
        writeln!(out, "\n{}", plan_table(&models))?;
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
            plans: Vec::new(),
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
        plans: plans_of(entry.name),
    }
}

fn plans_of(model: &str) -> Vec<ListedPlan> {
    let listed = |plan: &PlanEntry| {
        let path = store::source_path(plan.file);
        let size_bytes = path.metadata().ok().map(|meta| meta.len());
        let record = read_plan_record(&path).ok();
        let path = size_bytes.map(|_| path);
        ListedPlan { name: plan.name, licence: plan.licence, size_bytes, path, record }
    };
    store::PLANS.iter().filter(|plan| plan.model == model).map(listed).collect()
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
    show(table, &[1])
}

/// The plans of all models, with what their files say they cost on held-out text.
fn plan_table(models: &[Listed]) -> String {
    let mut table = Table::new();
    let header = ["PLAN", "MODEL", "OFF", "SIZE", "PERPLEXITY", "KL", "LICENCE"];
    table.load_style(presets::NOTHING).set_header(header);
    for (model, plan) in models.iter().flat_map(|m| m.plans.iter().map(move |plan| (m, plan))) {
        let gone = || "the source is gone".to_owned();
        let record = plan.record.as_ref();
        let held_out = record.and_then(|record| record.held_out.as_ref());
        let words = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        table.add_row([
            plan.name.to_owned(),
            model.name.clone(),
            words(record.map(|record| format!("{:.0}%", 100.0 * record.sparsity))),
            plan.size_bytes.map_or_else(gone, |bytes| show_bytes(bytes as f64)),
            words(held_out.map(|h| format!("{:.3} ({:.3}x)", h.perplexity, h.perplexity_ratio()))),
            words(held_out.map(|h| format!("{:.3}", h.kl))),
            plan.licence.to_owned(),
        ]);
    }
    show(table, &[2, 3, 4, 5])
}

/// Lines of a table with some columns of numbers.
fn show(mut table: Table, numbers: &[usize]) -> String {
    for &column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}
