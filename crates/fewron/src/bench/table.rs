//! The results of a bench in words: a table for the terminal, and one in Markdown.

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::record::{BenchRun, Speed, VariantRecord};
use crate::ui::show_bytes;

/// A column: its title, and what it says of a line, if anything.
type Column = (&'static str, fn(&Line) -> Option<String>);

/// What is known of one contestant in one phase.
struct Line<'a> {
    name: &'a str,
    speed: &'a Speed,
    /// The variant in a phase that decodes.
    decoded: Option<&'a VariantRecord>,
    active_fraction: Option<f64>,
    /// Whether memory for weights is limited.
    budget: bool,
}

const COLUMNS: [Column; 16] = [
    ("", |line| Some(line.name.to_owned())),
    ("run", |line| Some(phase(line.speed))),
    ("tokens/s", |line| {
        let summary = &line.speed.summary;
        Some(format!("{:.1} ± {:.1}", summary.median, summary.mad))
    }),
    ("min to max", |line| {
        let summary = &line.speed.summary;
        Some(format!("{:.1} to {:.1}", summary.min, summary.max))
    }),
    ("vs dense", |line| times(line.speed.ratio_to_dense)),
    ("vs llama.cpp", |line| times(line.speed.ratio_to_llama_cpp)),
    ("active", |line| line.active_fraction.map(percent)),
    ("first token", |line| {
        line.speed.time_to_first_token_s.map(|seconds| format!("{:.0} ms", 1e3 * seconds))
    }),
    ("per token", |line| line.decoded.map(|v| show_bytes(v.bytes_per_token as f64))),
    ("MFLOPs", |line| line.decoded.map(|v| format!("{:.0}", v.flops_per_token as f64 * 1e-6))),
    ("of floor", |line| line.speed.fraction_of_floor.map(percent)),
    ("J/token", |line| line.speed.joules_per_token.map(|joules| format!("{joules:.3}"))),
    ("J/token, modelled", |line| {
        line.decoded?.modelled_joules_per_token.map(|joules| format!("{joules:.3}"))
    }),
    ("resident", |line| {
        let bytes = line.speed.resident_bytes.filter(|_| line.budget);
        bytes.map(|bytes| show_bytes(bytes as f64))
    }),
    ("minor faults", |line| faults(line, line.speed.minor_faults_per_token)),
    ("major", |line| faults(line, line.speed.major_faults_per_token)),
];

/// Page faults for each token.
fn faults(line: &Line, per_token: Option<f64>) -> Option<String> {
    per_token.filter(|_| line.budget).map(|faults| format!("{faults:.1}"))
}

/// Columns of words; the others hold numbers.
const WORDS: usize = 2;

/// All results for a terminal.
pub(crate) fn words(run: &BenchRun) -> String {
    let (header, rows) = cells(run);
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    for row in rows {
        let right = |(column, text): (usize, String)| match column < WORDS {
            true => Cell::new(text),
            false => Cell::new(text).set_alignment(CellAlignment::Right),
        };
        table.add_row(row.into_iter().enumerate().map(right));
    }
    format!("{table}\n{}", facts(run).join("\n"))
}

/// All results as a table of GitHub's Markdown.
pub(crate) fn markdown(run: &BenchRun) -> String {
    let (header, rows) = cells(run);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rules = (0..header.len()).map(|column| if column < WORDS { "---" } else { "---:" });
    let rules = line(rules.map(str::to_owned).collect());
    let header = line(header.into_iter().map(str::to_owned).collect());
    let rows: String = rows.into_iter().map(line).collect();
    let facts: String = facts(run).iter().map(|fact| format!("- {fact}\n")).collect();
    format!("{header}{rules}{rows}\n{facts}")
}

/// The titles and rows of the columns that say something.
fn cells(run: &BenchRun) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let lines = lines(run);
    let used = |column: &&Column| lines.iter().any(|line| (column.1)(line).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(used).collect();
    let row = |line| columns.iter().map(|column| (column.1)(line).unwrap_or_default()).collect();
    (columns.iter().map(|column| column.0).collect(), lines.iter().map(row).collect())
}

/// Prefill first, then each KV length, so that what is to be compared stands together.
fn lines(run: &BenchRun) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for result in &run.results {
        let speeds = result.prefill.iter().chain(&result.decode);
        lines.extend(speeds.map(|speed| Line {
            name: &result.name,
            speed,
            decoded: speed.kv_length.map(|_| result),
            active_fraction: speed.kv_length.map(|_| result.active_fraction),
            budget: run.resident_budget_bytes.is_some(),
        }));
    }
    if let Some(llama_cpp) = &run.llama_cpp {
        let speeds = llama_cpp.prefill.iter().chain(&llama_cpp.decode);
        lines.extend(speeds.map(|speed| Line {
            name: "llama.cpp",
            speed,
            decoded: None,
            active_fraction: None,
            budget: false,
        }));
    }
    let order: Vec<Option<usize>> =
        run.results[0].decode.iter().map(|speed| speed.kv_length).collect();
    lines.sort_by_key(|line| order.iter().position(|kv| *kv == line.speed.kv_length));
    lines
}

/// What was timed.
pub(crate) fn phase(speed: &Speed) -> String {
    match speed.kv_length {
        None => format!("prefill {}", speed.tokens),
        Some(kv_length) => format!("decode {} after {kv_length}", speed.tokens),
    }
}

fn times(ratio: Option<f64>) -> Option<String> {
    ratio.map(|ratio| format!("{ratio:.2}x"))
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// What holds for all rows.
fn facts(run: &BenchRun) -> Vec<String> {
    let speed = |bytes_s: f64| format!("{:.1} GB/s", bytes_s / 1e9);
    let mut facts = vec![
        format!("{} on {} ({}), threads: {}", run.model.name, run.cpu, run.isa, run.threads),
        format!("medians ± median absolute deviations, repetitions: {}", run.repetitions),
        format!(
            "memory reads {} over {}, {} over a token's weights",
            speed(run.bandwidth_bytes_s),
            show_bytes(run.bandwidth_buffer_bytes as f64),
            speed(run.working_set_bandwidth_bytes_s)
        ),
    ];
    if let Some(bytes) = run.resident_budget_bytes {
        facts.push(format!("memory for weights {}", show_bytes(bytes as f64)));
    }
    if let Some(bytes) = run.results[0].peak_rss_bytes {
        facts.push(format!("peak memory {}", show_bytes(bytes as f64)));
    }
    if let Some(llama_cpp) = &run.llama_cpp {
        let memory = |bytes: u64| format!(", peak memory {}", show_bytes(bytes as f64));
        let base = |bytes: u64| format!(" ({} of it Python's)", show_bytes(bytes as f64));
        facts.push(format!(
            "llama-cpp-python {}{}{}",
            llama_cpp.version,
            llama_cpp.peak_rss_bytes.map(memory).unwrap_or_default(),
            llama_cpp.base_rss_bytes.map(base).unwrap_or_default()
        ));
    }
    facts
}
