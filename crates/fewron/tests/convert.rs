//! `fewron convert`: directories in, files out, and what it refuses.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use fewron_model::gguf::Gguf;
use serde_json::{Value, json};
use support::{Run, fewron, fixture};

fn convert(home: &Path, input: &str, output: &str, more: &[&str]) -> Run {
    fewron(home, &[&["convert", input, output], more].concat())
}

fn trained(name: &str) -> String {
    fixture(&format!("../models/tiny/{name}"))
}

/// A copy of a trained model's directory, to damage.
fn copied(home: &Path, name: &str) -> PathBuf {
    let copy = home.join(name);
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(trained(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// Asserts that it refuses with one line and leaves nothing behind.
#[track_caller]
fn refused(home: &Path, run: &Run) -> String {
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    let left = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".part")).collect();
    assert!(left.is_empty(), "{left:?}");
    run.stderr.clone()
}

#[test]
fn the_file_says_what_the_directory_says() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("phi.gguf");
    let output = output.to_str().unwrap();
    let input = trained("tiny-phi");
    let run = convert(home.path(), &input, output, &[]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let types = run.stdout.split_once('\n').unwrap().1;
    assert_eq!(types, "  F16     38 tensors      5.0 MB\n  F32     51 tensors     51.7 kB\n");
    let say = |model: &str| fewron(home.path(), &["generate", model, "-p", "Hi", "-n", "8"]).stdout;
    assert!(!say(output).trim().is_empty());
    assert_eq!(say(output), say(&input));
    let gguf = Gguf::open(output.as_ref()).unwrap();
    let text = |key: &str| gguf.metadata().str(key).unwrap().to_owned();
    assert_eq!(
        (text("general.architecture"), text("general.name")),
        ("phi2".into(), "tiny-phi".into())
    );
    assert_eq!(
        (text("tokenizer.ggml.model"), text("tokenizer.ggml.pre")),
        ("gpt2".into(), "smollm".into())
    );
    assert_eq!(gguf.metadata().u32("general.file_type").unwrap(), 1);
    assert_eq!(gguf.metadata().u32("phi2.rope.dimension_count").unwrap(), 16);
}

#[test]
fn json_types_and_notes() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("mobillama.gguf");
    let output = output.to_str().unwrap();
    let input = trained("tiny-mobillama");
    let types = ["--type", "q8_0", "--output-type", "f16", "--embedding-type", "q4_0", "--json"];
    let run = convert(home.path(), &input, output, &types);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let facts: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&facts["type"], &facts["fallbacks"]), (&json!("Q8_0"), &json!(0)));
    assert_eq!((&facts["requantized"], &facts["notes"]), (&json!(0), &json!([])));
    assert_eq!(facts["input"]["path"], input);
    let weights = fs::metadata(Path::new(&input).join("model.safetensors")).unwrap().len();
    assert_eq!(facts["input"]["size_bytes"], weights);
    assert_eq!(facts["output"]["size_bytes"], fs::metadata(output).unwrap().len());
    let gguf = Gguf::open(output.as_ref()).unwrap();
    let of = |name| gguf.tensor_info(name).unwrap().type_name();
    assert_eq!(
        [
            of("output.weight"),
            of("token_embd.weight"),
            of("blk.7.ffn_up.weight"),
            of("output_norm.weight")
        ],
        ["F16", "Q4_0", "Q8_0", "F32"]
    );

    let output = home.path().join("gemma3.gguf");
    let output = output.to_str().unwrap();
    let input = trained("tiny-gemma3");
    let run = convert(home.path(), &input, output, &["--type", "q8_0", "--json"]);
    let facts: Value = serde_json::from_str(&run.stdout).unwrap();
    let note = "Q8_0 does not fit the rows of 36 matrices: they get F16";
    assert_eq!((facts["notes"].clone(), run.stderr), (json!([note]), format!("{note}\n")));
    let tied = convert(home.path(), &input, output, &["--force", "--embedding-type", "f32"]);
    assert!(refused(home.path(), &tied).contains("say --output-type instead"));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let home = tempfile::tempdir().unwrap();
    let copy = copied(home.path(), "tiny-qwen3");
    let (copy, weights) = (copy.to_str().unwrap(), copy.join("model.safetensors"));
    let before = fs::read(&weights).unwrap();
    let over = convert(home.path(), copy, weights.to_str().unwrap(), &["--force"]);
    assert!(refused(home.path(), &over).contains("is the file that is read; name another one"));
    assert!(fs::read(&weights).unwrap() == before);
    let output = home.path().join("out.gguf");
    fs::write(&output, "old").unwrap();
    let output = output.to_str().unwrap();
    let error = refused(home.path(), &convert(home.path(), copy, output, &[]));
    assert!(error.contains("is there already; name another file, or add --force"), "{error}");
    assert_eq!(fs::read(output).unwrap(), b"old");
    assert_eq!(convert(home.path(), copy, output, &["--force"]).code, 0);
    let again = convert(home.path(), output, "again.gguf", &[]);
    let error = refused(home.path(), &again);
    assert!(error.contains("is a GGUF file already; `fewron quantize` writes it"), "{error}");
}

#[test]
fn what_cannot_be_done_is_named() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("out.gguf");
    let output = output.to_str().unwrap();
    let opt = refused(home.path(), &convert(home.path(), &trained("tiny-opt"), output, &[]));
    assert!(opt.contains("tiny-opt: GGUF has no architecture for opt models"), "{opt}");

    let nowhere = home.path().join("no/out.gguf");
    let run = convert(home.path(), &trained("tiny-phi"), nowhere.to_str().unwrap(), &[]);
    assert!(refused(home.path(), &run).contains("there is no folder "));
    let folder = convert(home.path(), &trained("tiny-phi"), home.path().to_str().unwrap(), &[]);
    assert!(refused(home.path(), &folder).contains("is a folder; name a file in it"));

    let copy = copied(home.path(), "tiny-llama");
    let change = |file: &str, key: &str, value: Value| {
        let path = copy.join(file);
        let mut map: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        map[key] = value;
        fs::write(path, map.to_string()).unwrap();
    };
    let copy_name = copy.to_str().unwrap();
    change("config.json", "hidden_act", json!("gelu_new"));
    let act = refused(home.path(), &convert(home.path(), copy_name, output, &[]));
    assert!(
        act.contains("hidden_act is gelu_new, but the GGUF architecture llama always"),
        "{act}"
    );
    change("config.json", "hidden_act", json!("silu"));
    change("tokenizer.json", "normalizer", json!({"type": "Lowercase"}));
    let lower = refused(home.path(), &convert(home.path(), copy_name, output, &[]));
    assert!(lower.contains(r#"has the normalizer {"type":"Lowercase"}, which GGUF"#), "{lower}");
    change("tokenizer.json", "normalizer", json!({"type": "NFC"}));
    let composed = convert(home.path(), copy_name, output, &[]);
    assert!(composed.code == 0 && composed.stderr.contains("(NFC)"), "{}", composed.stderr);
    fs::remove_file(copy.join("tokenizer.json")).unwrap();
    let none = refused(home.path(), &convert(home.path(), copy_name, output, &["--force"]));
    assert!(none.contains("there is no tokenizer.json; make it with"), "{none}");
}
