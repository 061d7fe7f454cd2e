//! Tokens a second of several streams at once, on SmolLM2 from the cache (`fewron pull smollm2`).
//!
//! ```text
//! cargo bench -p fewron-serve
//! FEWRON_ISA=avx2 cargo bench -p fewron-serve -- 1 8
//! cargo bench -p fewron-serve -- dense 8
//! ```

#![allow(clippy::print_stdout)]

use fewron_model::gguf::Gguf;
use fewron_model::sampler::SamplerConfig;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{KvType, Model, Pool};
use fewron_serve::engine::{Engine, Event, Guard, Limits, Request, Settings, Variant};
use fewron_sparsity::{Calibration, Plan, PolicyKind, Scope, Selection};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Tokens of each answer.
const TOKENS: usize = 96;

/// How often each number of streams is run; the fastest counts.
const ROUNDS: usize = 5;

fn file() -> PathBuf {
    let home = std::env::var_os("FEWRON_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/fewron"),
        PathBuf::from,
    );
    home.join("models/SmolLM2-135M-Instruct.Q4_1.gguf")
}

fn engine(threads: usize) -> Option<Engine> {
    let gguf = Gguf::open(&file()).ok()?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf).ok()?);
    let model = Arc::new(Model::from_gguf(gguf).ok()?);
    let (config, none) = (model.config(), Calibration::default());
    let half = Plan::uniform(config, PolicyKind::Gate, Scope::Mlp, Selection::Layer, 0.5, &none);
    let variant =
        Variant { name: "plan".to_owned(), plan: Some(Arc::new(half.ok()?)), sparsity: 0.5 };
    let settings = Settings {
        name: "smollm2".to_owned(),
        variants: vec![variant],
        split: Vec::new(),
        maker: Box::new(|_, _| Err("none".to_owned())),
        limits: Limits::default(),
        guard: Guard { sample: 0.0, ..Guard::default() },
        kv_type: KvType::F16,
    };
    Engine::start(model, tokenizer, Arc::new(Pool::new(threads)), settings).ok()
}

/// Seconds from the first token of the last stream to begin until the first stream ends.
fn together(engine: &Engine, variant: &str, streams: usize) -> f64 {
    let variant = engine.variant(&format!("smollm2:{variant}"), None).expect("a variant");
    let request = |stream: usize| Request {
        prompt: (0..16).map(|i| 1000 + 97 * stream as u32 + i).collect(),
        variant: Arc::clone(&variant),
        choices: 1,
        max_tokens: TOKENS,
        sampling: SamplerConfig { temperature: 1.0, ..SamplerConfig::default() },
        stop: Vec::new(),
        logprobs: None,
        prompt_logprobs: None,
        timeout: None,
        ignore_end: true,
    };
    let mut answers: Vec<_> =
        (0..streams).map(|stream| engine.submit(request(stream)).expect("room")).collect();
    let mut start = None;
    let mut tokens = 0;
    for answer in &mut answers {
        while let Some(event) = answer.events.blocking_recv() {
            match event {
                Event::Piece { .. } if start.is_none() => start = Some(Instant::now()),
                Event::End { tokens: count, .. } => tokens += count,
                _ => {}
            }
        }
    }
    let start = start.expect("tokens");
    (tokens - streams) as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let asked: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let streams = if asked.is_empty() { vec![1, 2, 4, 8, 16] } else { asked };
    let Some(engine) = engine(2) else {
        println!("skipped: no {}; `fewron pull smollm2` fetches it", file().display());
        return;
    };
    println!("isa {}, 2 threads, {TOKENS} tokens a stream", engine.model().isa().name());
    let named = |variant: &&str| std::env::args().any(|argument| argument == *variant);
    let all = ["dense", "plan"];
    let any = all.iter().any(named);
    for variant in all.iter().filter(|variant| !any || named(variant)) {
        let mut one = None;
        for &count in &streams {
            let best = (0..ROUNDS).map(|_| together(&engine, variant, count)).fold(0.0, f64::max);
            let one = *one.get_or_insert(best);
            println!("{variant:6} {count:3} streams {best:8.1} tokens/s  {:5.2}×", best / one);
        }
    }
}
