//! `fewron`: sparse activation for small language models, on the command line.
//!
//! Exit codes: 0 fine, 1 a check or gate failed, 2 could not do it, 130 after Ctrl-C. An error is
//! one line on stderr.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod cli;
mod commands;
mod generation;
mod input;
mod loaded;
mod mask;
mod plan_words;
mod python;
mod runs;
mod scoring;
mod stats;
mod store;
mod study;
mod ui;
mod whole_file;
mod writing;

use std::io::ErrorKind;
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;

use clap::Parser;

/// How a command ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Done,
    /// A check or gate said no.
    GateFailed,
}

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    panic::set_hook(Box::new(report_panic));
    let result = ui::watch_ctrl_c()
        .and_then(|()| panic::catch_unwind(|| commands::run(&cli)).unwrap_or(Ok(None)));
    match result {
        Ok(Some(Outcome::Done)) => ExitCode::SUCCESS,
        Ok(Some(Outcome::GateFailed)) => ExitCode::from(1),
        Ok(None) => ExitCode::from(2),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<ui::Interrupted>() => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {}", one_line(&told(&error)));
            ExitCode::from(2)
        }
    }
}

/// An error and its causes, without those that the one before them has told already.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whoever read our output has stopped reading, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io_kind = |e: &(dyn std::error::Error + 'static)| {
        let json = e.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        json.or(e.downcast_ref::<std::io::Error>().map(std::io::Error::kind))
    };
    error.chain().any(|e| io_kind(e) == Some(ErrorKind::BrokenPipe))
}

/// A panic is a fault of fewron: one line that says where, no backtrace.
fn report_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
    eprintln!("error: internal fault{place}: {}; please report it", one_line(message));
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
