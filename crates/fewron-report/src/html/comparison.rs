//! The page of a comparison: two variants, sample by sample.

mod effects;

use fewron_eval::tasks::{EvalRun, Side, TaskComparison, TaskRecord};
use maud::{Markup, html};

use super::changes::{self, Sides};
use super::facts;
use super::format::{count, percent, word};
use super::metrics::{self, Unit};
use super::page::{self, Frame};
use super::story::plural;
use super::tables::{column, sort_key, word_column};
use super::variants::Style;
use effects::Verdict;

/// Bytes that the samples of a page may take together.
const SAMPLES_BUDGET: usize = 1_200_000;

/// The names of the two sides: with the day of their runs where both have the same variant.
fn names(a: Side<'_>, b: Side<'_>) -> (String, String) {
    if a.variant != b.variant {
        return (a.variant.to_owned(), b.variant.to_owned());
    }
    let named = |side: Side<'_>, which: &str| format!("{} ({which})", side.variant);
    (named(a, "A"), named(b, "B"))
}

/// Renders what [`compare`](fewron_eval::tasks::compare) found of `a` and `b` as a self-contained page.
/// Text from the runs is escaped; scripts and styles are allowed by their hash alone, and nothing is
/// fetched.
pub fn render(a: Side<'_>, b: Side<'_>, tasks: &[TaskComparison]) -> String {
    let (name_a, name_b) = names(a, b);
    let sides = Sides { a: &name_a, b: &name_b, style_b: Style::Slot(0) };
    let sections = html! {
        (hero(a, &sides, tasks))
        (effects::section(&sides, tasks))
        (numbers(&sides, tasks))
        (changed(a, b, &sides, tasks))
        (about(a, b, tasks))
    };
    let frame = Frame {
        kind: "comparison",
        title: &format!("{name_b} against {name_a}"),
        contents: &[
            ("effects", "Effects"),
            ("numbers", "Numbers"),
            ("changed", "Changed"),
            ("about", "Method"),
        ],
        measured_by: &b.run.version,
        style: "",
        scripts: &[],
    };
    frame.document(&sections, &page::json(&()))
}

fn hero(a: Side<'_>, sides: &Sides<'_>, tasks: &[TaskComparison]) -> Markup {
    let samples: usize = tasks.iter().map(|task| task.samples).sum();
    let changed: usize = tasks.iter().map(|task| task.changed.len()).sum();
    html! {
        section.hero {
            p.eyebrow { (a.run.model.name) " · " (plural(tasks.len(), "task")) " · " (plural(samples, "sample")) }
            h1 { (headline(sides, tasks)) }
            p.lede {
                "Both variants answered the same samples, so each sample is held against itself: differences \
                 show that two intervals side by side would hide."
            }
            dl.figures {
                @for (verdict, name) in [(Verdict::Worse, "Tasks worse"), (Verdict::Better, "Tasks better"), (Verdict::Open, "Not told apart")] {
                    div {
                        dt { (name) }
                        dd { (tasks.iter().filter(|task| Verdict::of_task(task) == verdict).count()) }
                        dd.small { "of " (tasks.len()) ", by the 95% interval" }
                    }
                }
                div {
                    dt { "Answers changed" } dd { (count(changed as u64)) }
                    dd.small { "of " (plural(samples, "sample")) }
                }
            }
        }
    }
}

/// The finding as a sentence.
fn headline(sides: &Sides<'_>, tasks: &[TaskComparison]) -> String {
    let with = |verdict: Verdict| -> Vec<&TaskComparison> {
        tasks.iter().filter(|task| Verdict::of_task(task) == verdict).collect()
    };
    let (worse, better) = (with(Verdict::Worse), with(Verdict::Better));
    let on = |found: &[&TaskComparison]| match (found, tasks.len()) {
        ([only], _) => format!("on {}", only.task),
        (found, all) if found.len() == all => "on every task".to_owned(),
        (found, all) => format!("on {} of {} tasks", word(found.len()), word(all)),
    };
    let (a, b) = (sides.a, sides.b);
    match (worse.is_empty(), better.is_empty()) {
        (true, true) => format!("Beyond chance, {b} is neither better nor worse than {a}."),
        (false, true) => format!("{b} is worse than {a} {}.", on(&worse)),
        (true, false) => format!("{b} is better than {a} {}.", on(&better)),
        (false, false) => {
            format!("{b} is worse than {a} {}, and better {}.", on(&worse), on(&better))
        }
    }
}

fn numbers(sides: &Sides<'_>, tasks: &[TaskComparison]) -> Markup {
    html! {
        section #numbers aria-labelledby="numbers-title" {
            h2 #numbers-title { "All numbers" }
            p.note {
                "The change is relative, with its paired 95% interval; p is that of the exact two-sided sign \
                 test over the samples that are better and worse (McNemar’s where answers are right or wrong)."
            }
            div.scroll.tall tabindex="0" role="region" aria-label="All numbers, sortable" {
                table.sortable.words {
                    caption.unseen { "Every metric of every task by both variants" }
                    thead { tr {
                        (column("Task")) (word_column("Metric")) (column(sides.a)) (column(sides.b))
                        (column("Change")) (column("Better")) (column("Worse")) (column("p")) (column("Samples"))
                    } }
                    tbody { @for task in tasks { @for metric in &task.metrics {
                        @let unit = metrics::unit(&metric.metric);
                        tr {
                            th scope="row" data-v=(task.task) { (task.task) }
                            td.word data-v=(metrics::words(&metric.metric)) { (metrics::words(&metric.metric)) }
                            td data-v=[sort_key(metric.a)] { (unit.text(metric.a)) }
                            td data-v=[sort_key(metric.b)] { (unit.text(metric.b)) }
                            td data-v=[metric.change.and_then(|change| sort_key(change.mean))] {
                                @if let Some(change) = metric.change {
                                    (Unit::Change.text(change.mean)) " "
                                    span.interval { "[" (Unit::Change.text(change.low)) ", " (Unit::Change.text(change.high)) "]" }
                                } @else { "–" }
                            }
                            td data-v=(metric.better) { (metric.better) }
                            td data-v=(metric.worse) { (metric.worse) }
                            td data-v=(metric.p) { (effects::p_text(metric.p)) }
                            td data-v=(task.samples) { (task.samples) }
                        }
                    } } }
                }
            }
        }
    }
}

fn changed(a: Side<'_>, b: Side<'_>, sides: &Sides<'_>, tasks: &[TaskComparison]) -> Markup {
    let both = |name: &str| Some((task(a.run, name)?, task(b.run, name)?));
    let room = SAMPLES_BUDGET / tasks.len().max(1);
    html! {
        section #changed aria-labelledby="changed-title" {
            h2 #changed-title { "What changed" }
            p.lede {
                "Samples with another answer. What both say is grey; the first word that differs is "
                mark { "marked" } "."
            }
            @for (one, other) in tasks.iter().filter_map(|task| both(&task.task)) {
                (changes::block((one, a.variant), (other, b.variant), sides, room))
            }
        }
    }
}

fn task<'a>(run: &'a EvalRun, name: &str) -> Option<&'a TaskRecord> {
    run.tasks.iter().find(|task| task.task == name)
}

fn about(a: Side<'_>, b: Side<'_>, tasks: &[TaskComparison]) -> Markup {
    let metrics = tasks.iter().flat_map(|task| &task.metrics);
    let mut terms = metrics::glossary(metrics.map(|metric| metric.metric.as_str()));
    terms.push((
        "Better, worse",
        "Samples on which the second variant scores higher or lower, or for perplexity and KL the other way round; \
         samples that score the same count for neither.",
    ));
    html! {
        section #about aria-labelledby="about-title" {
            h2 #about-title { "How it was made" }
            @if std::ptr::eq(a.run, b.run) {
                h3 { "The evaluation" }
                (facts::command(&a.run.command))
                (facts::list(&[variants(a, b), settings(a)].concat()))
            } @else {
                @for (side, which) in [(a, "first"), (b, "second")] {
                    h3 { "The " (which) " evaluation" }
                    (facts::command(&side.run.command))
                    (facts::list(&[variant("Variant", side), settings(side)].concat()))
                }
            }
            h3 { "Words" }
            (facts::terms(&terms))
        }
    }
}

fn variants(a: Side<'_>, b: Side<'_>) -> Vec<(&'static str, String)> {
    [variant("First variant", a), variant("Second variant", b)].concat()
}

/// A side's variant, and how many of its neurons ran.
fn variant(which: &'static str, side: Side<'_>) -> Vec<(&'static str, String)> {
    let results = side.run.tasks.iter().flat_map(|task| &task.results);
    let active: Vec<f64> =
        results.filter(|result| result.variant == side.variant).filter_map(|r| r.active).collect();
    let mean = active.iter().sum::<f64>() / active.len() as f64;
    let on = if active.is_empty() { "all".to_owned() } else { percent(mean, 1) };
    vec![(which, side.variant.to_owned()), ("Its neurons on", on)]
}

fn settings(side: Side<'_>) -> Vec<(&'static str, String)> {
    let run = side.run;
    vec![
        ("Model", run.model.name.clone()),
        ("Processor", run.cpu.clone()),
        ("Model SHA-256", run.model.sha256.clone()),
        ("Finished", run.finished_at.clone()),
        ("fewron", run.version.clone()),
    ]
}
