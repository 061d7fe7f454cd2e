//! How often the shortlist of the output head misses the token that the whole head chooses.
//!
//! `cargo run --release -p fewron-model --example shortlist -- MODEL.gguf TEXT [TOKENS]` runs a text
//! through a model in windows of 256 tokens and compares, at every position, the greedy token of
//! [`Logits::Shortlist`] and of [`Logits::Last`], and the logits that a sampler at temperature 1 can
//! see.

use fewron_model::gguf::Gguf;
use fewron_model::sampler::argmax;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{Logits, Model, Pool, Probe, Session, Site};
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Tokens that see each other.
const WINDOW: usize = 256;

/// Tokens whose whole logits are one product.
const BATCH: usize = 32;

/// Depth of the shortlist that is compared for sampling.
const DEPTH: f32 = 11.5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, text, rest @ ..] = &arguments[..] else {
        return Err("give MODEL.gguf TEXT [TOKENS]".into());
    };
    let limit = rest.first().map_or(Ok(100_000), |tokens| tokens.parse())?;
    let gguf = Gguf::open(Path::new(model))?;
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    let text = String::from_utf8_lossy(&std::fs::read(text)?).into_owned();
    let mut tokens = Vec::new();
    for paragraph in text.lines() {
        tokens.extend(tokenizer.encode_prompt(paragraph));
        if tokens.len() >= limit {
            break;
        }
    }
    tokens.truncate(limit);
    let threads = std::thread::available_parallelism()?.get();
    let model = Arc::new(Model::from_gguf(gguf)?);
    let windows: Vec<&[u32]> = tokens.chunks(WINDOW).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let total = std::sync::Mutex::new([0usize; 3]);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut session = Session::new(Arc::clone(&model), Arc::new(Pool::new(1)));
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(window) = windows.get(index) else { break };
                    let counts = compare(&mut session, window).expect("tokens of the tokenizer");
                    let mut total = total.lock().expect("no thread panicked");
                    total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
                }
            });
        }
    });
    let [all, greedy, sampled] = *total.lock().expect("no thread panicked");
    writeln!(
        std::io::stdout(),
        "{all} tokens: greedy choice differs at {greedy}, logits to depth {DEPTH} at {sampled}"
    )?;
    Ok(())
}

/// Positions; those where the greedy choice differs; those where a logit within the depth does.
fn compare(session: &mut Session, window: &[u32]) -> Result<[usize; 3], Box<dyn Error>> {
    let mut counts = [0; 3];
    session.truncate(0);
    let hidden = session.model().config().hidden;
    let mut last = Residuals::default();
    session.forward(window, None, Some(&mut last), Logits::None)?;
    for batch in last.0.chunks(hidden * BATCH) {
        let exact = session.logits_of(batch, Logits::All).to_vec();
        let rows = exact.chunks_exact(exact.len() / (batch.len() / hidden));
        for (resid, exact) in batch.chunks_exact(hidden).zip(rows) {
            let chosen = argmax(exact);
            let shortlist = argmax(session.logits_of(resid, Logits::Shortlist(0.0)));
            let deep = session.logits_of(resid, Logits::Shortlist(DEPTH));
            let least = exact[chosen as usize] - DEPTH;
            let missed =
                exact.iter().zip(deep).any(|(&whole, &deep)| whole >= least && whole != deep);
            counts[0] += 1;
            counts[1] += usize::from(chosen != shortlist);
            counts[2] += usize::from(missed);
        }
    }
    Ok(counts)
}

/// The residual streams behind the last block.
#[derive(Default)]
struct Residuals(Vec<f32>);

impl Probe for Residuals {
    fn wants(&self, site: Site) -> bool {
        site == Site::ResidFinal
    }

    fn observe(&mut self, _: Site, _: usize, values: &[f32]) {
        self.0.extend_from_slice(values);
    }
}
