//! What a small batch costs beside a single token: whether drafts can pay.
//!
//! `cargo run --release -p fewron-model --example batches -- MODEL.gguf [THREADS]` decodes one token and
//! verifies batches of 2 to 9, all logits included, in turns, and prints the medians and their ratios
//! to the single token.

use fewron_model::gguf::Gguf;
use fewron_model::{Logits, Model, Pool, Session};
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Tokens before the batch.
const PAST: usize = 64;

/// Times that every size is measured.
const REPETITIONS: usize = 41;

/// Largest batch.
const MOST: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, rest @ ..] = &arguments[..] else {
        return Err("give MODEL.gguf".into());
    };
    let threads = rest.first().map_or(Ok(1), |threads| threads.parse())?;
    let model = Arc::new(Model::from_gguf(Gguf::open(Path::new(model))?)?);
    let vocab = model.config().vocab;
    let tokens: Vec<u32> = (0..PAST + MOST).map(|i| ((i * 7919 + 100) % vocab) as u32).collect();
    let mut session = Session::new(model, Arc::new(Pool::new(threads)));
    session.forward(&tokens[..PAST], None, None, Logits::None)?;
    let mut times = vec![Vec::new(); MOST];
    for _ in 0..REPETITIONS {
        for (batch, times) in (1..).zip(&mut times) {
            let wanted = if batch == 1 { Logits::Shortlist(0.0) } else { Logits::All };
            session.truncate(PAST);
            let start = Instant::now();
            session.forward(&tokens[PAST..PAST + batch], None, None, wanted)?;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let mut out = std::io::stdout();
    let medians = times.iter_mut().map(|times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let medians: Vec<f64> = medians.collect();
    for (batch, median) in (1..).zip(&medians) {
        writeln!(out, "{batch} tokens: {:.2} ms, {:.2}x", 1e3 * median, median / medians[0])?;
    }
    Ok(())
}
