//! Neuron analytics as files for notebooks.

use std::io::Write as _;
use std::path::Path;

use fewron_eval::neurons::NeuronResult;
use fewron_eval::neurons::record::{Kind, LayerRecord, MaskUnits, Means, NeuronCard, NeuronRun};
use serde_json::json;

use crate::ReportError;
use crate::atomic::AtomicFile;
use crate::html;
use crate::parquet::{Column, Table};

/// Writes `neurons.parquet`, `categories.parquet` (where the data has categories) and `pairs.parquet`, each
/// as CSV too, `layers.csv`, and `contexts.jsonl` (where there are cards) into a folder.
///
/// # Errors
/// [`ReportError`] when a file cannot be written; those before it are there then.
pub fn write_neurons(result: &NeuronResult, folder: &Path) -> Result<(), ReportError> {
    let NeuronResult { run, units } = result;
    neurons(run, units).write_both(folder, "neurons")?;
    if !run.categories.is_empty() {
        categories(run, units).write_both(folder, "categories")?;
    }
    pairs(run).write_both(folder, "pairs")?;
    layers(run).write_csv(&folder.join("layers.csv"))?;
    if !run.cards.is_empty() {
        write_contexts(&run.cards, &folder.join("contexts.jsonl"))?;
    }
    Ok(())
}

/// Renders the page of a run and writes it in one step.
///
/// # Errors
/// [`ReportError::Io`] when the folder does not exist or cannot be written.
pub fn write_neuron_report(run: &NeuronRun, path: &Path) -> Result<(), ReportError> {
    let mut file = AtomicFile::create(path)?;
    let page = html::render_neurons(run);
    file.write_all(page.as_bytes()).map_err(|source| ReportError::write(path, source))?;
    file.commit()
}

/// The columns that name a unit, by mask, kind, layer and unit.
fn keys(run: &NeuronRun, units: &[MaskUnits]) -> Table {
    let places = || {
        units.iter().flat_map(|counted| {
            (0..run.layers * counted.units)
                .map(move |at| (counted, at / counted.units, at % counted.units))
        })
    };
    let kind = |counted: &MaskUnits| counted.kind.map_or("", Kind::name).to_owned();
    Table::default()
        .with("mask", Column::Text(places().map(|(counted, ..)| counted.name.clone()).collect()))
        .with("kind", Column::Text(places().map(|(counted, ..)| kind(counted)).collect()))
        .with("layer", Column::Int(places().map(|(_, layer, _)| layer as i32).collect()))
        .with("unit", Column::Int(places().map(|(.., unit)| unit as i32).collect()))
}

fn neurons(run: &NeuronRun, units: &[MaskUnits]) -> Table {
    let counts = || units.iter().flat_map(|c| c.kept.iter().map(move |&kept| (kept, c.tokens)));
    let share = |(kept, tokens): (u32, u64)| (f64::from(kept) / tokens as f64) as f32;
    let means = |of: fn(&MaskUnits) -> &Means, absolute: bool| -> Column {
        let of_mask = |counted: &MaskUnits| {
            let Means { signed, absolute: sizes } = of(counted);
            let values = if absolute { sizes } else { signed };
            let missing = counted.kept.len() - values.len();
            values.iter().copied().chain(vec![f64::NAN; missing]).collect::<Vec<f64>>()
        };
        Column::Double(units.iter().flat_map(of_mask).collect())
    };
    keys(run, units)
        .with("steps", Column::Long(counts().map(|(_, tokens)| tokens as i64).collect()))
        .with("kept_steps", Column::Long(counts().map(|(kept, _)| i64::from(kept)).collect()))
        .with("kept", Column::Float(counts().map(share).collect()))
        .with("score", means(|units| &units.scores, false))
        .with("score_abs", means(|units| &units.scores, true))
        .with("output", means(|units| &units.outputs, false))
        .with("output_abs", means(|units| &units.outputs, true))
}

/// One column a category: share of its steps that keep the unit.
fn categories(run: &NeuronRun, units: &[MaskUnits]) -> Table {
    let table = keys(run, units);
    run.categories.iter().enumerate().fold(table, |table, (index, category)| {
        let tokens = category.tokens as f32;
        let share = |&count: &u32| if tokens > 0.0 { count as f32 / tokens } else { f32::NAN };
        let shares = units.iter().flat_map(|counted| counted.by_category[index].iter().map(share));
        let taken = ["mask", "kind", "layer", "unit"].contains(&category.name.as_str());
        let name = if taken { "category " } else { "" }.to_owned() + &category.name;
        table.with(&name, Column::Float(shares.collect()))
    })
}

fn pairs(run: &NeuronRun) -> Table {
    let pairs =
        || run.masks.iter().flat_map(|mask| mask.pairs.iter().map(move |pair| (mask, pair)));
    Table::default()
        .with("mask", Column::Text(pairs().map(|(mask, _)| mask.name.clone()).collect()))
        .with("kind", Column::Text(pairs().map(|(_, pair)| pair.kind.to_string()).collect()))
        .with("layer", Column::Int(pairs().map(|(_, pair)| pair.layer as i32).collect()))
        .with("a", Column::Int(pairs().map(|(_, pair)| pair.a as i32).collect()))
        .with("b", Column::Int(pairs().map(|(_, pair)| pair.b as i32).collect()))
        .with("both", Column::Long(pairs().map(|(_, pair)| pair.both as i64).collect()))
        .with("lift", Column::Double(pairs().map(|(_, pair)| pair.lift).collect()))
        .with("phi", Column::Double(pairs().map(|(_, pair)| pair.phi).collect()))
}

fn layers(run: &NeuronRun) -> Table {
    let rows = || run.masks.iter().flat_map(|mask| mask.layers.iter().map(move |row| (mask, row)));
    let double = |value: &dyn Fn(&LayerRecord) -> Option<f64>| {
        Column::Double(rows().map(|(_, row)| value(row).unwrap_or(f64::NAN)).collect())
    };
    Table::default()
        .with("mask", Column::Text(rows().map(|(mask, _)| mask.name.clone()).collect()))
        .with("kind", Column::Text(rows().map(|(_, row)| row.kind.to_string()).collect()))
        .with("layer", Column::Int(rows().map(|(_, row)| row.layer as i32).collect()))
        .with("kept", double(&|row| Some(row.kept)))
        .with("dead", Column::Int(rows().map(|(_, row)| row.dead as i32).collect()))
        .with("hot", Column::Int(rows().map(|(_, row)| row.hot as i32).collect()))
        .with("jaccard_next_step", double(&|row| row.stability.jaccard))
        .with("jaccard_other_answer", double(&|row| row.between.jaccard))
        .with("jaccard_chance", double(&|row| row.stability.chance))
        .with("score_share", double(&|row| Some(row.score?.share)))
        .with("score_abs", double(&|row| Some(row.score?.absolute)))
        .with("score", double(&|row| Some(row.score?.signed)))
}

/// One line a context, by neuron, the largest output first.
fn write_contexts(cards: &[NeuronCard], path: &Path) -> Result<(), ReportError> {
    let mut file = AtomicFile::create(path)?;
    for card in cards {
        for (rank, context) in card.contexts.iter().enumerate() {
            let line = json!({
                "layer": card.layer, "neuron": card.neuron, "rank": rank + 1,
                "output": context.output, "sample": context.sample, "question": context.question,
                "before": context.before, "token": context.token, "after": context.after,
            });
            writeln!(file, "{line}").map_err(|source| ReportError::write(path, source))?;
        }
    }
    file.commit()
}
