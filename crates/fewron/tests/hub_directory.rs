//! `hf:org/repo` where the repository is a directory of safetensors, from a hub on a local socket.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Run, fewron, fewron_with, fixture, serve};
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";
const SECOND: &str = "model-00002-of-00003.safetensors";

/// The files of a repository.
#[derive(Clone)]
struct Repository(BTreeMap<String, Vec<u8>>);

/// A hub that serves a repository and notes what it was asked for.
struct Hub {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Repository {
    /// A directory of the goldens, with files that no model needs.
    fn of(name: &str) -> Self {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(fixture(&format!("goldens/families/{name}"))).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read(path).unwrap());
        }
        Self(files)
            .with("README.md", b"words")
            .with("onnx/model.onnx", b"another kind")
            .with("original/consolidated.safetensors", b"another layout")
    }

    fn with(mut self, name: &str, bytes: &[u8]) -> Self {
        self.0.insert(name.to_owned(), bytes.to_vec());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.remove(name).unwrap();
        self
    }

    /// As the hub lists it: a hash for large files alone.
    fn listing(&self) -> Value {
        let file = |(name, bytes): (&String, &Vec<u8>)| {
            let mut file = json!({"type": "file", "path": name, "size": bytes.len()});
            if name.ends_with(".safetensors") {
                let sha256: String =
                    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                file["lfs"] = json!({"oid": sha256, "size": bytes.len()});
            }
            file
        };
        self.0.iter().map(file).collect()
    }

    fn serve(&self) -> Hub {
        self.serve_listed(&self.listing())
    }

    fn serve_listed(&self, listing: &Value) -> Hub {
        let (files, asked) = (self.0.clone(), Arc::new(Mutex::new(Vec::new())));
        let notes = Arc::clone(&asked);
        let address = serve(listing.to_string(), move |name| {
            notes.lock().unwrap().push(name.to_owned());
            files.get(name).cloned()
        });
        Hub { address, asked }
    }
}

impl Hub {
    fn pull(&self, home: &TempDir) -> Run {
        fewron_with(home.path(), &self.address, &["pull", "hf:org/repo", "--json"])
    }

    /// The files that were asked for, each once.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked.dedup();
        asked
    }
}

fn folder(home: &TempDir) -> PathBuf {
    home.path().join("models").join("org--repo")
}

/// The files of the cached folder, without locks and records of hashes.
fn cached(home: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder(home)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".lock") && !name.ends_with(".sha256"));
    names.sort();
    names
}

#[track_caller]
fn fails(run: &Run, part: &str) {
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
}

/// Every transfer breaks off half way and goes on; then the model runs without a network.
#[test]
fn a_directory_of_shards_comes_whole_and_works_offline() {
    let (repository, home) = (Repository::of("llama3-scaled"), TempDir::new().unwrap());
    let hub = repository.serve();
    let run = hub.pull(&home);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let pulled: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&pulled["name"], &pulled["path"]),
        (&json!("hf:org/repo"), &json!(folder(&home).to_str().unwrap()),)
    );
    let wanted = [
        "config.json",
        "generation_config.json",
        "model-00001-of-00003.safetensors",
        SECOND,
        "model-00003-of-00003.safetensors",
        INDEX,
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(hub.asked(), wanted);
    assert_eq!(hub.asked.lock().unwrap().last().unwrap(), "config.json");
    assert_eq!(cached(&home), wanted);
    for name in wanted {
        assert!(fs::read(folder(&home).join(name)).unwrap() == repository.0[name], "{name}");
    }

    let arguments = ["-p", "the rain", "-n", "4"];
    let run = fewron(home.path(), &[&["generate", "hf:org/repo"], &arguments[..]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let golden = fixture("goldens/families/llama3-scaled");
    let expected = fewron(home.path(), &[&["generate", &golden], &arguments[..]].concat());
    assert_eq!(run.stdout, expected.stdout);
    let facts = fewron(home.path(), &["inspect", "org--repo", "--json"]);
    let facts: Value = serde_json::from_str(&facts.stdout).unwrap();
    assert_eq!((&facts["weight_files"], &facts["sha256"]), (&json!(3), &pulled["sha256"]));
    let list = fewron(home.path(), &["models", "--json"]);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let listed = list.as_array().unwrap().iter().find(|m| m["name"] == "org--repo").unwrap();
    assert_eq!((&listed["cached"], &listed["size_bytes"]), (&json!(true), &pulled["size_bytes"]));
}

#[test]
fn one_weight_file_and_a_template() {
    let repository = Repository::of("qwen2").with("chat_template.jinja", b"{{ messages }}");
    let home = TempDir::new().unwrap();
    let hub = repository.serve();
    let arguments = ["generate", "hf:org/repo", "-p", "hi", "-n", "2"];
    let run = fewron_with(home.path(), &hub.address, &arguments);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(cached(&home).iter().any(|name| name == "chat_template.jinja"), "{:?}", cached(&home));
}

/// A shard that did not come leaves a folder that is no model; the next try fetches the rest.
#[test]
fn a_broken_pull_goes_on_where_it_stopped() {
    let (repository, home) = (Repository::of("llama3-scaled"), TempDir::new().unwrap());
    let broken = repository.clone().without(SECOND).serve_listed(&repository.listing());
    let run = broken.pull(&home);
    assert_eq!(run.code, 2);
    let error = run.stderr.lines().last().unwrap();
    assert!(error.contains(SECOND) && error.contains("answered 404"), "{error}");
    assert!(!folder(&home).join("config.json").exists());
    let run = fewron(home.path(), &["inspect", "hf:org/repo"]);
    fails(&run, "cannot list org/repo");

    let hub = repository.serve();
    assert_eq!(hub.pull(&home).code, 0);
    assert_eq!(hub.asked(), ["config.json", SECOND, "model-00003-of-00003.safetensors"]);
}

#[test]
fn a_damaged_shard_is_found_by_pull() {
    let (repository, home) = (Repository::of("llama3-scaled"), TempDir::new().unwrap());
    assert_eq!(repository.serve().pull(&home).code, 0);
    let shard = folder(&home).join(SECOND);
    let mut bytes = fs::read(&shard).unwrap();
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let hub = repository.serve();
    let run = hub.pull(&home);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("is damaged: downloading it again"), "{}", run.stderr);
    assert!(fs::read(shard).unwrap() == repository.0[SECOND]);
    assert!(hub.asked().iter().any(|name| name == SECOND));
}

#[test]
fn a_wrong_hash_is_refused() {
    let (repository, home) = (Repository::of("qwen2"), TempDir::new().unwrap());
    let mut listing = repository.listing();
    for file in listing.as_array_mut().unwrap() {
        if let Some(lfs) = file.get_mut("lfs") {
            lfs["oid"] = json!("0".repeat(64));
        }
    }
    fails(&repository.serve_listed(&listing).pull(&home), "the download has sha256 ");
    assert!(!cached(&home).iter().any(|name| name == "model.safetensors" || name == "config.json"));
}

/// An index cannot make fewron write or read anything but files of the repository beside it.
#[test]
fn an_index_that_points_elsewhere() {
    let elsewhere = [
        ("../../evil.safetensors", "only safetensors files beside it are downloaded"),
        ("/etc/passwd", "only safetensors files beside it are downloaded"),
        ("config.json", "only safetensors files beside it are downloaded"),
        (
            "other.safetensors",
            "org/repo has no other.safetensors, which model.safetensors.index.json",
        ),
    ];
    for (name, part) in elsewhere {
        let index = json!({"weight_map": {"t": name}}).to_string();
        let repository = Repository::of("llama3-scaled").with(INDEX, index.as_bytes());
        let home = TempDir::new().unwrap();
        fails(&repository.serve().pull(&home), part);
        assert!(!home.path().join("evil.safetensors").exists());
        assert!(!folder(&home).join("config.json").exists());
    }
    let repository = Repository::of("llama3-scaled").with(INDEX, b"{}");
    fails(
        &repository.serve().pull(&TempDir::new().unwrap()),
        "is damaged; remove it and pull again",
    );
}

#[test]
fn repositories_that_are_no_model() {
    let pull = |repository: Repository| {
        let home = TempDir::new().unwrap();
        let run = repository.serve().pull(&home);
        assert!(!Path::new(&folder(&home)).exists());
        run
    };
    let qwen = || Repository::of("qwen2");
    let pickle = qwen().without("model.safetensors").with("pytorch_model.bin", b"PK");
    fails(&pull(pickle), "org/repo has no safetensors, and pytorch_model.bin is a Python pickle; ");
    let nothing = qwen().without("model.safetensors");
    fails(&pull(nothing), "org/repo has no .gguf file and no model.safetensors; ");
    fails(&pull(qwen().without("config.json")), "has model.safetensors but no config.json; ");
    let no_tokenizer = pull(qwen().without("tokenizer.json"));
    fails(&no_tokenizer, "org/repo has no tokenizer.json; make a folder that has one with ");
}
