//! How the run was made, how to repeat it, and what its words mean.

use fewron_eval::neurons::LEAST_ANSWERS;
use fewron_eval::neurons::record::NeuronRun;
use maud::{Markup, html};

use super::super::format::{count, count_short, duration, ratio};

pub(super) fn section(run: &NeuronRun) -> Markup {
    html! {
        section #about aria-labelledby="about-title" {
            h2 #about-title { "How it was made" }
            h3 { "Repeat it" }
            div.command {
                pre tabindex="0" { code { (run.settings.command) } }
                button type="button" data-copy=(run.settings.command) { "Copy" }
            }
            dl.facts { @for (name, value) in facts(run) { div class=[name.ends_with("SHA-256").then_some("hash")] { dt { (name) } dd { (value) } } } }
            (categories(run))
            h3 { "Terms" }
            dl.terms { @for (name, text) in TERMS { div { dt { (name) } dd { (text) } } } }
            p.note {
                "Metrics after Song et al., “Achieving Sparse Activation in Small Language Models”, "
                a href="https://arxiv.org/abs/2406.06562" rel="noreferrer noopener" { "arXiv 2406.06562" }
                "; promoted tokens after Geva et al., “Transformer Feed-Forward Layers Are Key-Value Memories”, "
                a href="https://arxiv.org/abs/2012.14913" rel="noreferrer noopener" { "arXiv 2012.14913" } "."
            }
        }
    }
}

const TERMS: [(&str, &str); 5] = [
    ("Unit", "An MLP neuron (one output of the activation) or an attention head."),
    (
        "Mask",
        "Metrics score the dense model’s units with the label known (oracle); policies see what a running \
         model sees (runtime). Each keeps the best units of a layer at every token.",
    ),
    ("Token", "A step of an answer from its second token on: the first that a mask can touch."),
    ("Output", "Of the dense model: the activation that the down projection reads."),
    ("Tests", "Count answers, not tokens, since the tokens of an answer resemble each other."),
];

fn facts(run: &NeuronRun) -> Vec<(&'static str, String)> {
    let settings = &run.settings;
    vec![
        ("Model", run.model.name.clone()),
        ("Architecture", run.model.arch.clone()),
        ("Parameters", count_short(run.model.parameters)),
        ("Model SHA-256", run.model.sha256.clone()),
        ("Data", run.data.name.clone()),
        ("Answers", count(run.data.samples as u64)),
        ("Tokens", count(run.data.tokens)),
        ("Data SHA-256", run.data.sha256.clone()),
        ("Ratio", ratio(run.ratio)),
        ("Scope", settings.scope.clone()),
        ("Selection", settings.selection.clone()),
        ("Chat template", if settings.raw { "no (--raw)" } else { "yes" }.to_owned()),
        ("Longest answer", format!("{} tokens", settings.max_new_tokens)),
        ("Seed", run.seed.to_string()),
        ("Answers tested", count(run.stored.answers as u64)),
        ("Processor", settings.cpu.clone()),
        ("Threads", settings.threads.to_string()),
        ("Wall time", duration(settings.wall_s)),
        ("Finished", settings.finished_at.clone()),
        ("fewron", settings.version.clone()),
    ]
}

fn categories(run: &NeuronRun) -> Markup {
    html! {
        @if !run.categories.is_empty() {
            h3 { "Categories" }
            p.note { "Those with at least " (LEAST_ANSWERS) " answers, and as many outside, are tested." }
            div.scroll.tall tabindex="0" role="region" aria-label="Categories" {
                table {
                    caption.unseen { "Categories, with their answers and tokens" }
                    thead { tr { @for name in ["Category", "Answers", "Tokens"] { th scope="col" { (name) } } } }
                    tbody { @for category in &run.categories {
                        tr { th scope="row" { (category.name) } td { (category.answers) } td { (category.tokens) } }
                    } }
                }
            }
        }
    }
}
