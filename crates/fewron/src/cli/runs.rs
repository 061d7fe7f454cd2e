//! Arguments of the command that shows what was measured: runs.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};

pub(super) const RUNS_EXAMPLES: &str = "\
Examples:
  fewron runs                                 the newest twenty
  fewron runs --kind eval --model smollm2 --since 7d
  fewron runs show 12
  fewron runs resume 12
  fewron runs export --kind bench --csv speeds.csv
  fewron runs history --model smollm2 --since 90d -o history.html
  fewron runs delete --state interrupted --yes
  fewron compare 12 15 --a gate@0.5 --b gate@0.5

Every sweep, eval, bench, calibrate, attribute and neurons is kept, with its settings, hashes, machine, the commit of
fewron and all its results, in runs/runs.db of the cache folder; FEWRON_RUNS names another folder, or
is `off`. Wherever a command takes the JSON of a run it also takes the run's number, or `latest`.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RunsCommand>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, the newest first
    List(ListArgs),
    /// Show everything about a run
    Show(ShowArgs),
    /// Go on with a run that was interrupted
    Resume(ResumeArgs),
    /// Write the numbers of runs as CSV or JSON
    Export(ExportArgs),
    /// Draw quality and speed over time as an HTML page
    History(HistoryArgs),
    /// Take runs out of the store
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Show the newest N
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Print the list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which runs.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Of this command
    #[arg(long, value_name = "COMMAND")]
    pub(crate) kind: Option<String>,
    /// Of a model with this text in its name
    #[arg(long, value_name = "TEXT")]
    pub(crate) model: Option<String>,
    /// In this state
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<StateArg>,
    /// Started since: an age as 7d or 12h, or a date as 2026-11-01
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub(crate) since: Option<String>,
    /// With this task
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<String>,
    /// With this variant: dense, gate@0.5, …
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
    /// With this metric
    #[arg(long, value_name = "NAME")]
    pub(crate) metric: Option<String>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StateArg {
    /// A process is at work on it
    Running,
    /// It has come to its end
    Done,
    /// An error ended it
    Failed,
    /// It was stopped or killed
    Interrupted,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Number of the run, or `latest`
    pub(crate) run: String,
    /// Print everything as JSON, the whole record too
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// Number of the run
    pub(crate) run: i64,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Numbers of the runs (default: all)
    pub(crate) runs: Vec<i64>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Write one row for each number as CSV, `-` for stdout
    #[arg(long, value_name = "FILE", required_unless_present = "json")]
    pub(crate) csv: Option<PathBuf>,
    /// Write the numbers as JSON, `-` for stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Draw the newest N numbers
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub(crate) limit: usize,
    /// The page to write
    #[arg(short, long, value_name = "FILE", default_value = "history.html")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Numbers of the runs
    pub(crate) runs: Vec<i64>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Do it; without this the runs are only shown
    #[arg(long)]
    pub(crate) yes: bool,
}

/// A time from an age or a date, as RFC 3339 in UTC.
fn parse_since(text: &str) -> Result<String, String> {
    let ago = |age: Duration| SystemTime::now().checked_sub(age);
    let time = match humantime::parse_duration(text) {
        Ok(age) => ago(age),
        Err(_) => humantime::parse_rfc3339_weak(text)
            .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")))
            .ok(),
    };
    let shown = |time| humantime::format_rfc3339_millis(time).to_string();
    time.map(shown).ok_or_else(|| format!("`{text}` is no age as 7d, and no date as 2026-11-01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(parse_since("2026-11-01").unwrap(), "2026-11-01T00:00:00.000Z");
        assert_eq!(parse_since("2026-11-01T12:30:00Z").unwrap(), "2026-11-01T12:30:00.000Z");
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        assert!(
            parse_since("7d").unwrap() < now
                && parse_since("1h").unwrap() > parse_since("2h").unwrap()
        );
        for bad in ["yesterday", "2026-13-01", "-3d"] {
            assert!(parse_since(bad).unwrap_err().contains("no age"), "{bad}");
        }
    }
}
