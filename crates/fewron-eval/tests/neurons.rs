//! Neuron analytics on tiny random-weight models: what must hold whatever the numbers are.

use fewron_eval::neurons::record::{Kind, NeuronRun};
use fewron_eval::neurons::{
    Cards, NeuronConfig, NeuronError, NeuronResult, NeuronStudy, Runtime, chance_jaccard,
};
use fewron_eval::record::{DataRecord, ModelRecord, Settings};
use fewron_eval::sweep::{Prompt, Text};
use fewron_model::gguf::Gguf;
use fewron_model::hf::HfDirectory;
use fewron_model::{Model, Pool, Session, Source};
use fewron_sparsity::selection::kept_count;
use fewron_sparsity::{Calibration, Metric, Plan, PolicyKind, Scope, Selection};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

struct Numbers;

impl Text for Numbers {
    fn decode(&self, tokens: &[u32]) -> String {
        tokens.iter().map(|t| format!(" w{t}")).collect()
    }

    fn is_end(&self, _: u32) -> bool {
        false
    }
}

fn gguf(name: &str) -> Arc<Model> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/goldens/tiny").join(name);
    Arc::new(Model::from_gguf(Gguf::open(&path).unwrap()).unwrap())
}

fn llama() -> Arc<Model> {
    gguf("tiny-llama.gguf")
}

/// A model without a gate.
fn phi() -> Arc<Model> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tiny-phi");
    let source = Source::HuggingFace(HfDirectory::open(&path).unwrap());
    Arc::new(Model::from_source(source).unwrap())
}

fn config() -> NeuronConfig {
    NeuronConfig {
        metrics: vec![Metric::CorGxo, Metric::Magnitude],
        ratio: 0.8,
        scope: Scope::Both,
        selection: Selection::Layer,
        correction: 0.5,
        ig_steps: 4,
        max_new_tokens: 6,
        seed: 7,
        cards: Cards::Highlights,
    }
}

fn settings() -> Settings {
    Settings {
        version: "test".into(),
        command: "test".into(),
        scope: "both".into(),
        selection: "layer".into(),
        correction: 0.5,
        ig_steps: 4,
        max_new_tokens: 6,
        raw: true,
        cpu: "test".into(),
        threads: 1,
        wall_s: 0.0,
        finished_at: "2026-01-01T00:00:00Z".into(),
    }
}

struct Ask {
    model: Arc<Model>,
    config: NeuronConfig,
    runtime: Option<Runtime>,
    threads: usize,
    stop_after: u64,
}

impl Ask {
    fn new(config: NeuronConfig) -> Self {
        Self { model: llama(), config, runtime: None, threads: 2, stop_after: u64::MAX }
    }

    /// Runs 14 questions of two categories, and one without.
    fn run(self) -> Result<NeuronResult, NeuronError> {
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let category = |i: u32| (i < 14).then(|| ["odd", "even"][i as usize % 2].to_owned());
        NeuronStudy {
            model: self.model,
            config: self.config,
            model_record: ModelRecord {
                name: "tiny".into(),
                sha256: "00".into(),
                arch: "llama".into(),
                parameters: 1,
            },
            data: DataRecord { name: "test".into(), sha256: "11".into(), samples: 15, tokens: 0 },
            prompts: (0..15)
                .map(|i| Prompt { question: format!("q{i}"), tokens: vec![5 + i, 40, 41 + i, 9] })
                .collect(),
            categories: (0..15).map(category).collect(),
            text: &Numbers,
            runtime: self.runtime,
            threads: self.threads,
            progress: &|_| {
                if done.fetch_add(1, Ordering::Relaxed) >= self.stop_after {
                    stop.store(true, Ordering::Relaxed);
                }
            },
            stop: &stop,
        }
        .run(settings())
    }
}

fn json(run: &NeuronRun) -> String {
    let mut run = run.clone();
    run.settings.wall_s = 0.0;
    serde_json::to_string(&run).unwrap()
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads| Ask { threads, ..Ask::new(config()) }.run().unwrap();
    let (one, three) = (run(1), run(3));
    assert_eq!(json(&one.run), json(&three.run));
    for (a, b) in one.units.iter().zip(&three.units) {
        assert_eq!((&a.kept, &a.by_category, &a.scores), (&b.kept, &b.by_category, &b.scores));
    }
}

#[test]
fn counts_add_up() {
    let NeuronResult { run, units } = Ask::new(config()).run().unwrap();
    // Five of six tokens are masked.
    assert_eq!((run.data.samples, run.data.tokens), (15, 15 * 5));
    assert_eq!((run.stored.answers, run.stored.tokens), (15, 75));
    assert_eq!(run.categories.iter().map(|c| c.tokens).sum::<u64>(), 14 * 5);
    assert_eq!(units.len(), 4);
    for counted in &units {
        let count = kept_count(counted.units, 0.8) as u32;
        for layer in counted.kept.chunks_exact(counted.units) {
            assert_eq!(
                layer.iter().sum::<u32>(),
                count * 75,
                "{} {:?}",
                counted.name,
                counted.kind
            );
        }
        let rows = counted.by_category.iter().map(|row| row.iter().sum::<u32>());
        assert_eq!(rows.sum::<u32>() as usize, 70 * count as usize * run.layers);
    }
    for mask in &run.masks {
        assert_eq!((mask.mlp.len(), mask.heads.len()), (run.layers, run.layers));
        let share = mask.layers.iter().map(|layer| layer.score.unwrap().share).sum::<f64>();
        assert!((share - 1.0).abs() < 1e-9, "{share}");
        for layer in mask.layers.iter().filter(|layer| layer.kind == Kind::Mlp) {
            let kept = kept_count(run.neurons, 0.8);
            assert!((layer.kept - kept as f64 / run.neurons as f64).abs() < 1e-9);
            let chance = chance_jaccard(run.neurons, kept, kept).unwrap();
            assert!((layer.stability.chance.unwrap() - chance).abs() < 1e-9);
            assert_eq!((layer.stability.pairs, layer.between.pairs), (15 * 4, 14 * 5));
        }
        assert_eq!(mask.specificity.len(), 4, "two categories, two kinds");
    }
    assert_eq!(run.overlap.len(), 2);
}

#[test]
fn magnitude_and_its_policy_keep_the_same_first_layer() {
    let model = llama();
    let plan = Plan::uniform(
        model.config(),
        PolicyKind::Magnitude,
        Scope::Mlp,
        Selection::Layer,
        0.8,
        &Calibration::default(),
    )
    .unwrap();
    let runtime = Some(Runtime { name: "magnitude policy".into(), plan });
    let config = NeuronConfig { metrics: vec![Metric::Magnitude], scope: Scope::Mlp, ..config() };
    let run = Ask { runtime, ..Ask::new(config) }.run().unwrap().run;
    let protocols: Vec<&str> = run.masks.iter().map(|m| m.protocol.as_str()).collect();
    assert_eq!(protocols, ["oracle", "runtime"]);
    // The first layer reads the same text in both runs; later ones read what the mask left.
    assert_eq!(run.overlap[0].layers[0].jaccard, Some(1.0));
    assert!(run.overlap[0].layers[1].jaccard.unwrap() < 1.0);
    assert!(run.masks[1].layers.iter().all(|layer| layer.score.is_none()));
}

#[test]
fn cards_tell_of_contexts_and_tokens() {
    for model in [llama(), phi()] {
        let config = NeuronConfig { cards: Cards::Layer(1, 3), scope: Scope::Mlp, ..config() };
        let run = Ask { model, ..Ask::new(config) }.run().unwrap().run;
        assert_eq!(run.cards.len(), 3);
        let scores: Vec<f64> = run.cards.iter().map(|c| c.masks[0].score.unwrap()).collect();
        assert!(scores.windows(2).all(|w| w[0] >= w[1]), "{scores:?}");
        for card in &run.cards {
            assert_eq!((card.layer, card.contexts.len()), (1, 5));
            let sizes: Vec<f64> = card.contexts.iter().map(|c| c.output.abs()).collect();
            assert!(sizes.windows(2).all(|w| w[0] >= w[1]) && sizes[0] >= card.output_abs);
            assert!(card.contexts.iter().all(|c| c.token.starts_with(" w")));
            let weights: Vec<f32> = card.promoted.iter().map(|t| t.weight).collect();
            assert!(weights.windows(2).all(|w| w[0] >= w[1]) && weights.len() == 10);
            assert!(card.suppressed[0].weight <= card.suppressed[9].weight);
        }
    }
}

/// Where the head is the embedding, the products of a direction with it are those with the embeddings.
#[test]
fn the_vocabulary_of_a_direction_is_its_product_with_the_head() {
    let models = [llama(), gguf("tiny-gemma3.gguf"), gguf("tiny-llama-odd.gguf")];
    let tied: Vec<_> = models.into_iter().filter(|model| !model.config().untied_head).collect();
    assert!(!tied.is_empty());
    for model in tied {
        let config = model.config();
        let directions: Vec<f32> = (0..2 * config.hidden).map(|i| (i as f32 * 0.7).sin()).collect();
        let products = model.vocabulary_of(&directions);
        assert_eq!(products.len(), 2 * config.vocab);
        let mut session = Session::new(Arc::clone(&model), Arc::new(Pool::new(1)));
        for token in [0, 7, config.vocab - 1] {
            let embedding = session.embed(&[token as u32]).unwrap();
            for (n, direction) in directions.chunks_exact(config.hidden).enumerate() {
                let product: f32 = embedding.iter().zip(direction).map(|(e, d)| e * d).sum();
                let expected = product / config.embedding_scale;
                let got = products[n * config.vocab + token];
                assert!((got - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{got} {expected}");
            }
        }
    }
}

#[test]
fn an_interrupted_run_says_so() {
    let result = Ask { stop_after: 3, threads: 1, ..Ask::new(config()) }.run();
    match result.err() {
        Some(NeuronError::Interrupted { done, total: 15 }) => assert!((4..15).contains(&done)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_exist_is_refused() {
    let asked =
        |cards| Ask::new(NeuronConfig { cards, ..config() }).run().err().unwrap().to_string();
    assert!(asked(Cards::Layer(99, 1)).starts_with("there is no layer 99: the model has "));
    assert!(asked(Cards::Neuron(0, 9999)).starts_with("there is no neuron 9999: the model has "));
    let short = Ask::new(NeuronConfig { max_new_tokens: 1, ..config() }).run().err().unwrap();
    assert!(matches!(short, NeuronError::NothingMasked));
}
