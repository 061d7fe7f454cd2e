//! The report as a whole: what it says, that it is safe, well-formed and small.

mod fixture;
mod markup;

use fewron_eval::record::{Analysis, SweepRun};
use fewron_report::html::render;
use fewron_report::write_report;
use markup::assert_well_formed;

/// Text of the first `name` element.
fn element<'a>(page: &'a str, name: &str) -> &'a str {
    let open = page.find(&format!("<{name}>")).expect("element is there") + name.len() + 2;
    let close = page[open..].find(&format!("</{name}>")).expect("element is closed");
    &page[open..open + close]
}

fn headline(run: &SweepRun) -> String {
    element(&render(run, None), "h1").to_owned()
}

fn keep(mut run: SweepRun, keep: impl Fn(&str, f32) -> bool) -> SweepRun {
    run.points.retain(|point| keep(point.name(), point.ratio));
    run
}

#[test]
fn headline_of_the_oracle_names_the_highest_ratio_within_five_percent() {
    assert_eq!(
        headline(&fixture::oracle()),
        "At 80% sparsity corrected attribution keeps 96% of the answers’ tokens; magnitude keeps 61%."
    );
}

#[test]
fn curves_of_two_protocols_share_a_figure() {
    let (oracle, runtime) = (fixture::oracle(), fixture::runtime());
    let alone = render(&oracle, None);
    let page = render(&oracle, Some(&runtime));
    assert_well_formed(&page);
    let mark = "id=\"oracle-gap\"";
    assert!(page.contains(mark) && !alone.contains(mark));
    let figure = &page[page.find(mark).unwrap()..];
    let figure = &figure[..figure.find("</figure>").unwrap()];
    for (run, protocol) in [(&oracle, "oracle"), (&runtime, "runtime")] {
        for point in &run.points {
            let label = format!("data-series=\"{} · {protocol}\"", point.name());
            assert!(figure.contains(&label), "{label}");
        }
    }
}

#[test]
fn headline_of_the_runtime_protocol_names_policies() {
    assert_eq!(
        headline(&fixture::runtime()),
        "At 30% sparsity gate+comp64 keeps 95% of the answers’ tokens; exact magnitude, which \
         computes every neuron, keeps 96%."
    );
    let page = render(&fixture::runtime(), None);
    assert!(page.contains("Masks that never saw the answer"));
    assert!(!page.contains("What knowing the answer hides"));
}

#[test]
fn headline_survives_what_is_missing() {
    let without = keep(fixture::oracle(), |name, _| name != "cor-gxo" && name != "fisher");
    assert_eq!(
        headline(&without),
        "At 50% sparsity SNIP keeps 96% of the answers’ tokens; magnitude keeps 90%."
    );
    let failed = keep(fixture::oracle(), |name, _| name == "gxo" || name == "gradient");
    let failed = keep(failed, |_, ratio| ratio > 0.15);
    assert_eq!(
        headline(&failed),
        "No metric kept 95% of the answers’ tokens; gradient × output came closest with 91% at 20% \
         sparsity; the gradient alone keeps 41%."
    );
    let one = keep(fixture::oracle(), |name, ratio| name == "cor-gxo" && ratio == 0.5);
    assert_eq!(one.points.len(), 1);
    assert_eq!(
        headline(&one),
        "At 50% sparsity corrected attribution keeps 99.8% of the answers’ tokens."
    );
    assert_eq!(headline(&fixture::empty()), "Nothing was measured yet.");
}

#[test]
fn the_gap_is_told_with_the_run_s_numbers() {
    let page = render(&fixture::oracle(), None);
    for number in [
        "<strong>96%</strong>",
        "<strong>0.710 nats</strong>",
        "<strong>49%</strong>",
        "<strong>35 points</strong>",
    ] {
        assert!(page.contains(number), "{number}");
    }
}

#[test]
fn every_kind_of_run_is_well_formed() {
    let mut bare = fixture::oracle();
    bare.analysis = Analysis::default();
    bare.examples.clear();
    bare.points.iter_mut().for_each(|point| {
        point.kept_mlp.clear();
        point.kept_heads.clear();
    });
    let mut broken = fixture::oracle();
    broken.points[7].agreement.mean = f64::NAN;
    broken.points[3].kl.mean = f64::INFINITY;
    broken.points[4].ratio = f32::NAN;
    broken.analysis.activity[0].mlp[0].truncate(3);
    let mut scopes = fixture::oracle();
    scopes.points[0].scope = "heads".to_owned();
    let single = keep(fixture::oracle(), |_, ratio| ratio == 0.8);
    let point = keep(fixture::oracle(), |name, ratio| ratio == 0.8 && name == "snip");
    let runs = [
        fixture::oracle(),
        fixture::runtime(),
        fixture::empty(),
        bare,
        broken,
        scopes,
        single,
        point,
    ];
    for run in runs {
        let page = render(&run, None);
        assert_well_formed(&page);
        // Scripts aside: the letters of a neuron map may spell anything.
        let shown = &page[..page.find("<script").unwrap()];
        for none in ["NaN", ">inf", "\"inf", "-inf"] {
            assert!(!shown.contains(none), "{none} is shown");
        }
    }
}

#[test]
fn text_from_the_run_is_never_markup() {
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&";
    let mut run = fixture::oracle();
    run.examples[0].question = evil.to_owned();
    run.examples[0].dense = evil.to_owned();
    run.examples[0].sparse[0].text = format!("{evil} more");
    run.examples[0].sparse[0].name = evil.to_owned();
    run.model.name = evil.to_owned();
    run.model.arch = evil.to_owned();
    run.data.name = evil.to_owned();
    run.protocol = evil.to_owned();
    run.settings.command = evil.to_owned();
    run.settings.cpu = evil.to_owned();
    run.points.iter_mut().for_each(|point| point.metric = Some(evil.to_owned()));
    run.analysis.activity[0].name = evil.to_owned();
    run.analysis.overlap[0].a = evil.to_owned();
    let page = render(&run, None);
    assert_well_formed(&page);
    assert!(!page.contains("<img") && !page.contains("<script>alert"), "markup got through");
    assert_eq!(page.matches("<script").count(), 2, "the data and the script of the page");
    assert!(page.contains("&lt;script&gt;alert(1)"), "the text is shown as text");
}

#[test]
fn nothing_is_fetched() {
    let page = render(&fixture::oracle(), None);
    let addresses: Vec<&str> =
        page.split("http").skip(1).map(|rest| &rest[..rest.len().min(12)]).collect();
    let allowed = |rest: &&str| {
        rest.starts_with("s://arxiv")
            || rest.starts_with("://www.w3.or")
            || rest.starts_with("-equiv")
    };
    assert!(addresses.iter().all(allowed), "{addresses:?}");
    for fetching in
        ["<link", "<iframe", "<img", " src=", "@import", "url(", "fetch(", "XMLHttpRequest"]
    {
        assert!(!page.contains(fetching), "{fetching}");
    }
    assert!(page.contains("default-src 'none'") && !page.contains("unsafe-inline"));
    assert!(!page.contains(" style=\""), "the policy would block a style attribute");
}

#[test]
fn a_page_stays_small() {
    assert!(render(&fixture::oracle(), None).len() < 1_000_000);
    let mut large = fixture::oracle();
    for one in &mut large.analysis.activity {
        one.mlp = vec![vec![128; 10_240]; 32];
    }
    large.analysis.layers = 32;
    assert!(render(&large, None).len() < 3_000_000);
}

#[test]
fn a_written_report_is_the_rendered_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let run = fixture::runtime();
    write_report(&run, None, &path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), render(&run, None));
    let missing = folder.path().join("none/report.html");
    assert!(
        write_report(&run, None, &missing).unwrap_err().to_string().contains("create the folder")
    );
}
