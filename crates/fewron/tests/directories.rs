//! Every command on the trained models that come with the source: by name, with an empty cache and
//! no network.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{FAMILIES, Run, fewron_env, fewron_stdin, fixture, trained};
use tempfile::TempDir;

fn home() -> TempDir {
    TempDir::new().unwrap()
}

/// On one thread: tests run side by side.
fn fewron(home: &Path, arguments: &[&str]) -> Run {
    support::fewron(home, &[arguments, &["--threads", "1"]].concat())
}

#[track_caller]
fn ok(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}", run.stderr);
    run
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Runs a command once for each family, with a folder for its results.
fn each_family(check: impl Fn(&str, &Path, &str)) {
    each_of(&FAMILIES, check);
}

fn each_of(names: &[&str], check: impl Fn(&str, &Path, &str)) {
    for name in names {
        let home = home();
        check(name, home.path(), home.path().join("out").to_str().unwrap());
    }
}

#[test]
fn pull_needs_no_download() {
    each_family(|name, home, _| {
        let run = ok(fewron(home, &["pull", name, "--json"]));
        let note = format!("{name} comes with fewron's source: there is nothing to download\n");
        assert_eq!(run.stderr, note);
        let pulled = json(&run.stdout);
        assert_eq!(pulled["path"], trained(name));
        let weights = Path::new(&trained(name)).join("model.safetensors");
        assert_eq!(pulled["size_bytes"], weights.metadata().unwrap().len());
        assert_eq!(pulled["sha256"].as_str().unwrap().len(), 64);
        assert!(!home.join("models").exists());
    });
}

/// Trained models answer with words; the name and the path of a directory mean the same.
#[test]
fn generate() {
    each_family(|name, home, _| {
        let arguments = |model| ["generate", model, "-p", "What is the sun?", "-n", "24"];
        let run = ok(fewron(home, &arguments(name)));
        assert_eq!(run.stderr, "");
        let words = run.stdout.split_whitespace();
        let known = words.filter(|word| ["the", "a", "is", "of", "that"].contains(word)).count();
        assert!(known >= 2, "{name}: {}", run.stdout);
        assert_eq!(ok(fewron(home, &arguments(&trained(name)))).stdout, run.stdout);
    });
}

#[test]
fn generate_quantised_in_memory_and_sparse() {
    each_family(|name, home, _| {
        let quantised = ["-p", "The sun is", "-n", "8", "--quantize", "q8_0"];
        assert!(
            !ok(fewron(home, &[&["generate", name], &quantised[..]].concat())).stdout.is_empty()
        );
        let policy = if gated(name) { "gate" } else { "prompt" };
        let sparse = ["-p", "The sun is", "-n", "8", "--policy", policy, "--sparsity", "0.3"];
        assert!(!ok(fewron(home, &[&["generate", name], &sparse[..]].concat())).stdout.is_empty());
    });
}

#[test]
fn chat() {
    each_family(|name, home, _| {
        let run = ok(fewron_stdin(home, &["chat", name, "-n", "8"], "What is the sun?\n"));
        assert!(run.stdout.trim().len() > 8, "{name}: {}", run.stdout);
    });
}

/// Trained models know their own kind of text better than chance (ln 2048 = 7.6 nats).
#[test]
fn score() {
    each_family(|name, home, _| {
        let text = home.join("text.txt");
        let prose = fs::read_to_string(fixture("text/prose.txt")).unwrap();
        fs::write(&text, prose.chars().take(600).collect::<String>()).unwrap();
        let arguments = ["score", name, "--text-file", text.to_str().unwrap(), "--json"];
        let score = json(&ok(fewron(home, &arguments)).stdout);
        assert_eq!(score["model"], name);
        let nll = score["nll"].as_f64().unwrap();
        assert!((2.0..6.0).contains(&nll), "{name}: {nll}");
    });
}

#[test]
fn sweep() {
    each_family(|name, home, out| {
        let small = ["--limit", "1", "--max-new-tokens", "4", "--ratios", ".5", "--out", out];
        let oracle = ["sweep", name, "--metrics", "cor-gxo,ig", "--scope", "both", "--json", "-"];
        let record = json(&ok(fewron(home, &[&oracle[..], &small].concat())).stdout);
        assert_eq!(record["model"]["name"], name);
        assert_eq!(record["points"].as_array().unwrap().len(), 2);
        assert!(record["points"][0]["actual"]["bytes"].as_f64().unwrap() > 0.3, "{name}");
    });
}

/// Whether a model's MLP has a gate.
fn gated(name: &str) -> bool {
    !["tiny-phi", "tiny-opt"].contains(&name)
}

/// Every policy that saves bytes says so; without a gate the gate policy is refused, and is no default.
#[test]
fn what_the_policies_skip() {
    each_of(&["tiny-phi", "tiny-opt", "tiny-mobillama", "tiny-gemma3"], |name, home, out| {
        let sweep = ["sweep", name, "--protocol", "runtime", "--ratios", ".5"];
        let small = ["--limit", "1", "--max-new-tokens", "4", "--out", out, "--json", "-"];
        let gate = fewron(home, &[&sweep[..], &["--policies", "gate"], &small].concat());
        assert_eq!(gate.code, if gated(name) { 0 } else { 2 }, "{name}: {}", gate.stderr);
        assert_eq!(gate.stderr.contains("use predict"), !gated(name), "{}", gate.stderr);
        let out = format!("{out}-all");
        let small = ["--limit", "1", "--max-new-tokens", "4", "--out", &out, "--json", "-"];
        let record = json(&ok(fewron(home, &[&sweep[..], &small].concat())).stdout);
        for point in record["points"].as_array().unwrap() {
            let actual = &point["actual"];
            assert!((actual["mlp"].as_f64().unwrap() - 0.5).abs() < 0.01, "{actual}");
            let saves = point["policy"] != "magnitude";
            assert_eq!(actual["bytes"].as_f64().unwrap() > 0.0, saves, "{name}: {point}");
        }
    });
}

#[test]
fn attribute() {
    each_family(|name, home, out| {
        let small = ["--limit", "1", "--max-new-tokens", "3", "--scope", "both", "--out", out];
        ok(fewron(home, &[&["attribute", name, "--metric", "cor-gxo"], &small[..]].concat()));
        let neurons = fs::read_to_string(Path::new(out).join("neurons.csv")).unwrap();
        let config =
            json(&fs::read_to_string(Path::new(&trained(name)).join("config.json")).unwrap());
        let number = |key: &str| config[key].as_u64();
        let neurons_per_layer = number("intermediate_size").or(number("ffn_dim")).unwrap();
        let units = neurons_per_layer + number("num_attention_heads").unwrap();
        let rows = neurons.lines().count() as u64 - 1;
        assert_eq!(rows, units * number("num_hidden_layers").unwrap(), "{name}");
    });
}

/// Without a gate, with one MLP for all layers, and of the usual kind: each run measures the memory,
/// which takes seconds.
#[test]
fn bench() {
    each_of(&["tiny-phi", "tiny-mobillama", "tiny-qwen3"], |name, home, _| {
        let arguments =
            ["--prefill", "0", "--kv", "0", "--decode", "2", "--repetitions", "1", "--json", "-"];
        let sparse = ["--policy", if gated(name) { "gate" } else { "prompt" }, "--sparsity", "0.5"];
        let run = ok(fewron(home, &[&["bench", name], &arguments[..], &sparse].concat()));
        let bench = json(&run.stdout);
        assert_eq!(bench["model"]["name"], name);
        let bytes = |index: usize| bench["results"][index]["bytes_per_token"].as_f64().unwrap();
        assert!(bytes(1) < bytes(0), "{name}: {} and {}", bytes(0), bytes(1));
    });
}

#[test]
fn demo() {
    each_family(|name, home, out| {
        let small = ["--limit", "1", "--max-new-tokens", "4", "--out", out];
        let run = ok(fewron(home, &[&["demo", "--model", name], &small[..]].concat()));
        assert!(run.stdout.starts_with(&format!("{name} answers 1 questions")), "{}", run.stdout);
        assert!(Path::new(out).join("report.html").is_file());
    });
}

#[test]
fn llama_cpp_takes_no_directories() {
    let run = fewron(home().path(), &["bench", "tiny-phi", "--vs-llama-cpp"]);
    assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.stderr);
    assert!(run.stderr.contains("with `fewron convert tiny-phi OUT.gguf`"), "{}", run.stderr);
}

#[test]
fn quantize_names_convert() {
    let (home, directory) = (home(), trained("tiny-phi"));
    for model in ["tiny-phi", directory.as_str()] {
        let run = fewron(home.path(), &["quantize", model, "out.gguf", "--type", "q8_0"]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        let expected = format!(
            "error: {directory} is a Hugging Face directory, and quantize reads GGUF files; write one \
             first with `fewron convert {model} OUT.gguf`\n"
        );
        assert_eq!(run.stderr, expected);
    }
}

/// A source that was moved away is named, with what to do; one at another place is found.
#[test]
fn a_source_that_is_gone() {
    let home = home();
    let gone = home.path().join("gone");
    let variables = [("FEWRON_SOURCE", gone.to_str().unwrap())];
    for command in [&["inspect", "tiny-phi"][..], &["pull", "tiny-phi"]] {
        let run = fewron_env(home.path(), &variables, command);
        assert_eq!(run.code, 2);
        let expected = format!(
            "error: tiny-phi comes with fewron's source, but there is no model in \
             {}/models/tiny/tiny-phi; set FEWRON_SOURCE to a copy of the source, or build fewron \
             again from one",
            gone.display()
        );
        assert_eq!(run.stderr.lines().last(), Some(expected.as_str()));
    }
    let list = fewron_env(home.path(), &variables, &["models", "--json"]);
    let list = json(&list.stdout);
    let tiny = list.as_array().unwrap().iter().find(|model| model["name"] == "tiny-phi").unwrap();
    assert_eq!((&tiny["with_source"], &tiny["path"]), (&Value::Bool(true), &Value::Null));

    let folder = gone.join("models").join("tiny").join("tiny-opt");
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(trained("tiny-opt")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let run = fewron_env(home.path(), &variables, &["inspect", "tiny-opt", "--json"]);
    let path = json(&run.stdout)["path"].as_str().unwrap().to_owned();
    assert_eq!(Path::new(&path).canonicalize().unwrap(), folder.canonicalize().unwrap());
}
