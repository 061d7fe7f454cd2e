//! `fewron generate`: text after a prompt.

use std::io::{Write, stdout};
use std::num::NonZeroUsize;

use anyhow::Result;

use crate::Outcome;
use crate::cli::{GenerateArgs, PromptArgs};
use crate::generation::{End, Generator, sampler};
use crate::input::read_text;
use crate::loaded::{self, Loaded};
use crate::mask::Masking;
use crate::plan_words;
use crate::ui::{self, Interrupted};

/// Tokens that `--stats` runs once more without the mask.
const TIMED_DENSE: usize = 32;

pub(crate) fn run(args: &GenerateArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.mask.check()?;
    let sampler = sampler(&args.sampling)?;
    let question = question(&args.prompt)?;
    let loaded = Loaded::for_plans(&args.model, &args.mask.plans())?;
    let prompt = loaded.prompt(&question, args.system.as_deref(), args.raw)?;
    let pool = loaded::pool(threads);
    let masking = Masking::new(&args.mask, &loaded, &pool)?;
    let mask = masking.as_ref().map(Masking::mask);
    let mut generator = Generator::new(&loaded, &pool, sampler, &args.engine, mask);

    let mut out = stdout();
    let mut answer = generator.answer(&prompt, args.max_new_tokens, &mut |piece| {
        out.write_all(piece.as_bytes())?;
        out.flush()
    })?;
    writeln!(out)?;
    if answer.end == End::Context {
        ui::note(&format!("the context of {} tokens is full", loaded.context()));
    }
    if args.stats {
        if answer.end != End::Interrupted {
            answer.stats.dense = generator.time_dense(&answer.stats, TIMED_DENSE)?;
        }
        if let Some(record) = masking.as_ref().and_then(|masking| masking.record.as_ref()) {
            ui::note(&format!("plan     {}", plan_words::one_line(record)));
        }
        ui::note(&answer.stats.to_string());
    }
    match answer.end {
        End::Interrupted => Err(Interrupted.into()),
        _ => Ok(Outcome::Done),
    }
}

fn question(args: &PromptArgs) -> Result<String> {
    match (&args.prompt, &args.prompt_file) {
        (None, Some(file)) => read_text(file),
        (prompt, _) => Ok(prompt.clone().unwrap_or_default()),
    }
}
