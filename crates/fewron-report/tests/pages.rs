//! The pages of evaluations, comparisons, benches and histories: what they say, that they are safe,
//! well-formed and small.

mod fixture;
mod markup;

use fewron_eval::record::Interval;
use fewron_eval::tasks::{EvalRun, Outcome, Side, compare};
use fewron_report::html::{render_bench, render_comparison, render_evaluation, render_history};
use fewron_report::{HistoryPoint, write_bench, write_comparison, write_evaluation, write_history};
use fixture::evaluation::{bench, evaluation, evaluation_of, history};
use markup::{assert_well_formed, csv, element, figures};

const EVIL: &str = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\t\n";

fn comparison(run: &EvalRun, a: &str, b: &str) -> String {
    let (a, b) = (Side { run, variant: a }, Side { run, variant: b });
    render_comparison(a, b, &compare(a, b, 0).unwrap())
}

/// Well-formed, every figure drawn and with its numbers, and no value that is no number shown.
fn assert_sound(page: &str) {
    assert_well_formed(page);
    let shown = &page[..page.find("<script").unwrap()];
    for none in ["NaN", ">inf", "\"inf", "-inf", " inf"] {
        assert!(!shown.contains(none), "{none} is shown");
    }
    for figure in figures(page) {
        assert!(figure.contains(".csv\""), "{figure}");
    }
    assert!(page.contains("default-src 'none'") && !page.contains(" style=\""));
}

/// Without what a variant or task is not in `keep`.
fn only(mut run: EvalRun, variants: &[&str], tasks: &[&str]) -> EvalRun {
    let kept = |name: &str| variants.contains(&name);
    run.variants.retain(|name| kept(name));
    run.tasks.retain(|task| tasks.contains(&task.task.as_str()));
    for task in &mut run.tasks {
        task.results.retain(|result| kept(&result.variant));
        task.samples.iter_mut().for_each(|s| s.variants.retain(|record| kept(&record.variant)));
    }
    run
}

#[test]
fn the_headline_names_the_sparsest_variant_that_holds_on_every_task() {
    let all = evaluation();
    let headline = |run: &EvalRun| element(&render_evaluation(run), "h1").to_owned();
    assert_eq!(
        headline(&all),
        "With 70% of the neurons on, gate@0.3 stays within 5% of the dense model on all three tasks."
    );
    let arc = only(all.clone(), &["dense", "gate@0.3", "gate@0.5", "gate@0.7"], &["arc_easy"]);
    assert_eq!(
        headline(&arc),
        "With 70% of the neurons on, gate@0.3 stays within 5% of the dense model on arc_easy."
    );
    let two = only(all.clone(), &["dense", "gate@0.5", "gate@0.7"], &["arc_easy", "perplexity"]);
    assert_eq!(
        headline(&two),
        "No sparse variant is sure to stay within 5% of the dense model on every task; gate@0.5 comes \
         closest and may lose 17% on perplexity."
    );
    let one = only(all.clone(), &["dense", "gate@0.7"], &["arc_easy"]);
    assert_eq!(
        headline(&one),
        "gate@0.7 is not sure to stay within 5% of the dense model on arc_easy: it may lose 24%."
    );
    let dense = only(all.clone(), &["dense"], &["arc_easy"]);
    assert_eq!(headline(&dense), "The dense model alone was measured: nothing is held against it.");
    assert_eq!(headline(&only(all, &["dense"], &[])), "Nothing was measured yet.");
}

#[test]
fn a_task_without_a_paired_change_is_never_within() {
    let mut run = only(evaluation(), &["dense", "gate@0.3"], &["arc_easy"]);
    run.tasks[0].results[1].metrics[0].change = None;
    let page = render_evaluation(&run);
    assert!(
        element(&page, "h1").starts_with("gate@0.3 is not sure to stay within 5%"),
        "{}",
        element(&page, "h1")
    );
    assert_sound(&page);
}

#[test]
fn degenerate_evaluations_are_drawn() {
    let mut one = evaluation_of(&[("gate@0.5", 0.5, 0.2)], 1);
    for result in one.tasks.iter_mut().flat_map(|task| &mut task.results) {
        for metric in &mut result.metrics {
            (metric.standard_error, metric.low, metric.high) = (None, metric.value, metric.value);
        }
    }
    let mut zero = evaluation();
    for metric in zero.tasks[0].results.iter_mut().flat_map(|result| &mut result.metrics) {
        (metric.value, metric.low, metric.high, metric.change) = (0.0, 0.0, 0.0, None);
    }
    let mut broken = evaluation();
    broken.tasks[1].results[3].metrics[0].change =
        Some(Interval { mean: f64::INFINITY, low: -1.0, high: f64::INFINITY });
    broken.tasks[0].results[2].metrics[0].value = f64::NAN;
    let empty = EvalRun { variants: Vec::new(), tasks: Vec::new(), ..evaluation() };
    let dense = only(evaluation(), &["dense"], &["arc_easy", "perplexity"]);
    let many = evaluation_of(&[("a", 1.0, 0.1); 14].map(|(_, active, c)| ("same", active, c)), 3);
    for run in [one, zero, broken, empty, dense, many] {
        assert_sound(&render_evaluation(&run));
    }
}

#[test]
fn figures_of_an_evaluation_draw_every_value_once_for_each_screen() {
    let run = evaluation();
    let page = render_evaluation(&run);
    assert_sound(&page);
    let lines = csv(&page, "arc_easy-acc");
    assert_eq!(lines.len(), 1 + run.variants.len());
    let result = &run.tasks[0].results[2];
    let (metric, change) = (&result.metrics[0], result.metrics[0].change.unwrap());
    let expected = format!(
        "arc_easy,acc,gate@0.5,0.502,{},{},{},{},{},{}",
        metric.value, metric.low, metric.high, change.mean, change.low, change.high
    );
    assert_eq!(lines[3], expected);
    let figure = figures(&page)[0];
    for result in &run.tasks[0].results {
        let value = format!("data-value=\"{}\"", result.metrics[0].value);
        assert_eq!(figure.matches(&value).count(), 2, "{value}");
    }
    // Every line of the last figure begins at the dense model.
    assert_eq!(csv(&page, "quality-by-neurons").len(), 1 + 3 * (1 + 3));
}

#[test]
fn comparisons_say_what_is_worse() {
    let run = evaluation();
    let page = comparison(&run, "dense", "gate@0.7");
    assert_sound(&page);
    assert!(
        element(&page, "h1").starts_with("gate@0.7 is worse than dense on "),
        "{}",
        element(&page, "h1")
    );
    let back = comparison(&run, "gate@0.7", "dense");
    assert!(element(&back, "h1").starts_with("dense is better than gate@0.7 on "));
    let same = comparison(&run, "gate@0.5", "gate@0.5");
    assert_eq!(
        element(&same, "h1"),
        "Beyond chance, gate@0.5 (B) is neither better nor worse than gate@0.5 (A)."
    );
    assert_sound(&same);
    let tasks =
        compare(Side { run: &run, variant: "dense" }, Side { run: &run, variant: "gate@0.7" }, 0)
            .unwrap();
    let effects = csv(&page, "effects");
    let metrics: usize = tasks.iter().map(|task| task.metrics.len()).sum();
    assert_eq!(effects.len(), 1 + metrics);
    assert!(effects[1].starts_with("arc_easy,acc,120,"), "{}", effects[1]);
    assert_eq!(csv(&page, "samples-that-moved").len(), 1 + 2 * tasks.len());
}

#[test]
fn two_runs_are_both_described() {
    let (before, mut after) = (evaluation(), evaluation());
    after.command = "fewron eval other".to_owned();
    after.tasks[0].samples.truncate(1);
    let (a, b) = (Side { run: &before, variant: "dense" }, Side { run: &after, variant: "dense" });
    let page = render_comparison(a, b, &compare(a, b, 0).unwrap());
    assert_sound(&page);
    assert!(page.contains("fewron eval smollm2") && page.contains("fewron eval other"));
}

#[test]
fn text_of_runs_is_never_markup() {
    let mut run = evaluation();
    let rename = |name: &mut String| {
        if name != "dense" {
            *name = format!("{EVIL}{name}");
        }
    };
    run.variants.iter_mut().for_each(rename);
    (run.command, run.cpu, run.model.name) = (EVIL.to_owned(), EVIL.to_owned(), EVIL.to_owned());
    for task in &mut run.tasks {
        (task.task, task.data.name) = (format!("{EVIL}{}", task.task), EVIL.to_owned());
        task.results.iter_mut().for_each(|result| rename(&mut result.variant));
        for result in &mut task.results {
            result.metrics.iter_mut().for_each(|metric| metric.metric.push_str(EVIL));
        }
        for sample in &mut task.samples {
            sample.id.push_str(EVIL);
            for record in &mut sample.variants {
                rename(&mut record.variant);
                if let Outcome::Text { text, .. } = &mut record.outcome {
                    *text = format!("{EVIL}{}{text}", record.variant);
                }
            }
        }
    }
    let mut points = history(4);
    for point in &mut points {
        let fields = [&mut point.run, &mut point.model, &mut point.cpu, &mut point.task];
        fields.into_iter().for_each(|field| *field = EVIL.to_owned());
        let fields = [&mut point.variant, &mut point.metric, &mut point.finished_at];
        fields.into_iter().for_each(|field| *field = EVIL.to_owned());
        point.commit = Some(EVIL.to_owned());
    }
    let mut speeds = bench();
    (speeds.command, speeds.model.name) = (EVIL.to_owned(), EVIL.to_owned());
    speeds.results[1].name = EVIL.to_owned();
    let variant = run.variants[3].clone();
    for page in [
        render_evaluation(&run),
        comparison(&run, "dense", &variant),
        render_history(&points),
        render_bench(&speeds),
    ] {
        assert_sound(&page);
        assert!(!page.contains("<img") && !page.contains("<script>alert"), "markup got through");
        assert_eq!(page.matches("<script").count(), 2, "the data and the script of the page");
        assert!(page.contains("&lt;script&gt;alert(1)"), "the text is shown as text");
    }
}

#[test]
fn pages_stay_small_however_much_was_said() {
    let names: Vec<String> = (0..9).map(|at| format!("gate@0.{at}")).collect();
    let variants: Vec<(&str, f64, f64)> =
        names.iter().map(|name| (name.as_str(), 0.5, 0.9)).collect();
    let mut run = evaluation_of(&variants, 400);
    for (at, sample) in run.tasks[2].samples.iter_mut().enumerate() {
        for record in &mut sample.variants {
            if let Outcome::Text { text, .. } = &mut record.outcome {
                *text = format!("{at} {} {}", record.variant, "\"<&>\"".repeat(2_000));
            }
        }
    }
    let page = render_evaluation(&run);
    assert!(page.len() < 2_000_000, "{}", page.len());
    let page = comparison(&run, "dense", "gate@0.8");
    assert!(page.len() < 2_000_000, "{}", page.len());
}

#[test]
fn histories_say_what_moved_at_the_last_run() {
    let headline = |points: &[HistoryPoint]| {
        let page = render_history(points);
        assert_sound(&page);
        element(&page, "h1").to_owned()
    };
    assert_eq!(headline(&[]), "No run is recorded yet.");
    assert_eq!(headline(&history(1)), "Nothing was measured twice yet.");
    let calm: Vec<HistoryPoint> =
        history(24).into_iter().filter(|point| point.run.as_str() < "eval-021").collect();
    assert!(headline(&calm).starts_with("At the last run none of "), "{}", headline(&calm));
    // The last evaluation lost twelve points of accuracy, each variant of each model.
    let mut points = history(24);
    assert!(headline(&points).starts_with("At the last run 6 of "), "{}", headline(&points));
    let page = render_history(&points);
    assert!(page.contains("What moved at the last run") && page.contains(">worse<"));
    // Not finite, without intervals, of an odd time.
    points[0].value = f64::NAN;
    points[1].finished_at = "yesterday".to_owned();
    points.iter_mut().for_each(|point| (point.low, point.high) = (None, None));
    assert!(headline(&points).starts_with("At the last run none of "));
}

#[test]
fn speeds_of_two_processors_are_never_joined() {
    let points = history(24);
    let page = render_history(&points);
    // Two models, each with two tasks, and two processors that had benches.
    let found = figures(&page);
    assert_eq!(found.len(), 2 * (2 + 2));
    for figure in found.iter().filter(|figure| figure.contains("data-task=\"speed\"")) {
        assert_eq!(u8::from(figure.contains("CPU A")) + u8::from(figure.contains("CPU B")), 1);
    }
    let drawn: usize = found.iter().map(|figure| figure.matches("class=\"dot\"").count()).sum();
    assert_eq!(drawn, points.len());
}

#[test]
fn two_thousand_values_stay_usable() {
    let points = history(200);
    assert!(points.len() > 2_000, "{}", points.len());
    let page = render_history(&points);
    assert!(page.len() < 3_000_000, "{}", page.len());
}

#[test]
fn benches_say_how_much_faster() {
    let run = bench();
    let page = render_bench(&run);
    assert_sound(&page);
    assert_eq!(element(&page, "h1"), "gate@0.7 decodes 1.31 times as fast as the dense model.");
    assert_eq!(csv(&page, "decode-64").len(), 1 + 4);
    assert!(csv(&page, "prefill-48")[1].starts_with("dense,640,"));
    let mut slow = bench();
    slow.results.iter_mut().flat_map(|r| &mut r.decode).for_each(|d| d.ratio_to_dense = Some(0.9));
    assert_eq!(
        element(&render_bench(&slow), "h1"),
        "No sparse variant decodes faster than the dense model."
    );
    let mut none = bench();
    none.results.clear();
    none.llama_cpp = None;
    assert_sound(&render_bench(&none));
}

#[test]
fn written_pages_are_the_rendered_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    let read = || std::fs::read_to_string(&path).unwrap();
    let (run, points, speeds) = (evaluation(), history(5), bench());
    write_evaluation(&run, &path).unwrap();
    assert_eq!(read(), render_evaluation(&run));
    write_history(&points, &path).unwrap();
    assert_eq!(read(), render_history(&points));
    write_bench(&speeds, &path).unwrap();
    assert_eq!(read(), render_bench(&speeds));
    let (a, b) = (Side { run: &run, variant: "dense" }, Side { run: &run, variant: "gate@0.3" });
    write_comparison(a, b, &compare(a, b, 0).unwrap(), &path).unwrap();
    assert_eq!(read(), comparison(&run, "dense", "gate@0.3"));
    assert!(write_history(&points, &folder.path().join("none/page.html")).is_err());
}
