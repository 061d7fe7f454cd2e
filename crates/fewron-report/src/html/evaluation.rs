//! The page of an evaluation: what sparsity cost on each task.

mod active;
mod story;
mod table;
mod tasks;

use fewron_eval::tasks::{EvalRun, TaskRecord};
use maud::{Markup, html};

use super::changes::{self, Sides};
use super::facts;
use super::format::{count, count_short, duration, percent};
use super::metrics;
use super::page::{self, Frame};
use super::story::plural;
use super::variants::{DENSE, style};
use story::Verdict;

/// Bytes that the samples of a page may take together.
const SAMPLES_BUDGET: usize = 1_200_000;

/// Renders an evaluation as a self-contained page. Text from the run is escaped; scripts and styles are
/// allowed by their hash alone, and nothing is fetched.
pub fn render(run: &EvalRun) -> String {
    let verdicts = story::verdicts(run);
    let best = story::best(&verdicts);
    let active = active::section(run);
    let changed = changed(run, best);
    let sections = html! {
        (hero(run, best))
        (tasks::section(run))
        @if let Some(active) = &active { (active) }
        (table::section(run))
        @if let Some(changed) = &changed { (changed) }
        (about(run))
    };
    let mut contents = vec![("tasks", "Tasks")];
    contents.extend(active.is_some().then_some(("active", "Neurons")));
    contents.push(("numbers", "Numbers"));
    contents.extend(changed.is_some().then_some(("changed", "Changed")));
    contents.push(("about", "Method"));
    let frame = Frame {
        kind: "evaluation",
        title: &format!("{}: evaluation", run.model.name),
        contents: &contents,
        measured_by: &run.version,
        style: "",
        scripts: &[],
    };
    frame.document(&sections, &page::json(&()))
}

fn hero(run: &EvalRun, best: Option<&Verdict<'_>>) -> Markup {
    html! {
        section.hero {
            p.eyebrow {
                (run.model.name) " · " (plural(run.tasks.len(), "task")) " · "
                (plural(run.variants.len(), "variant"))
            }
            h1 { (story::headline(run, best)) }
            p.lede { (story::subject(run)) }
            @if let Some(best) = best { (figures(best)) }
        }
    }
}

/// The numbers of the headline, large.
fn figures(best: &Verdict<'_>) -> Markup {
    html! {
        dl.figures {
            @if let Some((task, loss)) = best.worst {
                div {
                    dt { "May lose up to" } dd { (percent(loss.high.max(0.0), 1)) }
                    dd.small { "on " (task) ", 95% sure; measured " (metrics::Unit::Change.text(loss.mean)) " lost" }
                }
            }
            @if let Some(active) = best.active {
                div { dt { "Neurons on" } dd { (percent(active, 0)) } dd.small { "of the MLPs’, at masked tokens" } }
            }
            div {
                dt { "Tasks within 5%" } dd { (best.within) " of " (best.tasks) }
                dd.small { "with their whole 95% interval" }
            }
            div { dt { "Samples" } dd { (count(best.samples as u64)) } dd.small { "each answered by both" } }
        }
        p.note { "All of " b { (best.variant) } " against the dense model, by each task’s first metric." }
    }
}

/// Samples with another answer, or nothing where no variant was held against the dense model.
fn changed(run: &EvalRun, best: Option<&Verdict<'_>>) -> Option<Markup> {
    let names: Vec<&str> = run.variants.iter().map(String::as_str).collect();
    let sparse: Vec<&str> = names.iter().copied().filter(|name| *name != DENSE).collect();
    let chosen = best.map_or(*sparse.first()?, |best| best.variant);
    let room = SAMPLES_BUDGET / (sparse.len() * run.tasks.len()).max(1);
    let block = |task: &TaskRecord, variant: &str| {
        let sides = Sides { a: DENSE, b: variant, style_b: style(variant, &names) };
        changes::block((task, DENSE), (task, variant), &sides, room)
    };
    Some(html! {
        section #changed aria-labelledby="changed-title" {
            h2 #changed-title { "What changed" }
            p.lede {
                "The same samples by the dense model and by a sparse variant. What both say is grey; the \
                 first word that differs is " mark { "marked" } "."
            }
            @if sparse.len() > 1 {
                div.selector role="group" aria-label="Variant held against the dense model" data-selector="variant" data-script hidden {
                    span.group-name { "Variant" }
                    @for name in &sparse {
                        button type="button" data-value=(name) aria-pressed=(*name == chosen) { (name) }
                    }
                }
            }
            @for name in &sparse {
                div data-panel=[(sparse.len() > 1).then_some("variant")] data-value=(name) {
                    @for task in &run.tasks { (block(task, name)) }
                }
            }
        }
    })
}

fn about(run: &EvalRun) -> Markup {
    let metrics =
        run.tasks.iter().flat_map(|task| &task.results).flat_map(|result| &result.metrics);
    let mut terms = metrics::glossary(metrics.map(|metric| metric.metric.as_str()));
    terms.extend([
        ("Neurons on", "Share of MLP neurons that ran at masked tokens; what a variant reads before it has to answer runs dense."),
        ("Change", "Of a metric against the dense model’s, relative: 10% more than 0.40 is 0.44."),
        ("Intervals", "95% bootstrap over samples; those of changes draw the same samples for both, so they tell smaller differences apart than two intervals side by side."),
    ]);
    html! {
        section #about aria-labelledby="about-title" {
            h2 #about-title { "How it was made" }
            h3 { "Repeat it" }
            (facts::command(&run.command))
            (facts::list(&settings(run)))
            h3 { "Words" }
            (facts::terms(&terms))
        }
    }
}

fn settings(run: &EvalRun) -> Vec<(String, String)> {
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![
        fact("Model", run.model.name.clone()),
        fact("Architecture", run.model.arch.clone()),
        fact("Parameters", count_short(run.model.parameters)),
        fact("Seed", run.seed.to_string()),
        fact("Model SHA-256", run.model.sha256.clone()),
    ];
    for task in &run.tasks {
        let name = &task.task;
        facts.push((format!("Data of {name}"), task.data.name.clone()));
        facts.push((format!("Samples of {name}"), count(task.data.samples as u64)));
        facts.push((format!("Data of {name}, SHA-256"), task.data.sha256.clone()));
    }
    let wall_s = run.tasks.iter().map(|task| task.wall_s).sum();
    facts.extend([
        fact("Processor", run.cpu.clone()),
        fact("Threads", run.threads.to_string()),
        fact("Wall time", duration(wall_s)),
        fact("Finished", run.finished_at.clone()),
        fact("fewron", run.version.clone()),
    ]);
    facts
}
