//! `fewron score`: log-probabilities of a text.

use std::io::{Write, stdout};
use std::num::NonZeroUsize;

use anyhow::{Result, ensure};
use comfy_table::{Table, presets};
use fewron_model::tokenizer::Specials;
use serde::Serialize;

use crate::Outcome;
use crate::cli::ScoreArgs;
use crate::input::read_text;
use crate::loaded::{self, Loaded};
use crate::mask::Masking;
use crate::scoring::Scorer;
use crate::ui::{Progress, Unit};

/// Longest window that is taken without being asked for.
const DEFAULT_WINDOW: usize = 2048;

/// The JSON contract.
#[derive(Serialize)]
struct Score {
    model: String,
    plan: Option<String>,
    /// Predicted tokens.
    tokens: usize,
    nll: f64,
    perplexity: f64,
    window: usize,
    /// Share of MLP neurons that ran at masked tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<f64>,
    logprobs: Vec<f32>,
}

pub(crate) fn run(args: &ScoreArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.mask.check()?;
    let text = read_text(&args.text_file)?;
    let loaded = Loaded::for_plans(&args.model, &args.mask.plans())?;
    let window = window(args, &loaded)?;
    let tokens = loaded.tokenizer.encode(&text, Specials::Plain);
    let pool = loaded::pool(threads);
    let masking = Masking::new(&args.mask, &loaded, &pool)?;
    let mask = masking.as_ref().map(Masking::mask);
    let mut scorer = Scorer::new(&loaded, &pool, args.kv_type, window, mask);
    ensure!(
        scorer.predictions(tokens.len()) > 0,
        "{} is too short: a score needs at least 2 tokens, the text makes {}",
        args.text_file.display(),
        tokens.len()
    );
    let progress = Progress::late("scoring", Unit::Items, tokens.len() as u64);
    let logprobs = scorer.score(&tokens, &mut |done| progress.set(done as u64))?;
    drop(progress);

    let nll = -logprobs.iter().map(|&p| f64::from(p)).sum::<f64>() / logprobs.len() as f64;
    let score = Score {
        model: loaded.file.name.clone(),
        plan: masking.as_ref().map(|masking| masking.label.clone()),
        tokens: logprobs.len(),
        nll,
        perplexity: nll.exp(),
        window,
        active: scorer.take_active(),
        logprobs,
    };
    let mut out = stdout();
    if args.json {
        serde_json::to_writer(&mut out, &score)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", table(&score))?;
    }
    Ok(Outcome::Done)
}

fn window(args: &ScoreArgs, loaded: &Loaded) -> Result<usize> {
    let context = loaded.context();
    let window = args.window.map_or(context.min(DEFAULT_WINDOW), |window| window as usize);
    ensure!(
        window <= context,
        "--window {window} is more than the context of {}, which holds {context} tokens",
        loaded.file.name
    );
    Ok(window)
}

fn table(score: &Score) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("model", score.model.clone());
    if let (Some(plan), Some(active)) = (&score.plan, score.active) {
        row("mask", format!("{plan}, {:.1}% of the MLP neurons active", 100.0 * active));
    }
    row("predicted", format!("{} tokens in windows of {}", score.tokens, score.window));
    row("nll", format!("{:.4} nats per token", score.nll));
    row("perplexity", format!("{:.3}", score.perplexity));
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}
