//! Drafts never show: what a mask drafts and the model verifies is the dense model's text.

mod goldens;

use fewron_model::gguf::Gguf;
use fewron_model::sampler::{Sampler, SamplerConfig};
use fewron_model::speculation::{DraftLength, Running, Speculation};
use fewron_model::{Choice, Logits, MaskSource, Model, Pool, Session};
use std::collections::HashMap;
use std::sync::Arc;

const MODELS: [&str; 3] = ["tiny-llama", "tiny-llama-odd", "tiny-gemma3"];

const PROMPT: [u32; 5] = [3, 17, 120, 9, 44];

fn session(name: &str) -> Session {
    let path = goldens::folder().join("tiny").join(format!("{name}.gguf"));
    let model = Model::from_gguf(Gguf::open(&path).unwrap()).unwrap();
    Session::new(Arc::new(model), Arc::new(Pool::new(1)))
}

/// Keeps the neurons that a hash of this, the layer and the neuron picks, in percent.
struct Share(u32);

impl MaskSource for Share {
    fn neurons(&mut self, layer: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        let mixed = |neuron: u32| (neuron + 31 * layer as u32).wrapping_mul(2_654_435_761) >> 8;
        kept.extend((0..16).filter(|&neuron| mixed(neuron) % 100 < self.0));
        Choice::Listed
    }
}

/// One text: its tokens, the tokens in the cache, and the logits of one dense token more.
struct Written {
    tokens: Vec<u32>,
    cached: Vec<u32>,
    next: Vec<f32>,
}

/// Writes `n` tokens at most, up to an end token or the end of the context; dense without masks.
fn write(
    session: &mut Session,
    config: &SamplerConfig,
    n: usize,
    end: u32,
    mut masks: Option<(&mut dyn MaskSource, &mut Speculation)>,
) -> Written {
    let mut sampler = Sampler::new(config.clone()).unwrap();
    let mut cached = PROMPT.to_vec();
    session.truncate(0);
    let logits = session.forward(&PROMPT, None, None, Logits::Last).unwrap();
    let mut tokens = vec![sampler.sample(logits, &cached)];
    let context = session.model().config().context;
    loop {
        let last = *tokens.last().unwrap();
        if tokens.len() == n || last == end || session.position() == context {
            break;
        }
        match &mut masks {
            None => {
                let logits = session.forward(&[last], None, None, Logits::Last).unwrap();
                cached.push(last);
                tokens.push(sampler.sample(logits, &cached));
            }
            Some((masks, speculation)) => {
                let mut text = Running {
                    session,
                    history: &mut cached,
                    sampler: &mut sampler,
                    wanted: Logits::Last,
                    is_end: &|token| token == end,
                };
                let most = n - tokens.len();
                let chosen = speculation.advance(&mut text, last, *masks, most).unwrap();
                assert!(!chosen.is_empty() && chosen.len() <= most);
                tokens.extend(chosen);
            }
        }
        assert_eq!(session.position(), cached.len());
    }
    session.truncate(context - 1);
    let next = session.forward(&[7], None, None, Logits::Last).unwrap().to_vec();
    Written { tokens, cached, next }
}

#[test]
fn greedy_text_is_the_dense_one_to_the_last_bit() {
    for name in MODELS {
        let mut session = session(name);
        for penalty in [1.0, 1.4] {
            let config = SamplerConfig { repetition_penalty: penalty, ..Default::default() };
            let all = write(&mut session, &config, 1000, u32::MAX, None);
            // A token that comes late ends some of the texts.
            let late = all.tokens[all.tokens.len() / 3];
            for (n, end) in [(1000, u32::MAX), (20, u32::MAX), (1000, late), (2, u32::MAX)] {
                let dense = write(&mut session, &config, n, end, None);
                for keep in [0, 40, 90, 100] {
                    for length in [1, 2, 5, 8].map(DraftLength::Fixed) {
                        let mut speculation = Speculation::new(length);
                        let masks = Some((&mut Share(keep) as _, &mut speculation));
                        let got = write(&mut session, &config, n, end, masks);
                        assert_eq!(got.tokens, dense.tokens, "{name} {n} {keep}% {length:?}");
                        assert_eq!(got.cached, dense.cached, "{name} {n} {keep}% {length:?}");
                        assert!(got.next == dense.next, "{name} {n} {keep}%: the KV cache");
                    }
                }
            }
        }
    }
}

#[test]
fn a_length_that_adapts_changes_no_greedy_text() {
    for name in MODELS {
        let mut session = session(name);
        let config = SamplerConfig::default();
        let dense = write(&mut session, &config, 100, u32::MAX, None);
        for keep in [0, 100] {
            let mut speculation = Speculation::new(DraftLength::Adaptive);
            let masks = Some((&mut Share(keep) as _, &mut speculation));
            assert_eq!(write(&mut session, &config, 100, u32::MAX, masks).tokens, dense.tokens);
            let counts = speculation.counts();
            assert_eq!(counts.chosen, dense.tokens.len() - 1);
            assert!(counts.verifications > 0 && counts.accepted <= counts.drafted, "{counts:?}");
        }
    }
}

/// Keeps everything.
struct All;

impl MaskSource for All {}

#[test]
fn drafts_of_the_whole_model_are_all_accepted() {
    let mut session = session("tiny-llama");
    for temperature in [0.0, 1.0] {
        let config = SamplerConfig { temperature, ..Default::default() };
        let mut speculation = Speculation::new(DraftLength::Fixed(3));
        write(&mut session, &config, 21, u32::MAX, Some((&mut All, &mut speculation)));
        let counts = speculation.counts();
        assert_eq!((counts.acceptance(), counts.verifications), (Some(1.0), 5), "{counts:?}");
        assert_eq!(counts.tokens_per_verification(), Some(4.0));
        assert_eq!((counts.chosen, counts.verified), (20, 20));
    }
}

/// How often each text of four tokens is drawn.
fn drawn(
    session: &mut Session,
    texts: u64,
    length: Option<usize>,
    seed: u64,
) -> HashMap<Vec<u32>, u32> {
    let mut counts = HashMap::new();
    for text in 0..texts {
        let config = SamplerConfig {
            temperature: 1.5,
            top_k: 3,
            repetition_penalty: 1.2,
            seed: seed + text,
            ..Default::default()
        };
        let mut speculation = Speculation::new(DraftLength::Fixed(length.unwrap_or(1)));
        let mut mask = Share(30);
        let masks = length.map(|_| (&mut mask as &mut dyn MaskSource, &mut speculation));
        let written = write(session, &config, 4, u32::MAX, masks);
        *counts.entry(written.tokens).or_default() += 1;
    }
    counts
}

/// Chi-square of two samples of the same size, cells with few counts thrown together, and its degrees of
/// freedom.
fn two_samples(a: &HashMap<Vec<u32>, u32>, b: &HashMap<Vec<u32>, u32>) -> (f64, usize) {
    let (mut statistic, mut cells, mut rare) = (0.0, 0, (0.0, 0.0));
    let mut texts: Vec<&Vec<u32>> = a.keys().chain(b.keys()).collect();
    texts.sort_unstable();
    texts.dedup();
    let count = |counts: &HashMap<_, u32>, text| f64::from(counts.get(text).copied().unwrap_or(0));
    let mut add = |(x, y): (f64, f64)| {
        statistic += (x - y).powi(2) / (x + y);
        cells += 1;
    };
    for text in texts {
        let (x, y) = (count(a, text), count(b, text));
        if x + y < 20.0 {
            rare = (rare.0 + x, rare.1 + y);
        } else {
            add((x, y));
        }
    }
    if rare.0 + rare.1 > 0.0 {
        add(rare);
    }
    (statistic, cells - 1)
}

/// Four tokens of three choices each: 81 texts at most, whose frequencies are those of dense sampling.
#[test]
fn drawn_text_has_the_dense_distribution() {
    let mut session = session("tiny-llama");
    let dense = drawn(&mut session, 3000, None, 0);
    for (length, seed) in [(1, 100_000), (2, 200_000), (5, 300_000)] {
        let got = drawn(&mut session, 3000, Some(length), seed);
        let (statistic, freedom) = two_samples(&dense, &got);
        // Wilson and Hilferty's approximation of the 99.9% point.
        let (f, z) = (freedom as f64, 3.09);
        let limit = f * (1.0 - 2.0 / (9.0 * f) + z * (2.0 / (9.0 * f)).sqrt()).powi(3);
        assert!(freedom > 10 && statistic < limit, "{length}: {statistic} of {limit}");
    }
}

#[test]
fn equal_seeds_draw_equally() {
    let mut session = session("tiny-gemma3");
    let mut text = |seed, length| {
        let config = SamplerConfig { temperature: 1.0, seed, ..Default::default() };
        let masks = Some((&mut Share(50) as _, &mut Speculation::new(length)));
        write(&mut session, &config, 40, u32::MAX, masks).tokens
    };
    for length in [DraftLength::Adaptive, DraftLength::Fixed(3)] {
        assert_eq!(text(1, length), text(1, length));
        assert_ne!(text(1, length), text(2, length));
    }
}
