//! What sparsity cost, in one sentence that the intervals bear out.

use fewron_eval::record::Interval;
use fewron_eval::tasks::{EvalRun, VariantResult};

use super::super::format::{count, percent, word};
use super::super::metrics::loss;
use super::super::story::plural;
use super::super::variants::DENSE;

/// Share of the dense model's quality that a variant may lose.
const ALLOWED: f64 = 0.05;

/// A sparse variant held against the dense model on all tasks, by each task's first metric.
pub(super) struct Verdict<'a> {
    pub(super) variant: &'a str,
    /// Mean share of neurons that ran, over tasks.
    pub(super) active: Option<f64>,
    /// The task whose loss may be largest, and that loss.
    pub(super) worst: Option<(&'a str, Interval)>,
    /// Tasks whose whole interval is no loss above [`ALLOWED`].
    pub(super) within: usize,
    /// All tasks.
    pub(super) tasks: usize,
    /// All samples.
    pub(super) samples: usize,
}

impl Verdict<'_> {
    fn holds(&self) -> bool {
        self.within == self.tasks
    }
}

/// A verdict on each sparse variant.
pub(super) fn verdicts(run: &EvalRun) -> Vec<Verdict<'_>> {
    let sparse = run.variants.iter().filter(|variant| *variant != DENSE);
    sparse.map(|variant| verdict(run, variant)).collect()
}

fn verdict<'a>(run: &'a EvalRun, variant: &'a str) -> Verdict<'a> {
    let mut verdict = Verdict {
        variant,
        active: None,
        worst: None,
        within: 0,
        tasks: run.tasks.len(),
        samples: run.tasks.iter().map(|task| task.samples.len()).sum(),
    };
    let mut active = Vec::new();
    for task in &run.tasks {
        let Some(result) = task.results.iter().find(|result| result.variant == variant) else {
            continue;
        };
        active.extend(result.active);
        let Some(lost) = headline_loss(result) else { continue };
        verdict.within += usize::from(lost.high <= ALLOWED);
        if verdict.worst.is_none_or(|(_, worst)| lost.high > worst.high) {
            verdict.worst = Some((&task.task, lost));
        }
    }
    let mean = active.iter().sum::<f64>() / active.len() as f64;
    verdict.active = (!active.is_empty()).then_some(mean);
    verdict
}

/// What a result loses of the dense value by its first metric.
pub(super) fn headline_loss(result: &VariantResult) -> Option<Interval> {
    let metric = result.metrics.first()?;
    metric.change.map(|change| loss(&metric.metric, change))
}

/// The sparsest variant that stays within the allowed loss on every task, or else the one that may lose
/// least.
pub(super) fn best<'v, 'a>(verdicts: &'v [Verdict<'a>]) -> Option<&'v Verdict<'a>> {
    let active = |verdict: &Verdict<'_>| verdict.active.unwrap_or(1.0);
    let most = |verdict: &Verdict<'_>| verdict.worst.map_or(f64::INFINITY, |(_, loss)| loss.high);
    let holding = verdicts.iter().filter(|verdict| verdict.holds());
    holding
        .min_by(|a, b| active(a).total_cmp(&active(b)))
        .or_else(|| verdicts.iter().min_by(|a, b| most(a).total_cmp(&most(b))))
}

/// The finding as a sentence.
pub(super) fn headline(run: &EvalRun, best: Option<&Verdict<'_>>) -> String {
    if run.tasks.is_empty() {
        return "Nothing was measured yet.".to_owned();
    }
    let Some(best) = best else {
        return "The dense model alone was measured: nothing is held against it.".to_owned();
    };
    let on_all = match &run.tasks[..] {
        [only] => format!("on {}", only.task),
        [_, _] => "on both tasks".to_owned(),
        tasks => format!("on all {} tasks", word(tasks.len())),
    };
    if best.holds() {
        let on = best.active.map_or_else(String::new, |active| {
            format!("With {} of the neurons on, ", percent(active, 0))
        });
        return format!("{on}{} stays within 5% of the dense model {on_all}.", best.variant);
    }
    let one = run.tasks.len() == 1;
    let within = format!(
        "to stay within 5% of the dense model {}",
        if one { &on_all } else { "on every task" }
    );
    let may_lose = best.worst.map_or_else(
        || "the dense model scores nothing to lose".to_owned(),
        |(task, loss)| {
            let on = if one { String::new() } else { format!(" on {task}") };
            format!("may lose {}{on}", percent(loss.high, 0))
        },
    );
    match (run.variants.len() > 2, best.worst.is_some()) {
        (true, true) => format!(
            "No sparse variant is sure {within}; {} comes closest and {may_lose}.",
            best.variant
        ),
        (true, false) => format!("No sparse variant is sure {within}: {may_lose}."),
        (false, true) => format!("{} is not sure {within}: it {may_lose}.", best.variant),
        (false, false) => format!("{} is not sure {within}: {may_lose}.", best.variant),
    }
}

/// What was measured, in one paragraph.
pub(super) fn subject(run: &EvalRun) -> String {
    let samples: usize = run.tasks.iter().map(|task| task.data.samples).sum();
    let tasks: Vec<&str> = run.tasks.iter().map(|task| task.task.as_str()).collect();
    format!(
        "{} of {} by the dense model and {}, each sample by all of them. “Within 5%” asks for the whole 95% \
         interval of the paired change.",
        plural(samples, "sample"),
        listed(&tasks),
        plural(run.variants.len().saturating_sub(1), "sparse variant"),
    )
}

/// `a`, `a and b`, `a, b and c`; from six on their number.
fn listed(names: &[&str]) -> String {
    match names {
        [] => "no task".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] if names.len() < 6 => format!("{} and {last}", first.join(", ")),
        _ => format!("{} tasks", count(names.len() as u64)),
    }
}
