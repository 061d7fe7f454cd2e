//! The finding of a run in one sentence, computed from its points.

use fewron_eval::record::{Point, SweepRun};

use super::format::{percent_short, ratio};
use super::names::words;
use super::series::{Series, measured};

/// Agreement that the paper's claim asks for: less than 5% loss (arXiv 2406.06562, abstract).
pub(super) const TARGET: f64 = 0.95;

/// The point that the report is about, and the one to hold against it.
pub(super) struct Finding<'a> {
    /// Series of the hero point, an index into the grouped series.
    pub(super) series: usize,
    /// The hero: the highest ratio that reaches [`TARGET`], or else the highest agreement.
    pub(super) hero: &'a Point,
    /// Whether the hero reaches [`TARGET`].
    pub(super) reached: bool,
    /// Another metric or policy at the same ratio.
    pub(super) rival: Option<&'a Point>,
}

/// References that save nothing at run time: never the hero of a runtime run with real policies.
const REFERENCES: [&str; 3] = ["magnitude", "random", "dense"];

/// Picks the finding; `None` when nothing was measured.
pub(super) fn find<'a>(series: &[Series<'a>], runtime: bool) -> Option<Finding<'a>> {
    let reference = |one: &Series<'_>| runtime && REFERENCES.contains(&one.name);
    let real = series.iter().any(|one| !reference(one));
    let all = || {
        let series = series.iter().enumerate().filter(|(_, one)| !real || !reference(one));
        series.flat_map(|(index, one)| {
            one.points.iter().filter(|p| measured(&p.agreement)).map(move |point| (index, *point))
        })
    };
    // A ratio of 0 is the dense model: it says nothing unless there is nothing else.
    let sparse = all().any(|(_, point)| point.ratio > 0.0);
    let candidates = || all().filter(|(_, point)| !sparse || point.ratio > 0.0);
    let by_agreement = |a: &Point, b: &Point| a.agreement.mean.total_cmp(&b.agreement.mean);
    let best = candidates()
        .filter(|(_, point)| point.agreement.mean >= TARGET)
        .max_by(|(_, a), (_, b)| a.ratio.total_cmp(&b.ratio).then(by_agreement(a, b)));
    let reached = best.is_some();
    let (index, hero) =
        best.or_else(|| candidates().max_by(|(_, a), (_, b)| by_agreement(a, b)))?;
    Some(Finding { series: index, hero, reached, rival: rival(series, index, hero) })
}

/// Magnitude, the usual choice, or else the next best at the same ratio.
fn rival<'a>(series: &[Series<'a>], hero_series: usize, hero: &Point) -> Option<&'a Point> {
    let others = || {
        series
            .iter()
            .enumerate()
            .filter(|(index, one)| *index != hero_series && one.name != hero.name())
            .filter_map(|(_, one)| one.at(hero.ratio))
            .filter(|point| measured(&point.agreement) && point.scope == hero.scope)
    };
    others()
        .find(|point| point.name() == "magnitude")
        .or_else(|| others().max_by(|a, b| a.agreement.mean.total_cmp(&b.agreement.mean)))
}

/// The finding as a sentence.
pub(super) fn headline(finding: Option<&Finding<'_>>, runtime: bool) -> String {
    let Some(finding) = finding else {
        return "Nothing was measured yet.".to_owned();
    };
    let hero = finding.hero;
    let share = percent_short(hero.agreement.mean);
    let at = ratio(hero.ratio);
    let name = words(hero.name());
    if hero.ratio <= 0.0 {
        return format!("With every neuron on, {name} keeps {share} of the answers’ tokens.");
    }
    let mut sentence = if finding.reached {
        format!("At {at} sparsity {name} keeps {share} of the answers’ tokens")
    } else {
        format!(
            "No {} kept {} of the answers’ tokens; {name} came closest with {share} at {at} sparsity",
            if runtime { "policy" } else { "metric" },
            percent_short(TARGET)
        )
    };
    if let Some(rival) = finding.rival {
        let share = percent_short(rival.agreement.mean);
        let name = match rival.name() {
            "magnitude" if runtime => "exact magnitude, which computes every neuron,",
            name => words(name),
        };
        sentence.push_str(&format!("; {name} keeps {share}"));
    }
    sentence.push('.');
    sentence
}

/// What was measured, in one paragraph.
pub(super) fn subject(run: &SweepRun, series: &[Series<'_>], ratios: &[f32]) -> String {
    let kind = if is_runtime(run) { "mask policies" } else { "attribution metrics" };
    let what = match run.settings.scope.as_str() {
        "mlp" => "MLP neurons",
        "heads" => "attention heads",
        _ => "MLP neurons and attention heads",
    };
    let span = match ratios {
        [] => return format!("{} on {}: no points.", run.model.name, run.data.name),
        [only] => format!("at {} sparsity", ratio(*only)),
        [first, .., last] => format!("from {} to {} sparsity", ratio(*first), ratio(*last)),
    };
    let kinds = match series.len() {
        1 => kind.replace("policies", "policy").replace("metrics", "metric"),
        _ => kind.to_owned(),
    };
    format!(
        "{} switched off {what} in every layer of the model, {span}. Each sparse model answered {} of “{}” \
         and was held against the dense model’s own greedy answers, {} tokens per point.",
        capital(&format!("{} {kinds}", super::format::word(series.len()))),
        plural(run.data.samples, "question"),
        run.data.name,
        super::format::count(run.data.tokens),
    )
}

/// Whether masks saw only what a server sees.
pub(super) fn is_runtime(run: &SweepRun) -> bool {
    run.protocol == "runtime"
}

/// `1 question`, `50 questions`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{} {noun}{end}", super::format::count(count as u64))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
