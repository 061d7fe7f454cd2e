//! `fewron demo`: the main job on the default model.

use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::Result;
use fewron_eval::data::Dataset;
use fewron_eval::record::{Example, SweepRun};
use fewron_eval::sweep::{Masks, SweepConfig};
use fewron_sparsity::{Metric, Scope, Selection};

use super::sweep::matrix;
use crate::Outcome;
use crate::cli::DemoArgs;
use crate::loaded::Loaded;
use crate::study::Study;

/// The ratio at which answers are shown.
const SHOWN_RATIO: f32 = 0.8;

pub(crate) fn run(args: &DemoArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    let data = Dataset::load("builtin", Some(args.limit.get()))?;
    let loaded = Loaded::open(&args.model)?;
    let config = SweepConfig {
        masks: Masks::Oracle(vec![Metric::CorGxo, Metric::Magnitude, Metric::Snip, Metric::Gxo]),
        ratios: vec![0.5, 0.7, SHOWN_RATIO, 0.9],
        scope: Scope::Mlp,
        selection: Selection::Layer,
        correction: 0.5,
        ig_steps: 20,
        max_new_tokens: args.max_new_tokens.get(),
        seed: 0,
        raw: false,
    };
    println!(
        "{} answers {} questions: dense, then with most MLP neurons off, chosen by four metrics.\n",
        loaded.file.name,
        data.samples.len()
    );
    let start = Instant::now();
    let out = Some(args.out.as_path());
    let plans = Vec::new();
    let study = Study { loaded: &loaded, config, plans, data: &data, out, restart: false, threads };
    let (run, folder) = study.run()?;
    let report = folder.join("report.html");
    fewron_report::write_report(&run, None, &report)?;

    println!("Tokens that stay the dense model's own (teacher-forced, oracle masks):");
    println!("{}\n", matrix(&run, |p| format!("{:.1}%", 100.0 * p.agreement.mean)));
    println!("BLEU of the free-running sparse answers against the dense ones:");
    println!("{}\n", matrix(&run, |p| format!("{:.1}", p.bleu.mean)));
    if let Some(example) = run.examples.first() {
        show(example);
    }
    println!("{}", finding(&run));
    println!(
        "The masks know the answer (they are the paper's oracle): `fewron sweep --protocol runtime`"
    );
    println!("measures what a running model can have.\n");
    println!("Report: {} ({:.0} s)", report.display(), start.elapsed().as_secs_f64());
    Ok(Outcome::Done)
}

/// One question answered dense and by two metrics.
fn show(example: &Example) {
    println!("“{}”", example.question);
    println!("  dense                {}", one_line(&example.dense));
    for name in ["cor-gxo", "magnitude"] {
        if let Some(answer) = example.sparse.iter().find(|a| a.name == name) {
            let label = format!("{name}, {:.0}% off", 100.0 * answer.ratio);
            println!("  {label:20} {}", one_line(&answer.text));
        }
    }
    println!();
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The finding in a sentence, whatever it is.
fn finding(run: &SweepRun) -> String {
    let agreement = |name: &str| {
        let shown = |p: &&fewron_eval::record::Point| p.name() == name && p.ratio == SHOWN_RATIO;
        run.points.iter().find(shown).map_or(0.0, |p| 100.0 * p.agreement.mean)
    };
    format!(
        "With {:.0}% of the MLP neurons off, corrected attribution keeps {:.1}% of the tokens, \
         output magnitude {:.1}%.",
        100.0 * SHOWN_RATIO,
        agreement("cor-gxo"),
        agreement("magnitude")
    )
}
