//! `fewron bench` on a tiny model, with a stand-in for llama.cpp.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{Run, fewron, fewron_env, tiny};

/// Few and short runs, at two KV lengths that fit and one that does not.
const SMALL: [&str; 8] =
    ["--prefill", "5", "--kv", "0,3,126", "--decode", "4", "--repetitions", "3"];

/// What is said of the KV length that does not fit.
const LEFT_OUT: &str = "decoding 4 tokens after 126 left out: the context holds 128 tokens\n";

/// Stderr without the lines that tell the progress of a slow run.
fn said(run: &Run) -> String {
    run.stderr.split_inclusive('\n').filter(|line| !line.starts_with("bench: ")).collect()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

/// Three positive repetitions whose summary lies among them.
fn assert_speed(speed: &Value) {
    let tok_s = numbers(&speed["tok_s"]);
    assert!(tok_s.len() == 3 && tok_s.iter().all(|&t| t.is_finite() && t > 0.0), "{speed}");
    for name in ["median", "min", "max"] {
        assert!(tok_s.contains(&speed[name].as_f64().unwrap()), "{name} in {speed}");
    }
    assert!(speed["mad"].as_f64().unwrap() >= 0.0);
    assert!(speed["ratio_to_dense"].as_f64().unwrap() > 0.0, "{speed}");
}

#[test]
fn json_has_every_variant() {
    let home = tempfile::tempdir().unwrap();
    let markdown = home.path().join("bench.md");
    let masks = ["--random", ".5,.8,.5", "--policy", "gate,magnitude", "--sparsity", "0.8"];
    let files = ["--json", "-", "--markdown", markdown.to_str().unwrap(), "-t", "2"];
    let model = tiny("tiny-llama");
    let run = fewron(home.path(), &[&["bench", &model], &SMALL[..], &masks, &files].concat());
    assert_eq!((run.code, said(&run).as_str()), (0, LEFT_OUT));
    let bench: Value = serde_json::from_str(&run.stdout).unwrap();

    assert_eq!((&bench["threads"], &bench["repetitions"]), (&json!(2), &json!(3)));
    assert_eq!(
        (&bench["model"]["name"], &bench["model"]["arch"]),
        (&json!("tiny-llama.gguf"), &json!("llama"))
    );
    assert!(bench["cpu"].is_string() && bench["isa"].is_string(), "{bench}");
    assert!(bench["bandwidth_bytes_s"].as_f64().unwrap() > 0.0);
    assert_eq!(bench.get("llama_cpp"), None);

    // Three layers of three 48 × 80 matrices of f32 among 269,568 bytes.
    let (total, matrix) = (269_568.0, 48.0 * 4.0 * 3.0);
    let expected = [
        ("dense", 1.0, total),
        ("random-0.5", 0.5, total - 40.0 * 3.0 * matrix),
        ("random-0.8", 0.2, total - 64.0 * 3.0 * matrix),
        ("gate@0.8", 0.2, total - 64.0 * 2.0 * matrix),
        ("magnitude@0.8", 0.2, total),
    ];
    let results = bench["results"].as_array().unwrap();
    assert_eq!(results.len(), expected.len());
    for (result, (name, active, bytes)) in results.iter().zip(expected) {
        assert_eq!(result["name"], name);
        assert!((result["active_fraction"].as_f64().unwrap() - active).abs() < 1e-9, "{name}");
        assert_eq!(result["bytes_per_token"].as_f64().unwrap(), bytes, "{name}");
        if cfg!(target_os = "linux") {
            assert!(result["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
        }
        let decode = result["decode"].as_array().unwrap();
        assert_eq!(decode.len(), 2, "{name}");
        for (speed, kv_length) in decode.iter().zip([0, 3]) {
            assert_speed(speed);
            assert_eq!((&speed["kv_length"], &speed["tokens"]), (&json!(kv_length), &json!(4)));
            let floor = bytes * speed["median"].as_f64().unwrap();
            let floor = floor / bench["bandwidth_bytes_s"].as_f64().unwrap();
            assert!((speed["fraction_of_floor"].as_f64().unwrap() / floor - 1.0).abs() < 1e-9);
            assert_eq!(speed.get("ratio_to_llama_cpp"), None);
        }
        assert_eq!(result["decode_tok_s"], decode[0]["median"]);
        let prefill = result.get("prefill");
        assert_eq!(prefill.is_some(), name == "dense", "only dense prompts are read");
        assert_eq!(result["prefill_tok_s"], prefill.map_or(Value::Null, |p| p["median"].clone()));
        if let Some(prefill) = prefill {
            assert_speed(prefill);
            assert_eq!((&prefill["tokens"], &prefill["ratio_to_dense"]), (&json!(5), &json!(1.0)));
            decode.iter().for_each(|speed| assert_eq!(speed["ratio_to_dense"], 1.0));
        }
    }
    let markdown = fs::read_to_string(markdown).unwrap();
    let rows: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 2 + 1 + 2 * 5, "{markdown}");
    assert!(rows[0].starts_with("|  | run | tokens/s | min to max | vs dense | active |"));
    assert!(rows[2].starts_with("| dense | prefill 5 | "), "{markdown}");
    assert!(rows[12].starts_with("| magnitude@0.8 | decode 4 after 3 | "), "{markdown}");
}

/// A module that stands in for llama_cpp: it writes down what it is asked to run, with the tokens
/// that it had before, and dies at a token of a position if told so.
const STAND_IN: &str = r#"
import os, signal
__version__ = "0.0.1"

def llama_print_system_info():
    return b"made of straw"

class Llama:
    def __init__(self, path, n_ctx, n_threads, **_):
        assert os.path.exists(path) and n_threads == 2
        self.n_ctx = n_ctx
        self.n_tokens = 0
        print("a word on stdout that is no answer")

    def n_vocab(self):
        return 300

    def reset(self):
        self.n_tokens = 0

    def eval(self, tokens):
        with open(os.environ["STRAW_LOG"], "a") as log:
            print(len(tokens), self.n_tokens, file=log)
        self.n_tokens += len(tokens)
        if self.n_tokens == int(os.environ.get("STRAW_DIES_AT", -1)):
            os.write(2, b"Illegal instruction of straw\n")
            os.kill(os.getpid(), signal.SIGKILL)
        assert self.n_tokens <= self.n_ctx
"#;

/// A bench beside the stand-in.
fn beside_straw(home: &Path, variables: &[(&str, &str)], more: &[&str]) -> Run {
    fs::write(home.join("llama_cpp.py"), STAND_IN).unwrap();
    let log = home.join("straw.log");
    let (home_text, log) = (home.to_str().unwrap(), log.to_str().unwrap());
    let own = [
        ("FEWRON_PYTHON", "python3"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONPATH", home_text),
        ("STRAW_LOG", log),
    ];
    let model = tiny("tiny-llama");
    let start = ["bench", &model, "--vs-llama-cpp", "-t", "2"];
    fewron_env(home, &[&own, variables].concat(), &[&start, more].concat())
}

#[test]
fn llama_cpp_takes_its_turns() {
    let home = tempfile::tempdir().unwrap();
    let more = ["--json", "-", "--random", "0.5"];
    let run = beside_straw(home.path(), &[], &[&SMALL[..], &more].concat());
    assert_eq!((run.code, said(&run).as_str()), (0, LEFT_OUT));
    let bench: Value = serde_json::from_str(&run.stdout).unwrap();
    let straw = &bench["llama_cpp"];
    assert_eq!(
        (&straw["version"], &straw["system_info"]),
        (&json!("0.0.1"), &json!("made of straw"))
    );
    if cfg!(target_os = "linux") {
        let memory = |name: &str| straw[name].as_u64().unwrap();
        assert!(memory("peak_rss_bytes") >= memory("base_rss_bytes"), "{straw}");
    }
    let decode = straw["decode"].as_array().unwrap();
    assert_eq!(decode.len(), 2);
    decode.iter().chain([&straw["prefill"]]).for_each(|speed| {
        assert_speed(speed);
        assert_eq!(speed["ratio_to_llama_cpp"], 1.0);
    });
    assert_eq!(
        (&straw["decode_tok_s"], &straw["prefill_tok_s"]),
        (&decode[0]["median"], &straw["prefill"]["median"])
    );
    for result in bench["results"].as_array().unwrap() {
        let first = &result["decode"][0];
        let (own, other) = (numbers(&first["tok_s"]), numbers(&decode[0]["tok_s"]));
        let mut ratios: Vec<f64> = own.iter().zip(&other).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        assert!((first["ratio_to_llama_cpp"].as_f64().unwrap() / ratios[1] - 1.0).abs() < 1e-9);
    }
    // Once untimed and three times timed, each from where the phase starts.
    let decode_from =
        |past: usize| (past..past + 4).map(|at| format!("1 {at}")).collect::<Vec<_>>();
    let prefill = vec!["5 0".to_owned()];
    let phases = [prefill, decode_from(0), decode_from(3)];
    let expected: Vec<&String> = phases.iter().flat_map(|phase| [phase; 4]).flatten().collect();
    let log = fs::read_to_string(home.path().join("straw.log")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn words_name_everyone() {
    let home = tempfile::tempdir().unwrap();
    let one = ["--prefill", "0", "--kv", "3", "--decode", "2", "--random", "0.8"];
    let run = beside_straw(home.path(), &[], &one);
    assert_eq!((run.code, said(&run).as_str()), (0, ""));
    for words in ["vs dense", "vs llama.cpp", "decode 2 after 3", "random-0.8", "20.0%"] {
        assert!(run.stdout.contains(words), "{words} in {}", run.stdout);
    }
    assert!(!run.stdout.contains("prefill"), "{}", run.stdout);
    assert!(run.stdout.contains("\nllama-cpp-python 0.0.1"), "{}", run.stdout);
}

#[test]
fn what_cannot_be_measured() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny("tiny-llama");
    let error = |more: &[&str]| {
        let run = fewron(home.path(), &[&["bench", &model], more].concat());
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{more:?}");
        run.stderr
    };
    let line = |more: &[&str]| {
        let error = error(more);
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    assert!(error(&["--random", "1.5"]).contains("ratio 1.5 is outside 0 to 1"));
    assert!(error(&["--repetitions", "0"]).contains("'--repetitions <N>'"));
    assert!(error(&["--python", "python3"]).contains("--vs-llama-cpp"));
    let no_python = "error: cannot start no/python (--python names one with llama-cpp-python): ";
    let short = ["--prefill", "0", "--kv", "0"];
    let missing = ["--vs-llama-cpp", "--python", "no/python"];
    assert!(line(&[&short[..], &missing].concat()).starts_with(no_python));
    assert!(line(&["--sparsity", "0.5"]).contains("--sparsity needs a policy"));
    assert!(line(&["--policy", "dense"]).contains("the dense model is always measured"));
    assert!(line(&["--json", "-", "--markdown", "-"]).contains("cannot both go to stdout"));
    let nothing = error(&["--prefill", "0", "--kv", "200"]);
    assert!(nothing.contains("nothing to decode in the context of tiny-llama.gguf"), "{nothing}");
    let run = fewron(home.path(), &["bench", "smolm2"]);
    let unknown = "error: there is no model `smolm2`; did you mean `smollm2`?\n";
    assert_eq!((run.code, run.stderr.as_str()), (2, unknown));
}

#[test]
fn a_python_that_cannot_or_dies() {
    let home = tempfile::tempdir().unwrap();
    let fails = |variables: &[(&str, &str)]| {
        let run = beside_straw(home.path(), variables, &SMALL);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        said(&run).strip_prefix(LEFT_OUT).unwrap().to_owned()
    };
    let died = fails(&[("STRAW_DIES_AT", "2")]);
    assert!(died.starts_with("error: the llama.cpp process died (signal: 9"), "{died}");
    assert!(died.ends_with("): Illegal instruction of straw\n"), "{died}");
    let missing = fails(&[("FEWRON_PYTHON", "no/python")]);
    assert!(missing.starts_with("error: cannot start no/python "), "{missing}");
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("llama_cpp.py"), "raise ImportError('no straw')").unwrap();
    let without = fails(&[("PYTHONPATH", empty.to_str().unwrap())]);
    let reason = "error: python3 cannot import llama_cpp (ImportError: no straw): ";
    assert!(without.starts_with(reason), "{without}");
    assert!(without.contains("`pip install llama-cpp-python`") && without.contains("--python"));
    assert_eq!(without.lines().count(), 1, "{without}");
}
