//! Tasks on a tiny random model: what must hold whatever the numbers are.

mod laws;
mod records;
mod samples;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fewron_model::gguf::Gguf;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{Changes, LoadOptions, MaskSource, Model, Source};
use fewron_sparsity::{Calibration, Plan, Policy, PolicyKind, Scope, Selection};

use super::*;

fn tiny() -> (Arc<Model>, Tokenizer) {
    load(Changes::default())
}

/// The same model with another norm, so that all of its keys and values are others.
fn changed() -> Arc<Model> {
    let norm = (0..48).map(|at| 0.2 + at as f32 / 16.0).collect();
    let vectors = HashMap::from([("blk.0.attn_norm.weight".to_owned(), norm)]);
    load(Changes { vectors, ..Changes::default() }).0
}

fn load(changes: Changes) -> (Arc<Model>, Tokenizer) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/goldens/tiny/tiny-llama.gguf");
    let gguf = Gguf::open(&path).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let options = LoadOptions { changes, ..LoadOptions::default() };
    let model = Model::load(Source::Gguf(gguf), &options, &mut |_, _| {}).unwrap();
    (Arc::new(model), tokenizer)
}

/// The gate policy at a ratio.
struct Gate {
    name: String,
    plan: Plan,
}

impl Gate {
    fn new(model: &Model, ratio: f32) -> Self {
        let config = model.config();
        let (layers, neurons) = (config.layers.len(), config.intermediate);
        let gate_weights = vec![vec![1.0; neurons]; layers];
        let calibration = Calibration { gate_weights, ..Calibration::default() };
        let (kind, scope, select) = (PolicyKind::Gate, Scope::Mlp, Selection::Layer);
        let plan = Plan::uniform(config, kind, scope, select, ratio, &calibration).unwrap();
        Self { name: format!("gate@{ratio}"), plan }
    }
}

impl Variant for Gate {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&self) -> Result<Option<Box<dyn VariantMask + '_>>, VariantError> {
        Ok(Some(Box::new(Started(Policy::new(&self.plan)))))
    }
}

struct Started<'a>(Policy<&'a Plan>);

impl VariantMask for Started<'_> {
    fn sees_prompt(&self) -> bool {
        false
    }

    fn masks(&mut self) -> &mut dyn MaskSource {
        &mut self.0
    }
}

/// Runs a task on the tiny model.
fn run(task: &Task, variants: &[&dyn Variant], threads: usize) -> Result<TaskRecord, EvalError> {
    run_on(tiny().0, task, variants, threads)
}

/// Runs a task with this model as the dense one.
fn run_on(
    model: Arc<Model>,
    task: &Task,
    variants: &[&dyn Variant],
    threads: usize,
) -> Result<TaskRecord, EvalError> {
    let (_, tokenizer) = tiny();
    let stop = AtomicBool::new(false);
    let progress = |_: u64, _: u64| {};
    let (tokenizer, progress, stop) = (&tokenizer, &progress, &stop);
    let journal = None;
    Eval { model, tokenizer, chat: None, variants, threads, seed: 3, progress, journal, stop }
        .run(task)
}

/// A task on a file with this content, from a definition with this content or a built-in one.
fn task(definition: &str, name: &str, data: &str) -> Result<Task, TaskError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, data).unwrap();
    let own = folder.path().join("own.toml");
    let spec = if definition.contains('=') {
        std::fs::write(&own, definition).unwrap();
        own.to_str().unwrap()
    } else {
        definition
    };
    Task::load(spec, &file, None)
}

const ARC: &str = r#"{"id": "a", "query": "Question: What is wet?", "choices": ["a fish", "water", "sand and stone"], "gold": 1}

{"question": "What is hot?", "choices": {"text": ["ice", "fire"], "label": ["A", "B"]}, "answerKey": "B"}
{"query": "Question: Who sings?", "choices": ["a bird", "a bird in a tree", "a big stone"], "gold": "0"}
"#;

const SUMS: &str = r#"[{"question": "1+1?", "answer": "so #### 2"}, {"question": "2+1?",
"answer": "so #### 3"}, {"question": "3+1?", "answer": "so #### 4"}]"#;

const SHORT_SUMS: &str = r#"kind = "generate"
prompt = "Q: {{ question }}\nA:"
target = " {{ answer }}"
references = "[answer.split('####')[1]]"
few_shot = 1
max_new_tokens = 12
metrics = ["exact_match", "bleu", "bleu_dense"]
"#;

/// One task of each kind.
fn tasks() -> Vec<Task> {
    vec![
        task("perplexity", "text.txt", &crate::data::CALIBRATION_TEXT[..1500]).unwrap(),
        task("arc_easy", "arc.jsonl", ARC).unwrap(),
        task(SHORT_SUMS, "sums.json", SUMS).unwrap(),
    ]
}
