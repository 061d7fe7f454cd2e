//! Against the `tokenizers` package for Python (`fixtures/goldens/part_tokenizer_json.py`), and what
//! the files beside `tokenizer.json` say.

mod damage;
mod settings;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::tokenizer::Specials;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/goldens")
}

/// A small model with this `tokenizer.json` and nothing else that concerns text.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(tokenizer: &str) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        for file in ["config.json", "model.safetensors"] {
            let from = goldens().join("families/qwen2").join(file);
            std::fs::copy(from, folder.0.path().join(file)).unwrap();
        }
        folder.change("config.json", |config| {
            config.as_object_mut().unwrap().remove("eos_token_id");
        });
        folder.write(FILE, tokenizer)
    }

    /// One of the made tokenizers of the goldens.
    fn made(name: &str) -> Self {
        let file = goldens().join("tokenizers").join(format!("{name}.json"));
        Self::new(&std::fs::read_to_string(file).unwrap())
    }

    fn write(self, file: &str, text: &str) -> Self {
        std::fs::write(self.0.path().join(file), text).unwrap();
        self
    }

    fn json(self, file: &str, value: &Value) -> Self {
        self.write(file, &value.to_string())
    }

    fn change(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let path = self.0.path().join(file);
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    }

    fn directory(&self) -> HfDirectory {
        HfDirectory::open(self.0.path()).unwrap()
    }

    fn tokenizer(&self) -> Tokenizer {
        Tokenizer::from_hf(&self.directory()).unwrap()
    }

    fn error(&self) -> String {
        Tokenizer::from_hf(&self.directory()).expect_err("a bad tokenizer was taken").to_string()
    }
}

/// The tokenizer of a golden: a made one, or that of a model directory.
fn golden(name: &str) -> Tokenizer {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let models = repository.join("models/tiny").join(name);
    let families = goldens().join("families").join(name);
    match [models, families].into_iter().find(|folder| folder.join(FILE).exists()) {
        Some(folder) => Tokenizer::from_hf(&HfDirectory::open(&folder).unwrap()).unwrap(),
        None => Folder::made(name).tokenizer(),
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Every text of every golden: its ids, what is put before it, and the text that the ids give back.
#[test]
fn ids_and_texts_are_those_of_the_tokenizers_package() {
    let file = std::fs::read(goldens().join("tokenizer_json.json")).unwrap();
    let all: Value = serde_json::from_slice(&file).unwrap();
    let all = all.as_object().unwrap();
    assert_eq!(all.len(), 12);
    let mut wrong = Vec::new();
    for (name, records) in all {
        let tokenizer = golden(name);
        for record in records.as_array().unwrap() {
            let (text, expected) = (record["text"].as_str().unwrap(), ids(&record["ids"]));
            let found = tokenizer.encode(text, Specials::Parse);
            if found != expected {
                wrong.push(format!("{name}: {text:?}: {found:?}, expected {expected:?}"));
            }
            let decoded = record.get("decoded").map_or(text, |decoded| decoded.as_str().unwrap());
            let found = tokenizer.decode(&expected, false);
            if found != decoded {
                wrong.push(format!("{name}: decoded {found:?}, expected {decoded:?}"));
            }
            if tokenizer.prefix != ids(&record["prefix"]) {
                wrong.push(format!("{name}: prefix {:?}", tokenizer.prefix));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
