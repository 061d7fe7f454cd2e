//! `fewron attribute`: attribution scores as files.

use std::fs;
use std::num::NonZeroUsize;

use anyhow::{Context, Result};
use fewron_eval::data::Dataset;
use fewron_eval::record::ModelRecord;
use fewron_eval::sweep::{Dense, Prompt};
use fewron_model::Session;
use fewron_report::parquet::{NeuronStats, ScoreWriter, UnitKind};
use fewron_sparsity::{Attribution, Metric, Scores};
use serde_json::json;

use crate::Outcome;
use crate::cli::AttributeArgs;
use crate::loaded::{self, Loaded};
use crate::runs::{self, Planned};
use crate::study::{Answers, model_record, prompts, write_json};
use crate::ui::{self, Progress, Unit};

pub(crate) fn run(args: &AttributeArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    let data = Dataset::load(&args.data.data, args.data.limit.map(NonZeroUsize::get))?;
    let loaded = Loaded::from_args(&args.model)?;
    let max_new_tokens = args.data.max_new_tokens.get();
    let prompts = prompts(&loaded, &data, args.data.raw, max_new_tokens)?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let model = model_record(&loaded)?;
    let planned = Planned {
        kind: "attribute",
        what: String::new(),
        model: &model,
        threads: loaded::thread_count(threads),
        folder: Some(&args.out),
        anew: true,
    };
    runs::recorded(
        &planned,
        |_| Vec::new(),
        |_| write_scores(args, threads, &loaded, &data, &prompts, &model),
    )?;
    Ok(Outcome::Done)
}

/// Writes the scores, their statistics and what they are of, which it gives. What was scored before Ctrl-C
/// is written too.
fn write_scores(
    args: &AttributeArgs,
    threads: Option<NonZeroUsize>,
    loaded: &Loaded,
    data: &Dataset,
    prompts: &[Prompt],
    model: &ModelRecord,
) -> Result<serde_json::Value> {
    let metric: Metric = args.metric.as_str().parse()?;
    let attribution = Attribution::new(
        &loaded.model,
        &[metric],
        args.scope.as_str().parse()?,
        args.attribution.correction,
        args.attribution.ig_steps.get(),
        args.seed,
    );
    let max_new_tokens = args.data.max_new_tokens.get();
    let mut files = Files {
        scores: ScoreWriter::create(&args.out.join("scores.parquet"))?,
        stats: NeuronStats::default(),
    };
    let mut session = Session::new(loaded.model.clone(), loaded::pool(threads));
    let progress = Progress::new("attribution", Unit::Items, prompts.len() as u64);
    let (mut samples, mut tokens) = (0, 0);
    for (index, prompt) in prompts.iter().enumerate() {
        if ui::interrupted() {
            break;
        }
        let dense = Dense::answer(&mut session, &Answers(loaded), &prompt.tokens, max_new_tokens)?;
        if !dense.labels().is_empty() {
            let scores = dense.scores(&mut session, &attribution, index as u64);
            files.write(index as u32, dense.labels().len(), &scores[0])?;
        }
        samples = index + 1;
        tokens += dense.labels().len();
        progress.set(samples as u64);
    }
    drop(progress);
    let rows = files.scores.finish()?;
    files.stats.write_parquet(&args.out.join("neurons.parquet"))?;
    files.stats.write_csv(&args.out.join("neurons.csv"))?;
    let about = json!({
        "model": model,
        "data": {"name": data.name, "sha256": data.sha256, "samples": samples, "tokens": tokens},
        "metric": metric.name(),
        "scope": args.scope.as_str(),
        "correction": args.attribution.correction,
        "ig_steps": args.attribution.ig_steps,
        "max_new_tokens": max_new_tokens,
        "seed": args.seed,
        "rows": rows,
    });
    write_json(&about, &args.out.join("attribution.json"))?;
    println!(
        "{}: {rows} scores of {samples} samples, {tokens} tokens (scores.parquet, neurons.parquet, neurons.csv)",
        args.out.display()
    );
    ui::check_interrupt()?;
    Ok(about)
}

struct Files {
    scores: ScoreWriter,
    stats: NeuronStats,
}

impl Files {
    /// Writes one sample. Step 0 is the answer's second token: the first that a mask could touch.
    fn write(&mut self, sample: u32, steps: usize, scores: &Scores) -> Result<()> {
        for step in 0..steps {
            for (kind, layers) in
                [(UnitKind::Mlp, &scores.neurons), (UnitKind::Head, &scores.heads)]
            {
                for (layer, scores) in layers.iter().enumerate() {
                    let units = scores.len() / steps;
                    let row = &scores[step * units..][..units];
                    self.scores.write(sample, step as u32, layer as u32, kind, row)?;
                    self.stats.add(layer as u32, kind, row)?;
                }
            }
        }
        Ok(())
    }
}
