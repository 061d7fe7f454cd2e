//! Going on with a run: its command again, in its folder.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use fewron_runs::{State, Store};

use crate::Outcome;
use crate::ui::{self, Interrupted};

/// Commands that go on where they stopped. The others would measure everything anew.
const GO_ON: [&str; 2] = ["eval", "sweep"];

/// Runs the command of an interrupted run again; it finds what is there already by itself.
pub(super) fn resume(store: &Store, id: i64) -> Result<Outcome> {
    let run = store.run(id)?;
    match run.state {
        State::Running => bail!("run {id} is at work"),
        State::Done => bail!("run {id} has come to its end; `fewron runs show {id}` shows it"),
        State::Interrupted | State::Failed => {}
    }
    ensure!(
        GO_ON.contains(&run.kind.as_str()),
        "a {} cannot go on where it stopped; type it again: {}",
        run.kind,
        run.command
    );
    ensure!(
        Path::new(&run.directory).is_dir(),
        "the folder {} of run {id} is gone; type its command elsewhere: {}",
        run.directory,
        run.command
    );
    ui::note(&format!("{} (in {})", run.command, run.directory));
    let program = std::env::current_exe().context("cannot find fewron itself")?;
    let arguments = run.arguments.iter().filter(|word| *word != "--restart");
    let status = Command::new(program).args(arguments).current_dir(&run.directory).status();
    match status.context("cannot start fewron again")?.code() {
        Some(0) => Ok(Outcome::Done),
        Some(1) => Ok(Outcome::GateFailed),
        Some(130) | None => Err(Interrupted.into()),
        Some(code) => bail!("run {id} ended with code {code}"),
    }
}
