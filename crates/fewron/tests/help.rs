//! The help of every command, as it is printed.

#[allow(dead_code, unreachable_pub)]
mod support;

use support::fewron;

const COMMANDS: [&str; 23] = [
    "pull",
    "models",
    "inspect",
    "generate",
    "chat",
    "serve",
    "score",
    "sweep",
    "eval",
    "compare",
    "check",
    "runs",
    "attribute",
    "neurons",
    "calibrate",
    "recover",
    "recommend",
    "bench",
    "quantize",
    "convert",
    "report",
    "demo",
    "completions",
];

fn help(arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let run = fewron(home.path(), arguments);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    run.stdout.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn of_fewron() {
    insta::assert_snapshot!("fewron", help(&["--help"]));
}

#[test]
fn of_every_command() {
    for command in COMMANDS {
        insta::assert_snapshot!(command, help(&[command, "--help"]));
    }
}

#[test]
fn names_every_command() {
    let all = help(&["--help"]);
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command}");
    }
}
