//! The page of a bench: how fast each variant reads and writes.

use maud::{Markup, html};

use super::csv::Csv;
use super::facts;
use super::format::{count_short, percent};
use super::metrics::Unit;
use super::page::{self, Frame};
use super::rows::{FULL, Mark, Row, RowPlot};
use super::story::plural;
use super::tables::{column, word_column};
use super::variants::{DENSE, style};
use crate::bench::{BenchRecord, BenchSpeed};

/// The name under which llama.cpp stands among the variants.
const LLAMA_CPP: &str = "llama.cpp";

const TOKENS_S: Unit = Unit::Decimals(1);

/// A contestant in one phase.
struct Entry<'a> {
    name: &'a str,
    bytes_per_token: Option<u64>,
    active: Option<f64>,
    speed: &'a BenchSpeed,
}

/// One phase with all that took part in it.
struct Phase<'a> {
    name: String,
    key: String,
    entries: Vec<Entry<'a>>,
}

/// Renders a bench as a self-contained page. Text from the run is escaped; scripts and styles are allowed
/// by their hash alone, and nothing is fetched.
pub fn render(run: &BenchRecord) -> String {
    let phases = phases(run);
    let sections = html! {
        section.hero {
            p.eyebrow { (run.model.name) " · " (run.cpu) " · " (plural(run.threads, "thread")) }
            h1 { (headline(run)) }
            p.lede {
                "Medians of " (plural(run.repetitions, "repetition")) " that took turns, so that whatever else \
                 the machine did slowed all alike. Thin lines reach from the slowest repetition to the fastest."
            }
        }
        section #speed aria-labelledby="speed-title" {
            h2 #speed-title { "How fast it is" }
            @if phases.is_empty() { p.note { "No phase was timed." } }
            @for phase in &phases { (figure(run, phase)) }
        }
        section #numbers aria-labelledby="numbers-title" {
            h2 #numbers-title { "All numbers" }
            (table(&phases))
        }
        (about(run))
    };
    let frame = Frame {
        kind: "bench",
        title: &format!("{}: speed", run.model.name),
        contents: &[("speed", "Speed"), ("numbers", "Numbers"), ("about", "Method")],
        measured_by: &run.version,
        style: "",
        scripts: &[],
    };
    frame.document(&sections, &page::json(&()))
}

fn headline(run: &BenchRecord) -> String {
    let first = |decode: &[BenchSpeed]| decode.first().map(|speed| speed.median);
    let dense = run.results.iter().find(|result| result.name == DENSE);
    let Some(dense) = dense.and_then(|result| first(&result.decode)) else {
        return "The speed of decoding was not measured for the dense model.".to_owned();
    };
    let sparse = run.results.iter().filter(|result| result.name != DENSE);
    let ratios = sparse.filter_map(|result| {
        let speed = result.decode.first()?;
        Some((result.name.as_str(), speed.ratio_to_dense?))
    });
    match ratios.max_by(|(_, a), (_, b)| a.total_cmp(b)) {
        None => format!("The dense model decodes {dense:.0} tokens per second."),
        Some((name, ratio)) if ratio > 1.0 => {
            format!("{name} decodes {ratio:.2} times as fast as the dense model.")
        }
        Some(_) => "No sparse variant decodes faster than the dense model.".to_owned(),
    }
}

fn phases(run: &BenchRecord) -> Vec<Phase<'_>> {
    let own = run.results.iter().flat_map(|result| {
        result.prefill.iter().chain(&result.decode).map(move |speed| Entry {
            name: &result.name,
            bytes_per_token: speed.kv_length.map(|_| result.bytes_per_token),
            active: speed.kv_length.map(|_| result.active_fraction),
            speed,
        })
    });
    let rival = run.llama_cpp.iter().flat_map(|rival| {
        rival.prefill.iter().chain(&rival.decode).map(|speed| Entry {
            name: LLAMA_CPP,
            bytes_per_token: None,
            active: None,
            speed,
        })
    });
    let mut phases: Vec<Phase<'_>> = Vec::new();
    for entry in own.chain(rival) {
        let (name, key) = words(entry.speed);
        match phases.iter_mut().find(|phase| phase.key == key) {
            Some(phase) => phase.entries.push(entry),
            None => phases.push(Phase { name, key, entries: vec![entry] }),
        }
    }
    phases
}

fn words(speed: &BenchSpeed) -> (String, String) {
    let tokens = speed.tokens;
    match speed.kv_length {
        Some(0) => (format!("Decoding {tokens} tokens from an empty cache"), "decode-0".to_owned()),
        Some(kv) => (format!("Decoding {tokens} tokens after {kv}"), format!("decode-{kv}")),
        None => (format!("Reading a prompt of {tokens} tokens"), format!("prefill-{tokens}")),
    }
}

fn figure(run: &BenchRecord, phase: &Phase<'_>) -> Markup {
    let mut all: Vec<&str> = run.results.iter().map(|result| result.name.as_str()).collect();
    all.push(LLAMA_CPP);
    let plot = RowPlot {
        title: format!("{}, tokens per second", phase.name),
        rows: phase.entries.iter().map(|entry| row(entry, &all)).collect(),
        mark: Mark::Bar,
        unit: TOKENS_S,
        ends: (0.0, f64::INFINITY),
        reference: None,
        sides: None,
        heads: &["tokens/s", "to dense", "slowest to fastest"],
    };
    html! {
        figure.plot {
            div.controls { h3 { (phase.name) span.muted { " tokens/s" } } (csv(phase)) }
            (plot.render(FULL))
        }
    }
}

fn row(entry: &Entry<'_>, all: &[&str]) -> Row {
    let speed = entry.speed;
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let ratio = speed.ratio_to_dense.filter(|_| entry.name != DENSE);
    let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}×"));
    let range = TOKENS_S.range(speed.min, speed.max);
    let mut facts = vec![
        fact("tokens/s", TOKENS_S.text(speed.median)),
        fact("slowest to fastest", range.clone()),
    ];
    if !ratio.is_empty() {
        facts.push(fact("against dense", ratio.clone()));
    }
    facts.extend(entry.bytes_per_token.map(|bytes| fact("bytes per token", count_short(bytes))));
    facts.extend(entry.active.map(|active| fact("neurons on", percent(active, 0))));
    Row {
        label: entry.name.to_owned(),
        style: style(entry.name, all),
        strong: false,
        value: speed.median,
        interval: Some((speed.min, speed.max)),
        texts: vec![TOKENS_S.text(speed.median), ratio, range],
        facts,
    }
}

fn csv(phase: &Phase<'_>) -> Markup {
    let mut csv =
        Csv::new(&phase.key, &["variant", "tokens_per_second", "min", "max", "ratio_to_dense"]);
    for Entry { name, speed, .. } in &phase.entries {
        let ratio = speed.ratio_to_dense.into();
        csv.row(&[(*name).into(), speed.median.into(), speed.min.into(), speed.max.into(), ratio]);
    }
    csv.link()
}

fn table(phases: &[Phase<'_>]) -> Markup {
    let dash = || "–".to_owned();
    html! {
        div.scroll.tall tabindex="0" role="region" aria-label="All numbers, sortable" {
            table.sortable.words {
                caption.unseen { "Every phase by every variant" }
                thead { tr {
                    (column("Phase")) (word_column("Variant")) (column("Tokens/s")) (column("Slowest")) (column("Fastest"))
                    (column("To dense")) (column("Bytes per token")) (column("Neurons on"))
                } }
                tbody { @for phase in phases { @for entry in &phase.entries {
                    @let speed = entry.speed;
                    tr {
                        th scope="row" data-v=(phase.name) { (phase.name) }
                        td.word data-v=(entry.name) { (entry.name) }
                        @for value in [speed.median, speed.min, speed.max] { td data-v=(value) { (TOKENS_S.text(value)) } }
                        td data-v=[speed.ratio_to_dense] { (speed.ratio_to_dense.map_or_else(dash, |ratio| format!("{ratio:.2}×"))) }
                        td data-v=[entry.bytes_per_token] { (entry.bytes_per_token.map_or_else(dash, count_short)) }
                        td data-v=[entry.active] { (entry.active.map_or_else(dash, |active| percent(active, 0))) }
                    }
                } } }
            }
        }
    }
}

fn about(run: &BenchRecord) -> Markup {
    let mut facts = vec![
        ("Model", run.model.name.clone()),
        ("Parameters", count_short(run.model.parameters)),
        ("Processor", run.cpu.clone()),
        ("Threads", run.threads.to_string()),
        ("Model SHA-256", run.model.sha256.clone()),
        ("Repetitions", run.repetitions.to_string()),
        ("Finished", run.finished_at.clone()),
        ("fewron", run.version.clone()),
    ];
    facts.extend(run.llama_cpp.iter().map(|rival| ("llama-cpp-python", rival.version.clone())));
    html! {
        section #about aria-labelledby="about-title" {
            h2 #about-title { "How it was made" }
            h3 { "Repeat it" }
            (facts::command(&run.command))
            (facts::list(&facts))
            p.note {
                "“To dense” is the median of the ratios of repetitions that followed each other. Prompts are read \
                 by the dense model whatever the variant."
            }
        }
    }
}
