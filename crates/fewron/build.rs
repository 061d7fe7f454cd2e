//! Tells the program which commit it is built from, for the records of its runs.

use std::fs;
use std::process::Command;

fn main() {
    // What the program is made of; tests and benches are not.
    for folder in fs::read_dir("..").into_iter().flatten().flatten() {
        println!("cargo::rerun-if-changed={}", folder.path().join("src").display());
    }
    println!("cargo::rerun-if-env-changed=FEWRON_COMMIT");
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    // Only what is built counts: another text of the README makes no other program.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "../*/src"]);
    let dirty = changed.is_some_and(|files| !files.is_empty());
    println!("cargo::rustc-env=FEWRON_COMMIT={commit}{}", if dirty { "-dirty" } else { "" });
}

/// What git says; `None` where there is no git, or no repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
