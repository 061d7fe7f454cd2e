//! Model files that are damaged or of a kind fewron does not have: exit code 2, one line that names
//! the thing and a way out, no panic.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;

use fewron_model::gguf::{Array, Field, Gguf, Value, ValueType, Writer};
use support::{fewron, tiny};

/// Changes of a sound file while it is copied.
#[derive(Default)]
struct Changes {
    without_key: Option<&'static str>,
    without_tensor: Option<&'static str>,
    text: Option<(&'static str, &'static str)>,
    type_of: Option<(&'static str, u32)>,
    more_tokens: usize,
}

impl Changes {
    fn apply(&self) -> Vec<u8> {
        let gguf = Gguf::open(tiny("tiny-llama").as_ref()).unwrap();
        let meta = gguf.metadata();
        let mut writer = Writer::new();
        for key in meta.keys().filter(|&key| Some(key) != self.without_key) {
            let mut field = field(meta.value(key).unwrap().unwrap());
            match (&mut field, key) {
                (Field::Str(text), key) if self.text.is_some_and(|(k, _)| k == key) => {
                    *text = self.text.unwrap().1.to_owned();
                }
                (Field::Strs(tokens), "tokenizer.ggml.tokens") => {
                    tokens.extend((0..self.more_tokens).map(|n| format!("<more{n}>")));
                }
                (Field::I32s(types), "tokenizer.ggml.token_type") => {
                    types.extend(vec![1; self.more_tokens]);
                }
                _ => {}
            }
            writer = writer.field(key, field);
        }
        let wanted = gguf.tensors().filter(|t| Some(t.name.as_str()) != self.without_tensor);
        for tensor in wanted {
            let shape: Vec<u64> = tensor.shape.iter().map(|&e| e as u64).collect();
            let changed = self.type_of.filter(|(name, _)| *name == tensor.name);
            let ggml_type = changed.map_or(tensor.ggml_type, |(_, ggml_type)| ggml_type);
            let data = gguf.tensor(&tensor.name).unwrap().data.to_vec();
            writer = writer.tensor(&tensor.name, ggml_type, &shape, data);
        }
        writer.to_bytes()
    }
}

fn field(value: Value) -> Field {
    match value {
        Value::Uint(v) => Field::U64(v),
        Value::Int(v) => Field::I32(v as i32),
        Value::Float(v) => Field::F32(v as f32),
        Value::Bool(v) => Field::Bool(v),
        Value::Str(v) => Field::Str(v.to_owned()),
        Value::Array(v) => array(v),
    }
}

fn array(values: Array) -> Field {
    let strings = values.iter().filter_map(|v| match v {
        Value::Str(text) => Some(text.to_owned()),
        _ => None,
    });
    let numbers = values.iter().filter_map(|v| v.as_integer().map(|n| n as i32));
    match values.value_type() {
        ValueType::Str => Field::Strs(strings.collect()),
        ValueType::I32 | ValueType::U32 => Field::I32s(numbers.collect()),
        other => panic!("no tiny file has an array of {other:?}"),
    }
}

/// The error of every command that opens a model, which must be the same line.
fn error(bytes: &[u8]) -> String {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bad.gguf");
    fs::write(&file, bytes).unwrap();
    let model = file.to_str().unwrap();
    let text = support::fixture("text/prose.txt");
    let commands: [&[&str]; 4] = [
        &["inspect", model],
        &["generate", model, "-p", "Hi"],
        &["chat", model],
        &["score", model, "--text-file", &text],
    ];
    let mut errors = commands.map(|arguments| {
        let run = fewron(home.path(), arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        let start = format!("error: {model}: ");
        run.stderr.trim_end().strip_prefix(&start).expect("names the file").to_owned()
    });
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    std::mem::take(&mut errors[0])
}

#[test]
fn not_a_gguf_file() {
    assert!(
        error(b"PK\x03\x04 some archive").contains("it starts with [50, 4b, 03, 04], not with")
    );
    assert!(error(b"").contains("is not a GGUF file"));
}

#[test]
fn cut_off() {
    let whole = Changes::default().apply();
    for len in [whole.len() - 100, whole.len() / 2, 4000, 50] {
        let error = error(&whole[..len]);
        assert!(error.contains("download it again with `fewron pull`"), "{len}: {error}");
    }
}

#[test]
fn unknown_architecture() {
    let text = Some(("general.architecture", "mamba"));
    let error = error(&Changes { text, ..Changes::default() }.apply());
    assert_eq!(
        error,
        "general.architecture is \"mamba\", which fewron does not have (it has: llama, gemma3, phi2, \
         qwen2, qwen3); `fewron models` lists models that work"
    );
}

#[test]
fn missing_tensor() {
    let without_tensor = Some("blk.1.ffn_up.weight");
    let error = error(&Changes { without_tensor, ..Changes::default() }.apply());
    assert!(error.starts_with("the model has no tensor blk.1.ffn_up.weight; it is incomplete"));
    assert!(error.ends_with("`fewron models` lists models that work"), "{error}");
}

#[test]
fn unknown_quantisation() {
    let type_of = Some(("blk.0.attn_q.weight", 16));
    let error = error(&Changes { type_of, ..Changes::default() }.apply());
    assert!(error.starts_with("tensor blk.0.attn_q.weight has type IQ2_XXS, which"), "{error}");
    assert!(error.contains("use a file with F32, F16,"), "{error}");
}

#[test]
fn no_merges() {
    let without_key = Some("tokenizer.ggml.merges");
    let error = error(&Changes { without_key, ..Changes::default() }.apply());
    assert_eq!(
        error,
        "the file has no tokenizer.ggml.merges, so text cannot be turned into tokens; use a \
         complete model file"
    );
}

#[test]
fn more_tokens_than_embeddings() {
    let error = error(&Changes { more_tokens: 2, ..Changes::default() }.apply());
    assert!(
        error.starts_with("the tokenizer has 302 tokens, but the model has embeddings for 300")
    );
}

#[test]
fn a_template_that_cannot_be_used_matters_where_it_is_used() {
    let text = Some(("tokenizer.chat_template", "{% for %}"));
    let bytes = Changes { text, ..Changes::default() }.apply();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bad.gguf");
    fs::write(&file, bytes).unwrap();
    let model = file.to_str().unwrap();
    let run = fewron(home.path(), &["generate", model, "-p", "Hi"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("use `--raw` to send text without it"), "{}", run.stderr);
    assert_eq!(fewron(home.path(), &["generate", model, "-p", "Hi", "--raw", "-n", "3"]).code, 0);
    let run = fewron(home.path(), &["inspect", model]);
    assert!(run.stdout.contains("the model's chat template cannot be used: "));
}

#[test]
fn no_template_is_said_once() {
    let without_key = Some("tokenizer.chat_template");
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("base.gguf");
    fs::write(&file, Changes { without_key, ..Changes::default() }.apply()).unwrap();
    let model = file.to_str().unwrap();
    let run = fewron(home.path(), &["generate", model, "-p", "Hi", "-n", "3"]);
    assert_eq!(run.stderr, "base.gguf has no chat template: it gets the text as it is\n");
    let raw = fewron(home.path(), &["generate", model, "-p", "Hi", "-n", "3", "--raw"]);
    assert_eq!((raw.stderr.as_str(), &raw.stdout), ("", &run.stdout));
}
