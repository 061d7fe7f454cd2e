//! Measuring: contestants take turns, so that a machine that changes its pace hits all alike.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fewron_model::{Logits, Model, Pool, Session};

use super::energy::EnergyMeter;
use super::llama_cpp::LlamaCpp;
use super::token;
use super::variant::Variant;
use crate::cli::{EngineArgs, KvType};
use crate::stats::{page_faults, resident_bytes};
use crate::ui;

/// Tokens that fill the cache between two looks at Ctrl-C.
const CHUNK: usize = 128;

/// Tokens of the prompt that policy `prompt` chooses by where the cache is to be empty.
const SHORTEST_PROMPT: usize = 32;

/// Threads of the contestant before may still spin for a moment.
const SETTLE: Duration = Duration::from_millis(10);

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reading a prompt into an empty cache, for the logits of its last token. Always dense.
    Prefill { tokens: usize },
    /// Decoding one by one, with a dense text of `kv_length` tokens in the cache.
    Decode { kv_length: usize, tokens: usize },
}

impl Phase {
    /// Tokens that are timed.
    pub(crate) fn tokens(self) -> usize {
        match self {
            Self::Prefill { tokens } | Self::Decode { tokens, .. } => tokens,
        }
    }

    /// Tokens that the context must hold.
    pub(crate) fn context(self) -> usize {
        match self {
            Self::Prefill { tokens } => tokens,
            Self::Decode { kv_length, tokens } => kv_length + tokens,
        }
    }
}

/// Whom a measurement is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// A variant, by its index. The dense model is the first.
    Own(usize),
    /// llama.cpp.
    LlamaCpp,
}

/// The measurements of one contestant in one phase, repetition by repetition.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) contestant: Contestant,
    pub(crate) tok_s: Vec<f64>,
    /// Empty where energy cannot be measured.
    pub(crate) joules_per_token: Vec<f64>,
    /// After each repetition.
    pub(crate) resident_bytes: Vec<f64>,
    /// Minor and major ones.
    pub(crate) faults_per_token: [Vec<f64>; 2],
}

impl Series {
    pub(crate) fn new(contestant: Contestant) -> Self {
        Self {
            contestant,
            tok_s: Vec::new(),
            joules_per_token: Vec::new(),
            resident_bytes: Vec::new(),
            faults_per_token: Default::default(),
        }
    }

    fn push(&mut self, sample: Sample, tokens: f64) {
        self.tok_s.push(tokens / sample.seconds);
        self.joules_per_token.extend(sample.joules.map(|joules| joules / tokens));
        self.resident_bytes.extend(sample.resident_bytes.map(|bytes| bytes as f64));
        for (all, faults) in
            self.faults_per_token.iter_mut().zip(sample.faults.into_iter().flatten())
        {
            all.push(faults as f64 / tokens);
        }
    }
}

/// Everything that takes part.
pub(crate) struct Runner<'a> {
    /// One for each model.
    texts: Vec<Text>,
    /// What a decoded token is to give: enough for the greedy choice, or all logits.
    wanted: Logits,
    pub(crate) variants: Vec<Variant<'a>>,
    pub(crate) llama_cpp: Option<LlamaCpp>,
    meter: Option<EnergyMeter>,
}

impl<'a> Runner<'a> {
    /// A runner of variants, the dense model first.
    pub(crate) fn new(
        pool: &Arc<Pool>,
        engine: &EngineArgs,
        variants: Vec<Variant<'a>>,
        llama_cpp: Option<LlamaCpp>,
    ) -> Self {
        let mut texts: Vec<Text> = Vec::new();
        for Variant { model, .. } in &variants {
            if !texts.iter().any(|text| text.is_of(model)) {
                texts.push(Text::new(model, pool, engine.kv_type));
            }
        }
        let wanted = if engine.exact_head { Logits::Last } else { Logits::Shortlist(0.0) };
        Self { texts, wanted, variants, llama_cpp, meter: EnergyMeter::find() }
    }

    /// How many measurements a phase makes, the untimed ones included.
    pub(crate) fn steps(&self, phase: Phase, repetitions: usize) -> usize {
        self.contestants(phase).len() * (1 + repetitions)
    }

    /// Measures everybody `repetitions` times, after once without counting it. Each repetition
    /// starts with another contestant. `step` is called after every measurement.
    ///
    /// # Errors
    /// When llama.cpp fails, and after Ctrl-C.
    pub(crate) fn measure(
        &mut self,
        phase: Phase,
        repetitions: usize,
        step: &mut dyn FnMut(),
    ) -> Result<Vec<Series>> {
        let contestants = self.contestants(phase);
        let mut series: Vec<Series> = contestants.iter().copied().map(Series::new).collect();
        for &contestant in &contestants {
            self.once(contestant, phase)?;
            step();
        }
        for repetition in 0..repetitions {
            for turn in 0..series.len() {
                let at = (repetition + turn) % series.len();
                let sample = self.once(contestants[at], phase)?;
                series[at].push(sample, phase.tokens() as f64);
                step();
            }
        }
        Ok(series)
    }

    /// Prompts run dense whatever the mask, so only the dense model reads one.
    fn contestants(&self, phase: Phase) -> Vec<Contestant> {
        let own = match phase {
            Phase::Prefill { .. } => 1,
            Phase::Decode { .. } => self.variants.len(),
        };
        let llama_cpp = self.llama_cpp.as_ref().map(|_| Contestant::LlamaCpp);
        (0..own).map(Contestant::Own).chain(llama_cpp).collect()
    }

    fn once(&mut self, contestant: Contestant, phase: Phase) -> Result<Sample> {
        ui::check_interrupt()?;
        thread::sleep(SETTLE);
        let Contestant::Own(variant) = contestant else { return self.ask_llama_cpp(phase) };
        let (variant, meter) = (&mut self.variants[variant], self.meter.as_ref());
        let mut texts = self.texts.iter_mut();
        let text = texts.find(|text| text.is_of(&variant.model)).expect("each model has a text");
        match phase {
            Phase::Prefill { tokens } => text.prefill(tokens, meter),
            Phase::Decode { kv_length, tokens } => {
                text.fill(kv_length)?;
                text.decode(variant, tokens, self.wanted, meter)
            }
        }
    }

    /// llama.cpp times itself: the way to it and back is not its fault.
    fn ask_llama_cpp(&mut self, phase: Phase) -> Result<Sample> {
        let Some(llama_cpp) = &mut self.llama_cpp else { bail!("llama.cpp does not take part") };
        let mut seconds = 0.0;
        let sample = Sample::of(self.meter.as_ref(), || {
            seconds = match phase {
                Phase::Prefill { tokens } => llama_cpp.prefill(tokens)?,
                Phase::Decode { kv_length, tokens } => llama_cpp.decode(kv_length, tokens)?,
            };
            Ok(())
        })?;
        Ok(Sample { seconds, resident_bytes: None, faults: None, ..sample })
    }
}

/// A text that a model reads and goes on with.
struct Text {
    session: Session,
    /// Tokens from the start of the session's cache that ran dense.
    dense: usize,
}

impl Text {
    fn new(model: &Arc<Model>, pool: &Arc<Pool>, kv_type: KvType) -> Self {
        let (model, pool) = (Arc::clone(model), Arc::clone(pool));
        Self { session: Session::with_kv_type(model, pool, kv_type.into()), dense: 0 }
    }

    fn is_of(&self, model: &Arc<Model>) -> bool {
        Arc::ptr_eq(self.session.model(), model)
    }

    fn prefill(&mut self, tokens: usize, meter: Option<&EnergyMeter>) -> Result<Sample> {
        let text = self.tokens(0..tokens);
        self.session.truncate(0);
        let sample = Sample::of(meter, || {
            self.session.forward(&text, None, None, Logits::Last)?;
            Ok(())
        })?;
        self.dense = tokens;
        Ok(sample)
    }

    /// Leaves a dense text of `kv_length` tokens in the cache, and runs what is missing of it.
    fn fill(&mut self, kv_length: usize) -> Result<()> {
        self.dense = self.dense.min(kv_length);
        self.session.truncate(self.dense);
        for chunk in self.tokens(self.dense..kv_length).chunks(CHUNK) {
            ui::check_interrupt()?;
            self.session.forward(chunk, None, None, Logits::None)?;
            self.dense += chunk.len();
        }
        Ok(())
    }

    fn decode(
        &mut self,
        variant: &mut Variant,
        tokens: usize,
        wanted: Logits,
        meter: Option<&EnergyMeter>,
    ) -> Result<Sample> {
        let text = self.tokens(self.dense..self.dense + tokens);
        let prompt = match self.dense {
            0 | 1 => self.tokens(0..SHORTEST_PROMPT),
            dense => self.tokens(0..dense),
        };
        variant.read_prompt(&mut self.session, &prompt, self.dense)?;
        Sample::of(meter, || {
            for (at, token) in text.chunks(1).enumerate() {
                ui::check_interrupt()?;
                self.session.forward(token, variant.mask(at), None, wanted)?;
            }
            Ok(())
        })
    }

    fn tokens(&self, positions: Range<usize>) -> Vec<u32> {
        let vocab = self.session.model().config().vocab;
        positions.map(|position| token(position, vocab)).collect()
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    joules: Option<f64>,
    resident_bytes: Option<u64>,
    /// Minor and major ones.
    faults: Option<[u64; 2]>,
}

impl Sample {
    /// Times some work.
    fn of(meter: Option<&EnergyMeter>, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let before = meter.and_then(EnergyMeter::read);
        let faults = page_faults();
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        let resident_bytes = resident_bytes();
        let faults = faults.zip(page_faults()).map(|([a, b], [c, d])| [c - a, d - b]);
        let joules = meter.zip(before).and_then(|(m, before)| Some(m.joules(&before, &m.read()?)));
        Ok(Self { seconds, joules, resident_bytes, faults })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use fewron_model::gguf::Gguf;
    use fewron_model::{Changes, LoadOptions, Source};

    use super::*;

    /// A tiny model, with another norm in place of its own.
    fn tiny(norm: f32) -> Arc<Model> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures/goldens/tiny/tiny-llama.gguf");
        let vectors = HashMap::from([("blk.0.attn_norm.weight".to_owned(), vec![norm; 48])]);
        let changes = Changes { vectors, ..Changes::default() };
        let options = LoadOptions { changes, ..LoadOptions::default() };
        let source = Source::Gguf(Gguf::open(&path).unwrap());
        Arc::new(Model::load(source, &options, &mut |_, _| {}).unwrap())
    }

    #[test]
    fn each_model_goes_on_with_a_text_of_its_own() {
        let (one, other, pool) = (tiny(0.3), tiny(2.0), Arc::new(Pool::new(1)));
        let variants =
            vec![Variant::dense(&one), Variant::random(&one, 0.5, 3, 0), Variant::dense(&other)];
        let engine = EngineArgs { kv_type: KvType::F32, exact_head: true };
        let mut runner = Runner::new(&pool, &engine, variants, None);
        for kv_length in [7, 4, 9] {
            let phase = Phase::Decode { kv_length, tokens: 3 };
            runner.measure(phase, 2, &mut || {}).unwrap();
        }
        assert_eq!(runner.texts.len(), 2);
        let next = |text: &mut Text| {
            text.fill(9).unwrap();
            text.session.forward(&[5], None, None, Logits::Last).unwrap().to_vec()
        };
        for (text, model) in runner.texts.iter_mut().zip([&one, &other]) {
            assert!(next(text) == next(&mut Text::new(model, &pool, KvType::F32)));
        }
    }
}
