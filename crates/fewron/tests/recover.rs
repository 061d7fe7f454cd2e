//! `fewron recover`, with a script that stands for a Python with the package.

#![cfg(unix)]

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use support::{fewron, fewron_env, fixture, trained};

/// Answers as `probe` says, keeps the words of every command, and does what `fail` and `wait` name.
const PYTHON: &str = r#"#!/bin/sh
here=$(dirname "$0")
if [ "$1" = -c ]; then cat "$here/probe"; exit; fi
processes=
while [ "$1" != fewron_recover ]; do [ "$1" = --nproc-per-node ] && processes="$2 times "; shift; done
shift
command=$1
echo "$processes$*" >> "$here/log"
echo "progress of $command"
if [ "$(cat "$here/fail")" = $command ]; then echo "error: cannot $command" >&2; exit 2; fi
if [ "$(cat "$here/wait")" = $command ]; then
    trap 'touch "$here/ended"; exit 0' INT TERM
    touch "$here/started"
    while :; do sleep 0.05; done
fi
if [ $command = train ]; then
    while [ $# -gt 0 ]; do
        case $1 in --out) out=$2 ;; --run) run=$2 ;; --plan) plan=$2 ;; esac
        shift
    done
    mkdir -p "$run" && touch "$run/checkpoint.pt" && cp "$plan" "$out"
fi
"#;

/// A home with the script, and where its words and the plan go.
struct Fake {
    home: tempfile::TempDir,
    python: PathBuf,
    out: PathBuf,
}

impl Fake {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let python = home.path().join("python");
        fs::write(&python, PYTHON).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let out = home.path().join("recovered/phi.plan");
        let fake = Self { home, python, out };
        let version = env!("CARGO_PKG_VERSION");
        fake.set("probe", &format!(r#"{{"version": "{version}", "gpus": 0}}"#));
        fake.set("fail", "");
        fake.set("wait", "");
        fake
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn set(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).unwrap();
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let [python, out] = [&self.python, &self.out].map(|path| path.to_str().unwrap());
        [&["recover", "tiny-phi", "--python", python, "--out", out], more].concat()
    }

    fn recover(&self, more: &[&str]) -> support::Run {
        fewron(self.path(), &self.arguments(more))
    }

    /// The words of the commands since the last look, with the work folder as `W`.
    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path().join("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path().join("log"));
        let work = self.work().display().to_string();
        log.lines()
            .map(|line| line.replace(&work, "W").replace(&trained("tiny-phi"), "M"))
            .collect()
    }

    fn work(&self) -> PathBuf {
        self.path().join("recovered/phi.plan.run")
    }
}

#[test]
fn every_step_is_done_and_the_same_command_goes_on() {
    let fake = Fake::new();
    let more = ["--plan", "tiny-phi-70", "--json", "--steps", "7", "--", "--lr", "5e-3"];
    let run = fake.recover(&more);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let record: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(record["model"]["name"], "tiny-phi");
    assert!(run.stderr.contains("progress of generate\nprogress of train\n"), "{}", run.stderr);
    let plan = fixture("../plans/tiny-phi-70.plan");
    assert!(fs::read(&fake.out).unwrap() == fs::read(&plan).unwrap());

    let training = "--compensation-bits 4 --steps 7 --seed 0 --max-bytes 5000000 --lr 5e-3";
    let train = format!("--plan {plan} --data W/text --out W/recovered.plan --run W/training");
    let expected = |resume: &str| {
        [
            format!("check M --device cpu --plan {plan} {training}"),
            "generate M --device cpu --out W/text --tokens 2000000 --seed 0".to_owned(),
            format!("train M --device cpu {train}{resume} {training}"),
            format!(
                "evaluate M --device cpu --plan {plan} --plan W/recovered.plan --data W/text --json \
                 W/evaluation.json"
            ),
        ]
    };
    assert_eq!(fake.log(), expected(""));
    let run = fake.recover(&more);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(fake.log(), expected(" --resume"));

    let run = fake.recover(&["--plan", "tiny-phi-70", "--steps", "8", "--", "--lr", "5e-3"]);
    assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.stderr);
    assert!(run.stderr.contains("with other settings (steps: 7, now 8): give"), "{}", run.stderr);
    assert!(fake.log().is_empty());
}

#[test]
fn without_a_plan_one_is_calibrated_once() {
    let fake = Fake::new();
    let text = fixture("text/prose.txt");
    let work = fake.path().join("elsewhere");
    fake.set("questions.jsonl", "{\"question\": \"Why is\\nit so?\"}\n{\"question\": \"Who?\"}\n");
    let data = format!("{text},{}", fake.path().join("questions.jsonl").display());
    let more = ["--sparsity", ".6", "--data", &data, "--tokens", "1000", "--eval-text", &text];
    let more = [&more[..], &["--max-hours", "1", "--work", work.to_str().unwrap()]].concat();
    let run = fake.recover(&more);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("predict, 60% of the MLP neurons off"), "{}", run.stdout);
    let plan = work.join("calibrated.plan");
    assert!(fs::read(&fake.out).unwrap() == fs::read(&plan).unwrap());
    let log = fake.log();
    let commands: Vec<&str> = log.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(commands, ["check", "check", "generate", "train", "evaluate"]);
    assert!(!log[0].contains("--plan") && log[1].contains("calibrated.plan"), "{log:?}");
    assert!(log[2].contains("--tokens 1000 --seed 0 --max-seconds 35"), "{}", log[2]);
    let questions = work.join("questions.txt");
    let from_data = format!(" --text {text} --train-on-text --questions {}", questions.display());
    assert!(log[2].ends_with(&from_data), "{}", log[2]);
    assert_eq!(fs::read_to_string(&questions).unwrap(), "Why is it so?\nWho?\n");
    assert!(log[4].contains(&format!(" --text {text} ")), "{}", log[4]);

    let made = plan.metadata().unwrap().modified().unwrap();
    assert_eq!(fake.recover(&more).code, 0);
    assert_eq!(plan.metadata().unwrap().modified().unwrap(), made);
}

#[test]
fn a_missing_or_wrong_package_says_how_to_install_it() {
    let fake = Fake::new();
    let refused = |variables: &[(&str, &str)]| {
        let arguments = fake.arguments(&["--plan", "tiny-phi-70"]);
        let run = fewron_env(fake.path(), variables, &arguments);
        assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.stderr);
        assert!(fake.log().is_empty() && !fake.work().exists());
        run.stderr
    };
    let python = fake.python.display();
    let install = format!("`{python} -m pip install {}`\n", fixture("../recover"));
    fake.set("probe", r#"{"missing": "No module named 'torch'"}"#);
    let error = refused(&[]);
    assert!(error.contains("cannot import fewron_recover (No module named 'torch'); install"));
    assert!(error.ends_with(&install), "{error}");
    fake.set("probe", r#"{"version": "9.0.0", "gpus": 0}"#);
    let error = refused(&[]);
    assert!(error.contains("has fewron-recover 9.0.0, not "), "{error}");
    assert!(error.ends_with(&install), "{error}");
    fake.set("probe", "what?");
    assert!(refused(&[]).contains("does not say which fewron-recover it has"));
    fs::remove_file(&fake.python).unwrap();
    assert!(refused(&[]).contains("(--python names one with fewron-recover)"));

    let fake = Fake::new();
    fake.set("probe", r#"{"missing": "nothing"}"#);
    let plan = fixture("../plans/tiny-phi-70.plan");
    let arguments = fake.arguments(&["--plan", &plan]);
    let run = fewron_env(fake.path(), &[("FEWRON_SOURCE", "/nowhere")], &arguments);
    assert!(run.stderr.contains("-m pip install ./recover` in fewron's source"), "{}", run.stderr);
}

#[test]
fn what_the_package_refuses_ends_the_command() {
    let fake = Fake::new();
    for (command, calls) in [("check", 1), ("generate", 2), ("train", 3)] {
        fake.set("fail", command);
        let run = fake.recover(&["--plan", "tiny-phi-70"]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        let words = format!(
            "error: cannot {command}\nerror: `fewron_recover {command}` failed (exit status: 2); why stands \
             above\n"
        );
        assert!(run.stderr.ends_with(&words), "{}", run.stderr);
        assert_eq!(fake.log().len(), calls);
        assert!(!fake.out.exists());
    }
    let run = fake.recover(&["--plan", "tiny-phi-70", "--eval-text", "none.txt"]);
    assert!(run.stderr.contains("there is no text none.txt"), "{}", run.stderr);
    assert!(fake.log().is_empty());
}

#[test]
fn hours_that_are_over_end_the_command() {
    let fake = Fake::new();
    let run = fake.recover(&["--plan", "tiny-phi-70", "--max-hours", "1e-9"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("before the training began; this goes on: fewron recover tiny-phi")
    );
    assert_eq!(fake.log().len(), 2);
}

#[test]
fn several_gpus_train_together() {
    let fake = Fake::new();
    let version = env!("CARGO_PKG_VERSION");
    fake.set("probe", &format!(r#"{{"version": "{version}", "gpus": 4}}"#));
    let run = fake.recover(&["--plan", "tiny-phi-70", "--gpus", "4"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let log = fake.log();
    assert!(log[1].starts_with("generate M --device cuda"), "{log:?}");
    assert!(log[2].starts_with("4 times train M --device cuda"), "{log:?}");
    for more in [["--gpus", "5"].as_slice(), &["--gpus", "2", "--device", "cpu"]] {
        let run = fake.recover(&[&["--plan", "tiny-phi-70"], more].concat());
        assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.stderr);
        assert!(run.stderr.contains("PyTorch sees 4; leave out --device"), "{}", run.stderr);
    }
    assert!(fake.log().is_empty());
}

/// Ctrl-C reaches the whole group, SIGTERM the process that it is sent to.
#[test]
fn signals_wait_for_the_package_and_say_what_goes_on() {
    for (signal, group) in [("-INT", "-"), ("-TERM", "")] {
        a_signal_waits_for_the_package(signal, group);
    }
}

fn a_signal_waits_for_the_package(signal: &str, group: &str) {
    let fake = Fake::new();
    fake.set("wait", "train");
    let child = Command::new(env!("CARGO_BIN_EXE_fewron"))
        .args(fake.arguments(&["--plan", "tiny-phi-70"]))
        .env("FEWRON_HOME", fake.path())
        .env_remove("FEWRON_SOURCE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    while !fake.path().join("started").exists() {
        sleep(Duration::from_millis(20));
    }
    let target = format!("{group}{}", child.id());
    assert!(Command::new("kill").args([signal, "--", &target]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("this goes on where it was interrupted: fewron recover tiny-phi"));
    assert!(stderr.ends_with("interrupted\n"), "{stderr}");
    assert!(fake.path().join("ended").exists());
    assert!(!fake.out.exists());
}
