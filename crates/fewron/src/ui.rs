//! What the user sees besides results: progress on stderr, and Ctrl-C.

use std::io::IsTerminal;
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static WAITING: AtomicBool = AtomicBool::new(false);

/// Ctrl-C was pressed.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Notes the first Ctrl-C for [`interrupted`]; the second one, or any while the user is asked for
/// input, ends the process with code 130.
pub(crate) fn watch_ctrl_c() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) || WAITING.load(Ordering::Relaxed) {
            eprintln!();
            process::exit(130);
        }
    })
    .context("cannot watch for Ctrl-C")
}

/// Runs `ask`, which waits for the user: Ctrl-C leaves at once meanwhile.
pub(crate) fn waiting<T>(ask: impl FnOnce() -> T) -> T {
    WAITING.store(true, Ordering::Relaxed);
    let answer = ask();
    WAITING.store(false, Ordering::Relaxed);
    answer
}

/// Forgets a Ctrl-C that has done its work.
pub(crate) fn clear_interrupt() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

/// Set once Ctrl-C was pressed.
pub(crate) fn interrupt_flag() -> &'static AtomicBool {
    &INTERRUPTED
}

/// Whether Ctrl-C was pressed.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// [`Interrupted`] as an error once Ctrl-C was pressed.
pub(crate) fn check_interrupt() -> Result<(), Interrupted> {
    if interrupted() { Err(Interrupted) } else { Ok(()) }
}

/// Prints a line on stderr, above a progress bar if there is one.
pub(crate) fn note(message: &str) {
    eprintln!("{message}");
}

/// A number of bytes in words: `96.4 MB`, `269.6 kB` (decimal units).
pub(crate) fn show_bytes(bytes: f64) -> String {
    if bytes >= 1e6 { format!("{:.1} MB", bytes / 1e6) } else { format!("{:.1} kB", bytes / 1e3) }
}

/// What a progress counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes, shown as MiB.
    Bytes,
    /// Things: samples, points, tokens.
    Items,
}

/// Work shorter than this shows no [`Progress::late`].
const LATE_AFTER: Duration = Duration::from_secs(1);

/// Time between redraws of the bar.
const TICK: Duration = Duration::from_millis(200);

/// Time between the plain lines that stand for the bar where stderr is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Progress with an estimate of the time left: a bar on a terminal, else a line now and then.
pub(crate) struct Progress {
    label: String,
    unit: Unit,
    total: u64,
    bar: Option<ProgressBar>,
    /// When the bar is to appear, unless it is there.
    appears: Mutex<Option<Instant>>,
    pace: Mutex<Pace>,
}

/// What a plain line tells the time left by.
struct Pace {
    printed: Instant,
    /// The first position that was set, and when: what was there before took no time.
    start: Option<(u64, Instant)>,
}

impl Pace {
    /// Time left at a position of a total, at the pace so far.
    fn left(&self, position: u64, total: u64) -> Option<Duration> {
        let (from, since) = self.start?;
        let done = position.checked_sub(from).filter(|&done| done > 0)?;
        Some(since.elapsed().mul_f64(total.saturating_sub(position) as f64 / done as f64))
    }
}

impl Progress {
    /// Starts at 0 of `total`.
    pub(crate) fn new(label: &str, unit: Unit, total: u64) -> Self {
        let progress = Self::late(label, unit, total);
        progress.appear(Instant::now() + LATE_AFTER);
        progress
    }

    /// Starts at 0 of `total`, and shows nothing unless the work takes more than a second.
    pub(crate) fn late(label: &str, unit: Unit, total: u64) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let hidden = ProgressDrawTarget::hidden();
            let bar = ProgressBar::with_draw_target(Some(total), hidden);
            bar.with_style(style(unit)).with_message(label.to_owned())
        });
        let appears = Mutex::new(Some(now + LATE_AFTER));
        let pace = Mutex::new(Pace { printed: now, start: None });
        Self { label: label.to_owned(), unit, total, bar, appears, pace }
    }

    /// Moves to `position` of the total.
    pub(crate) fn set(&self, position: u64) {
        let first = self.pace.lock().is_ok_and(|mut pace| {
            let first = pace.start.is_none();
            pace.start.get_or_insert_with(|| (position, Instant::now()));
            first
        });
        match &self.bar {
            Some(bar) => bar.set_position(position.min(self.total)),
            None => self.print_now_and_then(position),
        }
        if let Some(bar) = self.bar.as_ref().filter(|_| first) {
            bar.reset_eta();
        }
        self.appear(Instant::now());
    }

    /// Shows the bar if its time has come.
    fn appear(&self, now: Instant) {
        let (Some(bar), Ok(mut appears)) = (&self.bar, self.appears.lock()) else { return };
        if appears.take_if(|at| *at <= now).is_some() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
        }
    }

    fn print_now_and_then(&self, position: u64) {
        let Ok(mut pace) = self.pace.try_lock() else { return };
        if pace.printed.elapsed() < PLAIN_EVERY {
            return;
        }
        pace.printed = Instant::now();
        let left = pace.left(position, self.total).map_or(String::new(), |left| {
            format!(", {} left", humantime::format_duration(Duration::from_secs(left.as_secs())))
        });
        let percent = 100 * position / self.total.max(1);
        let show = |n| match self.unit {
            Unit::Bytes => HumanBytes(n).to_string(),
            Unit::Items => n.to_string(),
        };
        eprintln!("{}: {percent}% ({} of {}{left})", self.label, show(position), show(self.total));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(unit: Unit) -> ProgressStyle {
    let template = match unit {
        Unit::Bytes => "{msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
        Unit::Items => "{msg} [{bar:24}] {pos}/{len} {eta} left",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_counts_from_where_the_work_went_on() {
        let now = Instant::now();
        let since = now.checked_sub(Duration::from_secs(30)).unwrap();
        let pace = Pace { printed: now, start: Some((40, since)) };
        let left = pace.left(60, 100).unwrap();
        assert!((left.as_secs_f64() - 60.0).abs() < 1.0, "{left:?}");
        assert_eq!(pace.left(40, 100), None);
        assert_eq!(Pace { printed: now, start: None }.left(5, 10), None);
    }
}
