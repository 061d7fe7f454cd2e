//! The page of neuron analytics: one figure a question.

mod about;
mod cards;
mod categories;
mod figure;
mod layers;
mod lines;
mod map;

use std::collections::BTreeMap;

use fewron_eval::neurons::record::{Kind, LayerRecord, MaskRecord, NeuronRun, Overlap};
use maud::{Markup, html};
use serde::Serialize;

use super::format::{count, percent, percent_short, ratio, word};
use super::page::{self, Frame};
use super::story::plural;
use figure::Data;
use lines::Line;

const STYLE: &str = include_str!("../../assets/neurons.css");
const SCRIPTS: [&str; 4] = [
    include_str!("../../assets/legend.js"),
    include_str!("../../assets/charts.js"),
    include_str!("../../assets/maps.js"),
    include_str!("../../assets/neurons.js"),
];

/// What the page's script reads. The first five are what the maps of a sweep's report read too.
#[derive(Serialize)]
struct Page<'a> {
    series: [(); 0],
    kept: BTreeMap<(), ()>,
    heads: BTreeMap<(), ()>,
    #[serde(flatten)]
    map: map::Map<'a>,
    tables: BTreeMap<&'static str, Data>,
    lines: BTreeMap<String, Vec<Line>>,
}

/// Sections in the order of the page, and what its script needs for them.
#[derive(Default)]
struct Drawn {
    sections: Vec<(&'static str, &'static str, Markup)>,
    tables: Vec<Data>,
    lines: Vec<(String, Vec<Line>)>,
}

/// Renders `run` as a self-contained page. Text from the run is escaped; scripts and styles are allowed by
/// their hash alone, and nothing is fetched.
pub fn render(run: &NeuronRun) -> String {
    let mut drawn = Drawn::default();
    map::section(run, &mut drawn);
    layers::sections(run, &mut drawn);
    categories::section(run, &mut drawn);
    cards::sections(run, &mut drawn);
    let mut contents: Vec<(&str, &str)> =
        drawn.sections.iter().map(|(id, name, _)| (*id, *name)).collect();
    contents.push(("about", "Method"));
    let sections = html! {
        (hero(run))
        (selector(run))
        @for (.., section) in &drawn.sections { (section) }
        (about::section(run))
    };
    let data = Page {
        series: [],
        kept: BTreeMap::new(),
        heads: BTreeMap::new(),
        map: map::data(run),
        tables: drawn.tables.into_iter().map(|table| (table.id, table)).collect(),
        lines: drawn.lines.into_iter().collect(),
    };
    let frame = Frame {
        kind: "neurons",
        title: &format!("{}: neurons", run.model.name),
        contents: &contents,
        measured_by: &run.settings.version,
        style: STYLE,
        scripts: &SCRIPTS,
    };
    frame.document(&sections, &page::json(&data))
}

fn hero(run: &NeuronRun) -> Markup {
    html! {
        section.hero {
            p.eyebrow { (run.model.name) " · " (plural(run.data.samples, "answer")) " · " (count(run.data.tokens)) " masked tokens" }
            h1 { (headline(run)) }
            p.lede { (subject(run)) }
            @if let Some(mask) = run.masks.first() { (figures(run, mask)) }
        }
    }
}

/// The kind that the page begins with: MLP neurons where they were looked at.
fn main_kind(mask: &MaskRecord) -> Kind {
    if mask.mlp.is_empty() { Kind::Head } else { Kind::Mlp }
}

/// A mask's layers of one kind.
fn of_kind(mask: &MaskRecord, kind: Kind) -> impl Iterator<Item = &LayerRecord> {
    mask.layers.iter().filter(move |layer| layer.kind == kind)
}

/// A kind in words.
fn units(kind: Kind) -> &'static str {
    match kind {
        Kind::Mlp => "MLP neurons",
        Kind::Head => "attention heads",
    }
}

/// Units of a layer.
fn width(run: &NeuronRun, kind: Kind) -> usize {
    match kind {
        Kind::Mlp => run.neurons,
        Kind::Head => run.heads,
    }
}

/// Share of all units of a kind that are hot, and that are dead.
fn extremes(run: &NeuronRun, mask: &MaskRecord, kind: Kind) -> (f64, f64) {
    let all = (run.layers * width(run, kind)).max(1) as f64;
    let sum = |value: fn(&LayerRecord) -> usize| of_kind(mask, kind).map(value).sum::<usize>();
    (sum(|layer| layer.hot) as f64 / all, sum(|layer| layer.dead) as f64 / all)
}

fn headline(run: &NeuronRun) -> String {
    let Some(mask) = run.masks.first() else { return "Nothing was measured yet.".to_owned() };
    let kind = main_kind(mask);
    let (hot, dead) = extremes(run, mask, kind);
    format!(
        "{} keeps {} of the {} nearly always and {} never: the others depend on the token.",
        mask.name,
        percent_short(hot),
        units(kind),
        percent_short(dead)
    )
}

fn subject(run: &NeuronRun) -> String {
    let names: Vec<&str> = run.masks.iter().map(|mask| mask.name.as_str()).collect();
    let asked = match run.categories.len() {
        0 => "without categories".to_owned(),
        1 => "in one category".to_owned(),
        several => format!("in {} categories", word(several)),
    };
    format!(
        "{} chose, for every token, which units of each layer stay on while {} are off. Looked at are {} \
         generated tokens of {} to “{}”, {asked}.",
        listed(&names),
        ratio(run.ratio),
        count(run.data.tokens),
        plural(run.data.samples, "answer"),
        run.data.name,
    )
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Mean over the layers of an overlap, and of what chance would give.
fn mean_overlap<'a>(layers: impl Iterator<Item = &'a Overlap>) -> Option<(f64, f64)> {
    let known: Vec<(f64, f64)> = layers.filter_map(|o| Some((o.jaccard?, o.chance?))).collect();
    let mean =
        |value: fn(&(f64, f64)) -> f64| known.iter().map(value).sum::<f64>() / known.len() as f64;
    (!known.is_empty()).then(|| (mean(|v| v.0), mean(|v| v.1)))
}

fn figures(run: &NeuronRun, mask: &MaskRecord) -> Markup {
    let kind = main_kind(mask);
    let (hot, dead) = extremes(run, mask, kind);
    let stability = mean_overlap(of_kind(mask, kind).map(|layer| &layer.stability));
    let own = mask.specificity.iter().filter(|category| category.kind == kind);
    let specific: usize = own.map(|category| category.significant).sum();
    html! {
        dl.figures {
            div { dt { "Nearly always kept" } dd { (percent_short(hot)) } dd.small { "at nine tokens in ten or more" } }
            div { dt { "Never kept" } dd { (percent_short(dead)) } dd.small { "in " (count(run.data.tokens)) " tokens" } }
            div {
                dt { "Same as the token before" }
                dd { (stability.map_or_else(|| "–".to_owned(), |(mean, _)| percent(mean, 0))) }
                dd.small { "Jaccard index; by chance " (stability.map_or_else(|| "–".to_owned(), |(_, chance)| percent(chance, 0))) }
            }
            div { dt { "Stand out by category" } dd { (specific) } dd.small { "units of a category, p ≤ 0.05 over all units" } }
        }
        p.note { "These are numbers of the " (units(kind)) " under " b { (mask.name) } "." }
    }
}

/// One choice for all figures that show a single mask.
fn selector(run: &NeuronRun) -> Markup {
    html! {
        div.selector role="group" aria-label="Mask of the figures below" data-selector="metric" {
            span.group-name { "Mask" }
            @for (position, mask) in run.masks.iter().enumerate() {
                button type="button" data-value=(mask.name) aria-pressed=(position == 0) { (mask.name) }
            }
        }
    }
}

/// What is shown for one mask at a time.
fn panels(run: &NeuronRun, panel: impl Fn(&MaskRecord) -> Markup) -> Markup {
    html! {
        @for (position, mask) in run.masks.iter().enumerate() {
            div data-mask=(mask.name) hidden[position > 0] { (panel(mask)) }
        }
    }
}

/// A chapter of the page.
fn section(id: &str, title: &str, content: &Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title) }
            (content)
        }
    }
}
