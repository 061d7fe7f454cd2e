//! Values that may be joined by a line: of one model, task, metric and variant, and for speeds of one
//! processor.

use std::time::UNIX_EPOCH;

use crate::history::HistoryPoint;

/// One of the small multiples.
pub(super) struct Figure<'a> {
    pub(super) model: &'a str,
    pub(super) task: &'a str,
    pub(super) metric: &'a str,
    /// Of speeds, the processor.
    pub(super) cpu: Option<&'a str>,
    pub(super) speed: bool,
    /// Runs that have a value here, in order.
    pub(super) runs: Vec<Run<'a>>,
    pub(super) lines: Vec<Line<'a>>,
}

/// A run of a figure.
pub(super) struct Run<'a> {
    pub(super) id: &'a str,
    pub(super) finished_at: &'a str,
    /// Seconds since 1970; of a time that cannot be read, those of the run before.
    pub(super) at_s: f64,
}

/// The values of a variant, in order.
pub(super) struct Line<'a> {
    pub(super) variant: &'a str,
    pub(super) points: Vec<&'a HistoryPoint>,
}

impl<'a> Figure<'a> {
    fn key(&self) -> (&'a str, &'a str, &'a str, Option<&'a str>) {
        (self.model, self.task, self.metric, self.cpu)
    }

    /// Place of a run among the figure's, 0..1: by order, and by time.
    pub(super) fn places(&self, run: &str) -> (f64, f64) {
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.5 };
        let at = self.runs.iter().position(|known| known.id == run).unwrap_or(0);
        let (first, last) = match &self.runs[..] {
            [first, .., last] => (first.at_s, last.at_s),
            _ => (0.0, 0.0),
        };
        let order = share(at as f64, self.runs.len() as f64 - 1.0);
        (order, share(self.runs[at].at_s - first, last - first))
    }
}

/// Finite values by time and run.
pub(super) fn in_order(points: &[HistoryPoint]) -> Vec<&HistoryPoint> {
    let mut points: Vec<&HistoryPoint> = points.iter().filter(|p| p.value.is_finite()).collect();
    points.sort_by_key(|point| (&point.finished_at, &point.run));
    points
}

/// The figures of points in order, those of one model together.
pub(super) fn figures<'a>(points: &[&'a HistoryPoint]) -> Vec<Figure<'a>> {
    let mut figures: Vec<Figure<'a>> = Vec::new();
    for point in points {
        let cpu = point.is_speed().then_some(point.cpu.as_str());
        let own = (point.model.as_str(), point.task.as_str(), point.metric.as_str(), cpu);
        let at = figures.iter().position(|figure| figure.key() == own).unwrap_or_else(|| {
            figures.push(Figure {
                model: own.0,
                task: own.1,
                metric: own.2,
                cpu,
                speed: point.is_speed(),
                runs: Vec::new(),
                lines: Vec::new(),
            });
            figures.len() - 1
        });
        add(&mut figures[at], point);
    }
    figures.sort_by(|a, b| (a.model, a.task).cmp(&(b.model, b.task)));
    figures
}

fn add<'a>(figure: &mut Figure<'a>, point: &'a HistoryPoint) {
    if figure.runs.iter().all(|run| run.id != point.run) {
        let before = figure.runs.last().map_or(0.0, |run| run.at_s);
        let at_s = seconds(&point.finished_at).unwrap_or(before);
        figure.runs.push(Run { id: &point.run, finished_at: &point.finished_at, at_s });
    }
    match figure.lines.iter_mut().find(|line| line.variant == point.variant) {
        Some(line) => line.points.push(point),
        None => figure.lines.push(Line { variant: &point.variant, points: vec![point] }),
    }
}

fn seconds(time: &str) -> Option<f64> {
    let time = humantime::parse_rfc3339_weak(time).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

/// `2026-01-15T09:30:00Z` → `2026-01-15`.
pub(super) fn day(time: &str) -> &str {
    time.split(['T', ' ']).next().unwrap_or(time)
}

/// `2026-01-15T09:30:00Z` → `2026-01-15 09:30`.
pub(super) fn minute(time: &str) -> String {
    let minute: String = time.chars().take(16).collect();
    minute.replace('T', " ")
}

/// The first letters of a commit.
pub(super) fn short(commit: &str) -> &str {
    commit.char_indices().nth(10).map_or(commit, |(at, _)| &commit[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(run: &str, time: &str, cpu: &str, kind: &str) -> HistoryPoint {
        HistoryPoint {
            run: run.to_owned(),
            kind: kind.to_owned(),
            finished_at: time.to_owned(),
            model: "m".to_owned(),
            commit: None,
            cpu: cpu.to_owned(),
            task: String::new(),
            variant: "dense".to_owned(),
            metric: "decode_tok_s".to_owned(),
            value: 1.0,
            low: None,
            high: None,
        }
    }

    #[test]
    fn speeds_of_two_processors_are_two_figures_and_quality_is_one() {
        for (kind, expected) in [("bench", 2), ("eval", 1)] {
            let points = [
                point("a", "2026-01-01T00:00:00Z", "x", kind),
                point("b", "2026-01-02T00:00:00Z", "y", kind),
            ];
            assert_eq!(figures(&in_order(&points)).len(), expected);
        }
    }

    #[test]
    fn places_are_by_order_and_by_time() {
        let points = [
            point("c", "2026-01-11T00:00:00Z", "x", "bench"),
            point("a", "2026-01-01T00:00:00Z", "x", "bench"),
            point("b", "2026-01-02T00:00:00Z", "x", "bench"),
        ];
        let figures = figures(&in_order(&points));
        let places: Vec<(f64, f64)> = ["a", "b", "c"].map(|run| figures[0].places(run)).to_vec();
        assert_eq!(places, [(0.0, 0.0), (0.5, 0.1), (1.0, 1.0)]);
        let odd = [point("a", "yesterday", "x", "bench")];
        assert_eq!(self::figures(&in_order(&odd))[0].places("a"), (0.5, 0.5));
    }

    #[test]
    fn times_and_commits_are_short() {
        assert_eq!(minute("2026-01-15T09:30:00Z"), "2026-01-15 09:30");
        assert_eq!(day("2026-01-15T09:30:00Z"), "2026-01-15");
        assert_eq!((short("0123456789abcdef"), short("äöü")), ("0123456789", "äöü"));
    }
}
