//! The engine on tiny models: whatever runs beside it, an answer is the one that a session alone gives.

use fewron_kernels::log_sum_exp;
use fewron_model::gguf::Gguf;
use fewron_model::sampler::{Sampler, SamplerConfig};
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{KvType, Logits, MaskSource, Model, Pool, Session};
use fewron_serve::engine::{
    Answer, ChosenToken, Engine, Event, Failure, Finish, Guard, Limits, Refused, Request,
    RequestState, Settings, Variant,
};
use fewron_sparsity::{Calibration, Plan, Policy, PolicyKind, Scope, Selection};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Long enough for anything here, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
}

fn bench() -> Bench {
    let tiny =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/goldens/tiny/tiny-llama.gguf");
    let gguf = Gguf::open(&tiny).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf).unwrap());
    Bench { model: Arc::new(Model::from_gguf(gguf).unwrap()), tokenizer }
}

impl Bench {
    fn plan(&self, policy: PolicyKind, ratio: f32) -> Plan {
        let (config, calibration) = (self.model.config(), Calibration::default());
        Plan::uniform(config, policy, Scope::Mlp, Selection::Layer, ratio, &calibration).unwrap()
    }

    fn engine(&self, limits: Limits, guard: Guard) -> Engine {
        // Of another model: what no plan file can be.
        let broken = Plan { layers: Vec::new(), ..self.plan(PolicyKind::Magnitude, 0.5) };
        let variant = |name: &str, policy, ratio| Variant {
            name: name.to_owned(),
            plan: Some(Arc::new(self.plan(policy, ratio))),
            sparsity: ratio,
        };
        let settings = Settings {
            name: "tiny".to_owned(),
            variants: vec![
                variant("plan", PolicyKind::Magnitude, 0.5),
                variant("prompt", PolicyKind::Prompt, 0.5),
                variant("bad", PolicyKind::Magnitude, 0.98),
                variant("all", PolicyKind::Magnitude, 0.0),
                Variant { name: "broken".to_owned(), plan: Some(Arc::new(broken)), sparsity: 0.5 },
            ],
            split: Vec::new(),
            maker: Box::new(|_, _| Err("none".to_owned())),
            limits,
            guard,
            kv_type: KvType::F16,
        };
        let (model, tokenizer) = (Arc::clone(&self.model), Arc::clone(&self.tokenizer));
        Engine::start(model, tokenizer, Arc::new(Pool::new(2)), settings).unwrap()
    }

    fn default_engine(&self) -> Engine {
        self.engine(Limits::default(), quiet())
    }

    /// The answer of a session that does nothing else: token by token.
    fn alone(&self, engine: &Engine, request: &Request, choice: usize) -> Vec<u32> {
        let mut session = Session::new(Arc::clone(&self.model), Arc::new(Pool::new(1)));
        let config = SamplerConfig {
            seed: request.sampling.seed + choice as u64,
            ..request.sampling.clone()
        };
        let mut sampler = Sampler::new(config).unwrap();
        let plan = engine.variant(&format!("tiny:{}", request.variant.name), None).unwrap();
        let mut policy = plan.plan.as_deref().map(Policy::new);
        let mut history = request.prompt.clone();
        let mut logits = match &mut policy {
            Some(policy) => policy.read_prompt(&mut session, &request.prompt, Logits::Last),
            None => session.forward(&request.prompt, None, None, Logits::Last),
        }
        .unwrap()
        .to_vec();
        for written in 1.. {
            let token = sampler.sample(&logits, &history);
            if self.tokenizer.is_end(token) {
                break;
            }
            history.push(token);
            if written == request.max_tokens || history.len() > self.model.config().context {
                break;
            }
            let masks = policy.as_mut().map(|policy| policy as &mut dyn MaskSource);
            logits = session.forward(&[token], masks, None, Logits::Last).unwrap().to_vec();
        }
        history.split_off(request.prompt.len())
    }
}

fn quiet() -> Guard {
    Guard { sample: 0.0, ..Guard::default() }
}

fn prompt(length: usize, first: u32) -> Vec<u32> {
    (0..length as u32).map(|i| 3 + (first * 31 + i * 7) % 100).collect()
}

fn request(engine: &Engine, variant: &str, prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request {
        prompt,
        variant: engine.variant(&format!("tiny:{variant}"), None).unwrap(),
        choices: 1,
        max_tokens,
        sampling: SamplerConfig::default(),
        stop: Vec::new(),
        logprobs: None,
        prompt_logprobs: None,
        timeout: None,
        ignore_end: false,
    }
}

/// What a request gave.
#[derive(Debug, Default)]
struct Heard {
    tokens: Vec<Vec<u32>>,
    texts: Vec<String>,
    finish: Vec<Option<Finish>>,
    counted: Vec<usize>,
    logprobs: Vec<Option<f32>>,
    prompt: Option<Vec<fewron_serve::engine::ChosenToken>>,
    reused: usize,
    failed: Option<Failure>,
}

fn hear(mut answer: Answer, choices: usize) -> Heard {
    let mut heard = Heard {
        tokens: vec![Vec::new(); choices],
        texts: vec![String::new(); choices],
        finish: vec![None; choices],
        counted: vec![0; choices],
        ..Heard::default()
    };
    let ends = Instant::now() + PATIENCE;
    loop {
        match answer.events.try_recv() {
            Ok(Event::Prompt { reused, tokens }) => {
                (heard.reused, heard.prompt) = (reused, Some(tokens));
            }
            Ok(Event::Piece { choice, piece }) => {
                heard.texts[choice].push_str(&piece.text);
                heard.tokens[choice].extend(piece.tokens.iter().map(|token| token.id));
                heard.logprobs.extend(piece.tokens.iter().map(|token| token.logprob));
            }
            Ok(Event::End { choice, finish, tokens }) => {
                (heard.finish[choice], heard.counted[choice]) = (Some(finish), tokens);
            }
            Ok(Event::Failed(failure)) => heard.failed = Some(failure),
            Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => return heard,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
        assert!(Instant::now() < ends, "no end: {heard:?}");
    }
}

fn run(engine: &Engine, request: Request) -> Heard {
    let choices = request.choices;
    hear(engine.submit(request).unwrap(), choices)
}

/// Many requests of all kinds at once.
fn mixture(engine: &Engine) -> Vec<Request> {
    let variants = ["dense", "plan", "prompt", "bad"];
    let mut requests = Vec::new();
    for i in 0..12u32 {
        let mut r = request(
            engine,
            variants[i as usize % 4],
            prompt(3 + 17 * i as usize % 110, i),
            5 + 3 * i as usize,
        );
        if i % 3 == 1 {
            r.sampling = SamplerConfig {
                temperature: 0.9,
                top_p: 0.95,
                seed: u64::from(i),
                ..SamplerConfig::default()
            };
        }
        if i % 5 == 2 {
            r.choices = 3;
        }
        requests.push(r);
    }
    requests
}

fn assert_as_alone(bench: &Bench, engine: &Engine) {
    let requests = mixture(engine);
    let answers: Vec<Answer> =
        requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    for (request, answer) in requests.iter().zip(answers) {
        let heard = hear(answer, request.choices);
        assert_eq!(heard.failed, None);
        for choice in 0..request.choices {
            let alone = bench.alone(engine, request, choice);
            assert_eq!(heard.tokens[choice], alone, "{} {choice}", request.variant.name);
            let decoded = bench.tokenizer.decode(&alone, true);
            assert_eq!(heard.texts[choice], decoded);
            assert!(heard.finish[choice].is_some());
        }
    }
}

#[test]
fn answers_do_not_depend_on_their_company() {
    let bench = bench();
    assert_as_alone(&bench, &bench.default_engine());
}

#[test]
fn answers_do_not_depend_on_the_chunks_of_prompts() {
    let bench = bench();
    for prefill_chunk in [1, 3] {
        let limits = Limits { prefill_chunk, ..Limits::default() };
        assert_as_alone(&bench, &bench.engine(limits, quiet()));
    }
}

#[test]
fn answers_do_not_depend_on_the_memory() {
    let bench = bench();
    let session = Session::new(Arc::clone(&bench.model), Arc::new(Pool::new(1)));
    // Room for two of the longer answers: the others are parked and computed anew.
    let limits = Limits { kv_bytes: session.cache().bytes_of(200), ..Limits::default() };
    let engine = bench.engine(limits.clone(), quiet());
    assert_as_alone(&bench, &engine);
    let status = engine.status();
    assert!(status.totals.parked > 0, "{:?}", status.totals);
    let memory = status.memory;
    assert!(memory.kv_running_bytes + memory.kv_prefix_bytes <= limits.kv_bytes as u64);
}

#[test]
fn a_known_beginning_is_not_read_again() {
    let bench = bench();
    let engine = bench.default_engine();
    let mut text = prompt(50, 1);
    let first = run(&engine, request(&engine, "dense", text.clone(), 4));
    assert_eq!(first.reused, 0);
    text.extend(prompt(20, 2));
    let second = request(&engine, "dense", text.clone(), 4);
    let heard = run(&engine, second.clone());
    assert!((50..=54).contains(&heard.reused), "{}", heard.reused);
    assert_eq!(heard.tokens[0], bench.alone(&engine, &second, 0));
    // All but the last token, which gives the logits.
    let again = run(&engine, second.clone());
    assert_eq!((again.reused, again.tokens), (69, heard.tokens));
    // What a mask looks at is read for it.
    let mut looking = second.clone();
    looking.prompt.extend(prompt(50, 3));
    looking.variant = engine.variant("tiny:prompt", None).unwrap();
    let heard = run(&engine, looking.clone());
    assert_eq!(heard.reused, 120 - 65);
    assert_eq!(heard.tokens[0], bench.alone(&engine, &looking, 0));
    // What a mask wrote is no beginning for others.
    let mut sparse = request(&engine, "bad", prompt(40, 9), 30);
    let answer = run(&engine, sparse.clone()).tokens.remove(0);
    sparse.prompt.extend(&answer);
    sparse.variant = engine.variant("tiny:dense", None).unwrap();
    let heard = run(&engine, sparse.clone());
    assert_eq!(heard.reused, 40);
    assert_eq!(heard.tokens[0], bench.alone(&engine, &sparse, 0));
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let bench = bench();
    let engine = bench.default_engine();
    let mut asked = request(&engine, "dense", prompt(110, 4), 3);
    (asked.logprobs, asked.prompt_logprobs) = (Some(2), Some(1));
    let heard = run(&engine, asked.clone());
    let all: Vec<u32> = asked.prompt.iter().chain(&heard.tokens[0]).copied().collect();
    let mut session = Session::new(Arc::clone(&bench.model), Arc::new(Pool::new(1)));
    let logits = session.forward(&all, None, None, Logits::All).unwrap();
    let vocab = bench.model.config().vocab;
    let row = |at: usize| &logits[at * vocab..][..vocab];
    let logprob =
        |at: usize| row(at)[all[at + 1] as usize] - log_sum_exp(bench.model.isa(), row(at));
    let told = heard.prompt.unwrap();
    assert_eq!(told.len(), 110);
    assert_eq!((told[0].id, told[0].logprob), (all[0], None));
    for (at, token) in told.iter().enumerate().skip(1) {
        assert_eq!((token.id, token.logprob), (all[at], Some(logprob(at - 1))));
        let best = fewron_model::sampler::argmax(row(at - 1));
        assert_eq!(token.top[0].0, best);
    }
    let answer: Vec<_> = (109..109 + heard.tokens[0].len()).map(|at| Some(logprob(at))).collect();
    assert_eq!(heard.logprobs, answer);
    // A mask that looks at the prompt changes nothing of it.
    let mut masked = asked.clone();
    (masked.variant, masked.logprobs) = (engine.variant("tiny:prompt", None).unwrap(), None);
    let heard = run(&engine, masked.clone());
    assert_eq!(heard.tokens[0], bench.alone(&engine, &masked, 0));
    let scored = |told: Vec<ChosenToken>| -> Vec<_> {
        told.into_iter().map(|token| (token.id, token.logprob, token.top)).collect()
    };
    assert_eq!(scored(heard.prompt.unwrap()), scored(told));
    // The prompt alone.
    (asked.max_tokens, asked.logprobs) = (0, None);
    let heard = run(&engine, asked);
    assert_eq!((heard.prompt.unwrap().len(), heard.counted[0]), (110, 0));
    assert_eq!(heard.finish[0], Some(Finish::Length));
}

#[test]
fn a_stop_text_ends_an_answer() {
    let bench = bench();
    let engine = bench.default_engine();
    let mut asked = request(&engine, "dense", prompt(10, 3), 40);
    let whole = run(&engine, asked.clone()).texts.remove(0);
    let chars: Vec<char> = whole.chars().collect();
    assert!(chars.len() > 12, "{whole:?}");
    // Every short piece of the answer, as a stop text: it ends where the piece comes first.
    for start in 0..chars.len().min(30) - 3 {
        let stop: String = chars[start..start + 3].iter().collect();
        asked.stop = vec!["never to be seen".to_owned(), stop.clone()];
        let heard = run(&engine, asked.clone());
        assert_eq!(heard.texts[0], whole[..whole.find(&stop).unwrap()], "{stop:?}");
        assert_eq!(heard.finish[0], Some(Finish::Stop));
    }
}

#[test]
fn who_goes_away_is_forgotten() {
    let bench = bench();
    let limits = Limits { running: 2, ..Limits::default() };
    let engine = bench.engine(limits, quiet());
    let long = || request(&engine, "dense", prompt(5, 0), 120);
    let answers: Vec<Answer> = (0..6).map(|_| engine.submit(long()).unwrap()).collect();
    drop(answers);
    let after = run(&engine, request(&engine, "plan", prompt(5, 1), 5));
    assert_eq!(after.counted, [5]);
    let status = engine.status();
    assert!(status.totals.cancelled + status.totals.finished == 7, "{:?}", status.totals);
    assert!(status.totals.cancelled >= 4, "{:?}", status.totals);
    assert!(engine.is_idle());
    assert_eq!(status.memory.kv_running_bytes, 0);
}

#[test]
fn a_full_queue_refuses() {
    let bench = bench();
    let limits = Limits { running: 1, waiting: 2, ..Limits::default() };
    let engine = bench.engine(limits, quiet());
    let mut answers = Vec::new();
    let refused = loop {
        match engine.submit(request(&engine, "dense", prompt(5, 0), 100)) {
            Ok(answer) => answers.push(answer),
            Err(refused) => break refused,
        }
        assert!(answers.len() < 50);
    };
    let Refused::Busy { waiting: 2, retry_after } = refused else { panic!("{refused:?}") };
    assert!(retry_after >= Duration::from_secs(1));
    assert!(answers.into_iter().all(|answer| hear(answer, 1).finish[0].is_some()));
    assert!(engine.status().totals.refused >= 1);
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let bench = bench();
    let limits = Limits { running: 4, kv_bytes: 1 << 20, ..Limits::default() };
    let engine = bench.engine(limits, quiet());
    let context = bench.model.config().context;
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut asked = request(&engine, "dense", prompt(5, 0), 5);
        change(&mut asked);
        engine.submit(asked).unwrap_err()
    };
    assert!(matches!(refused(&|r| r.prompt.clear()), Refused::Prompt(_)));
    assert!(matches!(refused(&|r| r.prompt[2] = u32::MAX), Refused::Prompt(_)));
    assert!(matches!(refused(&|r| r.choices = 5), Refused::Choices { most: 4, .. }));
    assert!(matches!(refused(&|r| r.sampling.top_p = 0.0), Refused::Sampling(_)));
    let long = prompt(context + 1, 0);
    let too_long = refused(&|r| r.prompt = long.clone());
    assert_eq!(too_long, Refused::TooLong { prompt: context + 1, context });
    // A full context can be read, but not answered.
    let mut full = request(&engine, "dense", prompt(context, 0), 1);
    assert!(matches!(engine.submit(full.clone()), Err(Refused::TooLong { .. })));
    (full.max_tokens, full.prompt_logprobs) = (0, Some(0));
    assert_eq!(run(&engine, full).prompt.unwrap().len(), context);
}

#[test]
fn an_answer_fills_the_context() {
    let bench = bench();
    let engine = bench.default_engine();
    let context = bench.model.config().context;
    let asked = request(&engine, "dense", prompt(context - 3, 0), 1000);
    let heard = run(&engine, asked.clone());
    assert_eq!(heard.tokens[0], bench.alone(&engine, &asked, 0));
    assert_eq!((heard.tokens[0].len(), heard.finish[0]), (4, Some(Finish::Length)));
}

#[test]
fn time_runs_out() {
    let bench = bench();
    let engine = bench.default_engine();
    let mut asked = request(&engine, "dense", prompt(5, 0), 1000);
    asked.timeout = Some(Duration::ZERO);
    let heard = run(&engine, asked);
    assert_eq!(heard.failed, Some(Failure::TimedOut(Duration::ZERO)));
    assert_eq!(engine.status().requests[0].state, RequestState::Failed);
}

#[test]
fn a_drained_engine_finishes_and_takes_nothing_new() {
    let bench = bench();
    let engine = bench.default_engine();
    let asked = request(&engine, "dense", prompt(5, 0), 60);
    let answers: Vec<Answer> = (0..4).map(|_| engine.submit(asked.clone()).unwrap()).collect();
    engine.drain();
    assert_eq!(engine.submit(asked.clone()).unwrap_err(), Refused::ShuttingDown);
    assert!(answers.into_iter().all(|answer| hear(answer, 1).counted[0] == 60));
    engine.stop(PATIENCE);
}

#[test]
fn a_stopped_engine_tells_everyone() {
    let bench = bench();
    let engine = bench.engine(Limits { running: 1, ..Limits::default() }, quiet());
    let asked = request(&engine, "dense", prompt(5, 0), 120);
    let answers: Vec<Answer> = (0..4).map(|_| engine.submit(asked.clone()).unwrap()).collect();
    engine.stop(PATIENCE);
    let heard: Vec<Heard> = answers.into_iter().map(|answer| hear(answer, 1)).collect();
    assert!(heard.iter().all(|h| h.finish[0].is_some() != h.failed.is_some()));
    assert!(heard.iter().any(|h| h.failed == Some(Failure::ShuttingDown)));
}

/// Serves a variant until `done` or patience is over.
fn serve(engine: &Engine, variant: &str, done: impl Fn(&Engine) -> bool) {
    let ends = Instant::now() + PATIENCE;
    for i in 0.. {
        if done(engine) {
            return;
        }
        run(engine, request(engine, variant, prompt(6, i), 30));
        assert!(Instant::now() < ends, "{:?}", engine.status().variants);
    }
}

fn quality(engine: &Engine, name: &str) -> (bool, u64, f64, f64) {
    let status = engine.status();
    let variant = status.variants.into_iter().find(|variant| variant.name == name).unwrap();
    let quality = variant.quality.unwrap();
    (variant.fallen_back, quality.tokens, quality.agreement.mean, quality.kl.mean)
}

#[test]
fn a_bad_variant_falls_back_within_its_promise() {
    let bench = bench();
    let guard = Guard { sample: 1.0, min_agreement: 0.95, tokens: 64, ..Guard::default() };
    let engine = bench.engine(Limits::default(), guard);
    serve(&engine, "bad", |engine| quality(engine, "bad").0);
    let (_, tokens, agreement, kl) = quality(&engine, "bad");
    assert!(agreement < 0.95 && kl > 0.0, "{agreement} {kl}");
    // No more than was promised, and the batch in which it came true.
    assert!((64..=4 * 64 + 16).contains(&tokens), "{tokens}");
    let answer = engine.submit(request(&engine, "bad", prompt(6, 0), 3)).unwrap();
    assert!(answer.variant.is_dense());
    let dense = request(&engine, "dense", prompt(6, 0), 3);
    assert_eq!(hear(answer, 1).tokens[0], bench.alone(&engine, &dense, 0));
    assert!(engine.status().log.iter().any(|line| line.text.contains("bad has fallen back")));
    engine.rearm("bad").unwrap();
    assert_eq!(quality(&engine, "bad").1, 0);
    assert!(!engine.submit(request(&engine, "bad", prompt(6, 0), 3)).unwrap().variant.is_dense());
    assert!(engine.rearm("nobody").is_err());
}

#[test]
fn a_variant_that_drops_nothing_is_found_the_same() {
    let bench = bench();
    let guard = Guard { sample: 1.0, min_agreement: 1.0, max_kl: 1e-9, tokens: 64 };
    let engine = bench.engine(Limits::default(), guard);
    serve(&engine, "all", |engine| quality(engine, "all").1 > 400);
    assert!(!quality(&engine, "all").0);
    let (_, _, agreement, kl) = quality(&engine, "all");
    assert!(agreement == 1.0 && kl.abs() < 1e-9, "{agreement} {kl}");
}

#[test]
fn the_active_share_is_told_by_layer() {
    let bench = bench();
    let engine = bench.default_engine();
    run(&engine, request(&engine, "plan", prompt(6, 0), 30));
    let status = engine.status();
    let plan = status.variants.iter().find(|variant| variant.name == "plan").unwrap();
    assert_eq!(plan.active_by_layer.len(), bench.model.config().layers.len());
    assert!((plan.active - 0.5).abs() < 0.02, "{}", plan.active);
    assert_eq!((plan.requests, plan.answer_tokens), (1, 30));
    assert_eq!(status.variants[0].active, 1.0);
}

#[test]
fn a_fault_fails_who_is_at_work_and_nobody_else() {
    let bench = bench();
    let engine = bench.default_engine();
    let dense = request(&engine, "dense", prompt(20, 1), 10);
    for _ in 0..3 {
        let heard = run(&engine, request(&engine, "broken", prompt(5, 2), 10));
        assert!(matches!(heard.failed, Some(Failure::Internal(_))), "{:?}", heard.failed);
        assert_eq!(run(&engine, dense.clone()).tokens[0], bench.alone(&engine, &dense, 0));
    }
    let status = engine.status();
    assert_eq!((status.totals.failed, status.load.running), (3, 0), "{:?}", status.totals);
}
