//! Model files.

use crate::source;
use fewron_model::chat::ChatTemplate;
use fewron_model::gguf::Gguf;
use fewron_model::hf::HfDirectory;
use fewron_model::tokenizer::{Specials, Tokenizer};
use fewron_model::{Logits, Model, ModelError, Pool, Session, Source};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A text with words, spaces, digits, marks, scripts, and what looks like control tokens.
const TEXT: &str = "Hello  world, 12345! Ünïcödé 日本語 🙂\n\t<s>[INST]<|im_end|> a\u{300}";

/// Layers and vocabulary beyond which a model is not run: that takes long, and finds nothing.
const SMALL: usize = 4096;

/// A GGUF file.
pub(crate) fn gguf(bytes: &[u8]) {
    let Ok(gguf) = Gguf::from_bytes("fuzz.gguf", bytes) else { return };
    for key in gguf.metadata().keys() {
        let _ = gguf.metadata().field(key);
    }
    for tensor in gguf.tensors() {
        let _ = (gguf.tensor(&tensor.name), tensor.type_name());
    }
    if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
        read_and_write(&tokenizer);
        let _ = ChatTemplate::from_gguf(&gguf, &tokenizer);
    }
    run(Model::from_gguf(gguf));
}

/// Reads a text and writes it again.
fn read_and_write(tokenizer: &Tokenizer) {
    for specials in [Specials::Plain, Specials::Parse] {
        let ids = tokenizer.encode(TEXT, specials);
        let _ = tokenizer.decode(&ids, false);
    }
    let mut decoder = tokenizer.decoder(true);
    for id in (0..20).chain([u32::MAX]) {
        decoder.push(id);
    }
    decoder.finish();
}

/// Runs two tokens through a model, if it is one.
fn run(model: Result<Model, ModelError>) {
    let Ok(model) = model else { return };
    let config = model.config();
    if config.layers.len() < SMALL && config.vocab < 1 << 20 && config.context > 1 {
        let mut session = Session::new(Arc::new(model), Arc::new(Pool::new(1)));
        let _ = session.forward(&[0, 1], None, None, Logits::Last);
    }
}

/// Weights in safetensors, beside the configuration of a tiny model.
pub(crate) fn safetensors(bytes: &[u8]) {
    with_directory("model.safetensors", bytes, |folder| {
        if let Ok(directory) = HfDirectory::open(folder) {
            run(Model::from_source(Source::HuggingFace(directory)));
        }
    });
}

/// A configuration, beside the weights of a tiny model.
pub(crate) fn config(bytes: &[u8]) {
    with_directory("config.json", bytes, |folder| {
        if let Ok(directory) = HfDirectory::open(folder) {
            let _ = directory.model_config();
            run(Model::from_source(Source::HuggingFace(directory)));
        }
    });
}

/// A tokenizer.json.
pub(crate) fn tokenizer(bytes: &[u8]) {
    with_directory("tokenizer.json", bytes, |folder| {
        let Ok(directory) = HfDirectory::open(folder) else { return };
        if let Ok(tokenizer) = Tokenizer::from_hf(&directory) {
            read_and_write(&tokenizer);
            let _ = ChatTemplate::from_hf(&directory, &tokenizer);
        }
    });
}

/// Calls `read` with the directory of a tiny model, of which one file has these bytes.
fn with_directory(file: &str, bytes: &[u8], read: impl Fn(&Path)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tiny = source("models/tiny/tiny-llama");
    for entry in fs::read_dir(tiny).expect("the tiny models").flatten() {
        if entry.file_name() != file {
            link(&entry.path(), &folder.path().join(entry.file_name()));
        }
    }
    fs::write(folder.path().join(file), bytes).expect("a place for the file");
    read(folder.path());
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) {
    std::os::unix::fs::symlink(from, to).expect("a link to a file of the tiny model");
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) {
    fs::copy(from, to).expect("a copy of a file of the tiny model");
}
