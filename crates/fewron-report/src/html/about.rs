//! How the run was made, how to repeat it, and what each number means.

use fewron_eval::record::SweepRun;
use maud::{Markup, html};

use super::facts;
use super::format::{count, count_short, duration};
use super::names::definition;
use super::series::Series;
use super::story::is_runtime;

/// The closing section.
pub(super) fn section(run: &SweepRun, series: &[Series<'_>]) -> Markup {
    html! {
        section #about aria-labelledby="about-title" {
            h2 #about-title { "How it was made" }
            h3 { "Repeat it" }
            (facts::command(&run.settings.command))
            (facts::list(&facts(run)))
            (definitions(run, series))
            (units())
        }
    }
}

fn facts(run: &SweepRun) -> Vec<(&'static str, String)> {
    let settings = &run.settings;
    let mut facts = vec![
        ("Model", run.model.name.clone()),
        ("Architecture", run.model.arch.clone()),
        ("Parameters", count_short(run.model.parameters)),
        ("Model SHA-256", run.model.sha256.clone()),
        ("Data", run.data.name.clone()),
        ("Samples", count(run.data.samples as u64)),
        ("Tokens per point", count(run.data.tokens)),
        ("Data SHA-256", run.data.sha256.clone()),
        ("Protocol", run.protocol.clone()),
        ("Scope", settings.scope.clone()),
        ("Selection", settings.selection.clone()),
        ("Chat template", if settings.raw { "no (--raw)" } else { "yes" }.to_owned()),
        ("Longest answer", format!("{} tokens", settings.max_new_tokens)),
        ("Seed", run.seed.to_string()),
    ];
    if !is_runtime(run) {
        facts.push(("Correction", settings.correction.to_string()));
        facts.push(("IG steps", settings.ig_steps.to_string()));
    }
    facts.extend([
        ("Processor", settings.cpu.clone()),
        ("Threads", settings.threads.to_string()),
        ("Wall time", duration(settings.wall_s)),
        ("Finished", settings.finished_at.clone()),
        ("fewron", settings.version.clone()),
    ]);
    facts
}

fn definitions(run: &SweepRun, series: &[Series<'_>]) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for one in series {
        if !names.contains(&one.name) {
            names.push(one.name);
        }
    }
    html! {
        @if !names.is_empty() {
            h3 { @if is_runtime(run) { "The policies" } @else { "The metrics" } }
            p.note {
                "Higher means keep. " (formula("o_i")) " is a neuron’s output, " (formula("g_i"))
                " the gradient of the label’s cross-entropy with respect to it at the last position, \
                 ‖g‖ the norm over the layer’s units of that kind; " (formula("o_h")) " and "
                (formula("g_h")) " are a head’s vectors."
            }
            div.scroll tabindex="0" role="region" aria-label="Definitions" {
                table.definitions {
                    caption.unseen { "How each score is defined" }
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "MLP neuron" } th scope="col" { "Head" }
                        th scope="col" { "Needs the label" } th scope="col" { "Meaning" }
                    } }
                    tbody { @for name in names { (definition_row(name)) } }
                }
            }
        }
    }
}

fn definition_row(name: &str) -> Markup {
    html! {
        tr {
            th scope="row" { (name) }
            @if let Some(known) = definition(name) {
                td.formula { (formula(known.neuron)) } td.formula { (formula(known.head)) }
                td { @if known.knows_label { "yes" } @else { "no" } }
                td.text { (known.note) }
            } @else {
                td { "–" } td { "–" } td { "–" }
                td.text { "Named by the run; see the plan or the command that made it." }
            }
        }
    }
}

/// `g_i` → g with a subscript: one letter or a word after each underscore.
fn formula(text: &str) -> Markup {
    let mut parts = text.split('_');
    let first = parts.next().unwrap_or_default();
    html! {
        span.formula {
            (first)
            @for part in parts {
                @let end = part.find(|c: char| !c.is_ascii_lowercase() && c != ',').unwrap_or(part.len());
                sub { (part[..end]) } (part[end..])
            }
        }
    }
}

fn units() -> Markup {
    let terms = [
        (
            "Sparsity",
            "Nominal ratio: share of a layer’s units that the mask asks to switch off. \
          “MLP off” and “Heads off” are what came out; “Paper’s” is heads ⁄ 3 + MLP · 2 ⁄ 3; \
          “Bytes” is the share of the layers’ weight bytes that need not be read.",
        ),
        (
            "Agreement",
            "Share of tokens at which the sparse model’s most likely token is the dense \
          model’s own, both reading the dense model’s text.",
        ),
        (
            "KL",
            "Mean KL(dense‖sparse) per token in nats, on the same text; 0 is the same distribution.",
        ),
        (
            "BLEU",
            "Of the sparse model’s free-running text against the dense text, 0 to 100 as \
          sacreBLEU defines it, mean over samples.",
        ),
        ("Intervals", "95% bootstrap over samples."),
        (
            "Masks",
            "Prompt and first token run dense; masks hold from the second generated token on, \
          in all layers.",
        ),
    ];
    html! {
        h3 { "Units" }
        (facts::terms(&terms))
        p.note {
            "Metrics and protocol after Song, Huang, Yin, Yang and Gao, “Achieving Sparse Activation in \
             Small Language Models”, "
            a href="https://arxiv.org/abs/2406.06562" rel="noreferrer noopener" { "arXiv 2406.06562" } "."
        }
    }
}
