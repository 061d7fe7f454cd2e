//! What fewron says to input that it cannot use: exit code 2, and one line that helps.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;

use support::fewron;

/// The error of a run that must fail with code 2.
fn error(arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let run = fewron(home.path(), arguments);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {}", run.stderr);
    run.stderr
}

/// The error of a run, which must be a single line.
fn line(arguments: &[&str]) -> String {
    let error = error(arguments);
    assert_eq!(error.lines().count(), 1, "{error}");
    error.trim_end().to_owned()
}

#[test]
fn unknown_model() {
    assert_eq!(
        line(&["pull", "smolm2"]),
        "error: there is no model `smolm2`; did you mean `smollm2`?"
    );
    assert_eq!(line(&["pull", "whale"]), "error: there is no model `whale`; see `fewron models`");
    assert_eq!(
        line(&["inspect", "gema3-270m"]),
        "error: there is no model `gema3-270m`; did you mean `gemma3-270m`?"
    );
    assert_eq!(
        line(&["inspect", "no/such.gguf"]),
        "error: there is no model file no/such.gguf; for a file on the Hugging Face hub write \
         hf:org/repo:file"
    );
    assert!(line(&["inspect", "src"]).starts_with("error: src is a folder without config.json"));
    assert!(line(&["pull", "hf:nonsense"]).contains("is not hf:org/repo or hf:org/repo:file.gguf"));
}

#[test]
fn unknown_flag_and_missing_command() {
    assert!(error(&["models", "--yaml"]).contains("unexpected argument '--yaml' found"));
    assert!(error(&["modles"]).contains("a similar subcommand exists: 'models'"));
    assert!(error(&[]).contains("Usage: fewron"));
}

#[test]
fn ratios_outside_0_to_1() {
    let message = error(&["sweep", "m", "--ratios", ".5,1.5"]);
    assert!(message.contains("ratio 1.5 is outside 0 to 1"), "{message}");
    let message = error(&["score", "m", "--text-file", "f", "--sparsity", "half"]);
    assert!(message.contains("`half` is not a number between 0 and 1"), "{message}");
}

#[test]
fn unknown_names() {
    let message = error(&["sweep", "m", "--metrics", "cor-gxo,snap"]);
    assert!(message.contains("invalid value 'snap'"), "{message}");
    let all = "magnitude, gradient, gxo, snip, fisher, ig, cor-gxo, wina, random";
    assert!(message.contains(all), "{message}");
    let message = error(&["generate", "m", "-p", "x", "--policy", "gato"]);
    assert!(
        message.contains("dense, gate, prompt, predict, static, input, magnitude"),
        "{message}"
    );
}

#[test]
fn combinations_that_make_no_sense() {
    assert_eq!(
        line(&["sweep", "m", "--plan", "smol.plan"]),
        "error: --plan needs --protocol runtime; the oracle protocol takes --metrics"
    );
    assert_eq!(
        line(&["generate", "m", "-p", "x", "--sparsity", "0.5"]),
        "error: --sparsity 0.5 needs a policy: add --policy gate or --policy magnitude"
    );
    assert_eq!(
        line(&["sweep", "m", "--policies", "gate"]),
        "error: --policies needs --protocol runtime; the oracle protocol takes --metrics"
    );
    assert_eq!(
        line(&["sweep", "m", "--protocol", "runtime", "--metrics", "ig"]),
        "error: --metrics needs --protocol oracle; the runtime protocol takes --policies"
    );
    assert!(error(&["generate", "m"]).contains("<--prompt <TEXT>|--prompt-file <FILE>>"));
    assert!(error(&["generate", "m", "-p", "x", "-t", "0"]).contains("--threads <N>"));
}

#[test]
fn unwritable_home() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let run = fewron(&file.join("home"), &["pull", "smollm2"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("error: cannot create the cache folder "), "{}", run.stderr);
    let help = "(set FEWRON_HOME to a folder that you can write): ";
    assert!(run.stderr.contains(help) && run.stderr.lines().count() == 1, "{}", run.stderr);
}
