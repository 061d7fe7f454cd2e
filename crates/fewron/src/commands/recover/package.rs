//! The Python package that trains: which one there is, and how it is run.

use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{python, store, ui};

/// The package's version, which is fewron's own.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The package's module.
const MODULE: &str = "fewron_recover";

const PROBE: &str = include_str!("probe.py");

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Found { version: String, gpus: usize },
    Missing { missing: String },
}

/// A Python that has the package.
pub(super) struct Package {
    python: OsString,
    threads: Option<NonZeroUsize>,
    /// GPUs that PyTorch sees.
    pub(super) gpus: usize,
}

impl Package {
    /// Asks the Python that is given, or the default one.
    ///
    /// # Errors
    /// When it cannot be started, or does not have this version of the package: with what to install.
    pub(super) fn find(given: Option<&Path>, threads: Option<NonZeroUsize>) -> Result<Self> {
        let python = python::interpreter(given);
        let name = python.display();
        let output = Command::new(&python)
            .args(["-c", PROBE])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| {
                format!("cannot start {name} (--python names one with fewron-recover)")
            })?;
        ui::check_interrupt()?;
        let answer = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{name} does not say which fewron-recover it has"))?;
        let install = || install(&python);
        match answer {
            Answer::Missing { missing } => {
                bail!("{name} cannot import fewron_recover ({missing}); {}", install())
            }
            Answer::Found { version, .. } if version != VERSION => {
                bail!("{name} has fewron-recover {version}, not {VERSION}; {}", install())
            }
            Answer::Found { gpus, .. } => Ok(Self { python, threads, gpus }),
        }
    }

    /// A command of the package in so many processes; options are to be added.
    pub(super) fn command(&self, name: &str, processes: usize) -> Command {
        let mut command = Command::new(&self.python);
        if processes > 1 {
            command.args(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]);
            command.arg(processes.to_string());
        }
        command.args(["-m", MODULE, name]).env("PYTHONUNBUFFERED", "1");
        if let Some(threads) = self.threads {
            command.env("OMP_NUM_THREADS", threads.to_string());
        }
        command
    }
}

/// Runs a command of the package; what it prints goes to stderr. Ctrl-C and SIGTERM are passed on, and it
/// is waited for while it saves what it has.
///
/// # Errors
/// When it fails, as it has said on stderr then, and after Ctrl-C.
pub(super) fn run(command: &mut Command) -> Result<()> {
    ui::check_interrupt()?;
    let child = command.stdin(Stdio::null()).stdout(io::stderr()).spawn();
    let status = wait(&mut child.context("cannot start Python")?)?;
    ui::check_interrupt()?;
    let name = command.get_args().skip_while(|word| *word != MODULE).nth(1);
    let name = name.unwrap_or_default().display();
    ensure!(status.success(), "`{MODULE} {name}` failed ({status}); why stands above");
    Ok(())
}

/// Waits for a child, which is asked once to end when this process is: the terminal sends Ctrl-C to all of its
/// processes, but SIGTERM comes to one.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if ui::interrupted() && !asked {
            asked = true;
            #[cfg(unix)]
            rustix::process::kill_process(
                rustix::process::Pid::from_child(child),
                rustix::process::Signal::TERM,
            )?;
        }
        sleep(Duration::from_millis(50));
    }
}

/// Adds an option if it has a value.
pub(super) fn option(command: &mut Command, name: &str, value: Option<impl ToString>) {
    if let Some(value) = value {
        command.arg(name).arg(value.to_string());
    }
}

/// How to install the package.
fn install(python: &OsString) -> String {
    let (python, source) = (python.display(), store::source_path("recover"));
    if source.is_dir() {
        return format!("install it with `{python} -m pip install {}`", source.display());
    }
    format!(
        "install it with `{python} -m pip install ./recover` in fewron's source, which {} has",
        env!("CARGO_PKG_REPOSITORY")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_has_the_version_of_fewron() {
        for (file, line) in [
            ("recover/pyproject.toml", format!("\nversion = \"{VERSION}\"\n")),
            ("recover/fewron_recover/__init__.py", format!("\nVERSION = \"{VERSION}\"\n")),
        ] {
            let text = std::fs::read_to_string(store::source_path(file)).unwrap();
            assert!(text.contains(&line), "{file} has another version than {VERSION}");
        }
    }
}
