//! Runs for people.

use comfy_table::{Cell, CellAlignment, Table, presets};
use fewron_runs::{PointOfRun, Run, State};

/// Characters of a command that a list shows.
const SHOWN: usize = 60;

/// A row for each run.
pub(super) fn list(runs: &[Run]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["run", "state", "started (UTC)", "model", "numbers", "command"]);
    for run in runs {
        let numbers = match (run.state, run.samples) {
            (State::Done, _) | (_, 0) => run.points.to_string(),
            (_, samples) => format!("{samples} samples"),
        };
        table.add_row([
            Cell::new(run.id).set_alignment(CellAlignment::Right),
            Cell::new(run.state),
            Cell::new(minute(&run.started_at)),
            Cell::new(&run.model.name),
            Cell::new(numbers).set_alignment(CellAlignment::Right),
            Cell::new(short(&run.command)),
        ]);
    }
    table.to_string()
}

/// Everything about one run but its results.
pub(super) fn about(run: &Run) -> String {
    let commit = run.tool.commit.as_deref().map_or(String::new(), |c| format!(" ({c})"));
    let machine = &run.machine;
    let mut lines = vec![
        ("run", format!("{}, {}, {}", run.id, run.kind, run.state)),
        ("started", run.started_at.clone()),
        ("ended", run.finished_at.clone().unwrap_or_default()),
        ("command", run.command.clone()),
        ("typed in", run.directory.clone()),
        ("model", format!("{} {}", run.model.name, run.model.sha256)),
        ("fewron", format!("{}{commit}", run.tool.version)),
        ("machine", format!("{}, {}, {} threads", machine.host, machine.cpu, machine.threads)),
        ("files", run.folder.clone().unwrap_or_default()),
        ("problem", run.problem.clone().unwrap_or_default()),
    ];
    if run.samples > 0 {
        lines.push(("kept", format!("{} samples; `fewron runs resume {}`", run.samples, run.id)));
    }
    let filled = lines.iter().filter(|(_, text)| !text.is_empty());
    filled.map(|(name, text)| format!("{name:<9} {text}\n")).collect()
}

/// A row for each number of one run.
pub(super) fn points(points: &[PointOfRun]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["task", "metric", "variant", "value", "from", "to"]);
    let right = |value: Option<f64>| {
        let text = value.map_or(String::new(), number);
        Cell::new(text).set_alignment(CellAlignment::Right)
    };
    for point in points.iter().map(|point| &point.point) {
        table.add_row([
            Cell::new(&point.task),
            Cell::new(&point.metric),
            Cell::new(&point.variant),
            right(Some(point.value)),
            right(point.low),
            right(point.high),
        ]);
    }
    table.to_string()
}

/// Four digits behind the point where they say something.
fn number(value: f64) -> String {
    if value.abs() >= 1e4 { format!("{value:.0}") } else { format!("{value:.4}") }
}

/// `2026-11-01 12:30` of RFC 3339.
fn minute(time: &str) -> String {
    time.get(..16).unwrap_or(time).replace('T', " ")
}

fn short(command: &str) -> String {
    let command = command.strip_prefix("fewron ").unwrap_or(command);
    match command.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command.to_owned(),
    }
}
