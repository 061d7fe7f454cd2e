//! The points of a run, grouped into one series per metric or policy (and scope).

use fewron_eval::record::{Interval, Point, SweepRun};

/// Distinguishable styles: colour, dash and marker. The style sheet defines the colours.
pub(super) const SLOTS: usize = 9;

/// Styles that known names always get, so that two reports can be laid side by side.
const RESERVED: [(&str, usize); 9] = [
    ("cor-gxo", 0),
    ("magnitude", 1),
    ("gxo", 2),
    ("gradient", 3),
    ("snip", 4),
    ("fisher", 5),
    ("ig", 6),
    ("wina", 7),
    ("random", 8),
];

/// All points of one metric or policy, by rising ratio.
pub(super) struct Series<'a> {
    /// Metric or policy.
    pub(super) name: &'a str,
    /// The name, with the scope where the run has several.
    pub(super) label: String,
    /// Style, below [`SLOTS`].
    pub(super) slot: usize,
    /// Points by rising ratio.
    pub(super) points: Vec<&'a Point>,
}

impl<'a> Series<'a> {
    /// The point at `ratio`.
    pub(super) fn at(&self, ratio: f32) -> Option<&'a Point> {
        self.points.iter().copied().find(|point| same_ratio(point.ratio, ratio))
    }

    /// Whether both have the same agreement at the same ratios: one line hides the other.
    pub(super) fn coincides(&self, other: &Series<'_>) -> bool {
        self.points.len() == other.points.len()
            && self.points.iter().zip(&other.points).all(|(a, b)| {
                same_ratio(a.ratio, b.ratio) && (a.agreement.mean - b.agreement.mean).abs() < 1e-9
            })
    }
}

/// Whether two nominal ratios are the same but for rounding.
pub(super) fn same_ratio(a: f32, b: f32) -> bool {
    (a - b).abs() < 1e-4
}

/// Whether an interval holds a number at all.
pub(super) fn measured(interval: &Interval) -> bool {
    interval.mean.is_finite()
}

/// Groups the points, best first: by mean agreement over the ratios that every series has.
pub(super) fn group(run: &SweepRun) -> Vec<Series<'_>> {
    let mut series = of_run(run);
    arrange(&mut series);
    series
}

/// Series of two runs in one list, each named with its protocol.
pub(super) fn group_both<'a>(a: &'a SweepRun, b: &'a SweepRun) -> Vec<Series<'a>> {
    let mut series = Vec::new();
    for run in [a, b] {
        series.extend(
            of_run(run)
                .into_iter()
                .map(|one| Series { label: format!("{} · {}", one.label, run.protocol), ..one }),
        );
    }
    arrange(&mut series);
    series
}

/// One series for each metric or policy and scope of a run.
fn of_run(run: &SweepRun) -> Vec<Series<'_>> {
    let mut series: Vec<Series<'_>> = Vec::new();
    let scopes = run.points.iter().any(|point| point.scope != run.points[0].scope);
    for point in run.points.iter().filter(|point| point.ratio.is_finite()) {
        let known = series.iter_mut().find(|series| {
            series.name == point.name() && series.points.iter().all(|p| p.scope == point.scope)
        });
        match known {
            Some(series) => series.points.push(point),
            None => series.push(new_series(point, scopes)),
        }
    }
    series
}

/// Gives series their styles and puts the best first.
fn arrange(series: &mut [Series<'_>]) {
    for series in &mut *series {
        series.points.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    }
    assign_slots(series);
    let common: Vec<f32> = ratios(series)
        .into_iter()
        .filter(|ratio| series.iter().all(|series| series.at(*ratio).is_some()))
        .collect();
    series.sort_by(|a, b| mean_agreement(b, &common).total_cmp(&mean_agreement(a, &common)));
}

/// All nominal ratios, rising.
pub(super) fn ratios(series: &[Series<'_>]) -> Vec<f32> {
    let points = series.iter().flat_map(|one| &one.points);
    let mut ratios: Vec<f32> = points.map(|point| point.ratio).collect();
    ratios.sort_by(f32::total_cmp);
    ratios.dedup_by(|a, b| same_ratio(*a, *b));
    ratios
}

fn new_series(point: &Point, scopes: bool) -> Series<'_> {
    let name = point.name();
    let label = if scopes { format!("{name} ({})", point.scope) } else { name.to_owned() };
    Series { name, label, slot: SLOTS, points: vec![point] }
}

fn assign_slots(series: &mut [Series<'_>]) {
    let mut taken = [false; SLOTS];
    for one in series.iter_mut() {
        let reserved = RESERVED.iter().find(|(name, _)| *name == one.name);
        if let Some((_, slot)) = reserved.filter(|(_, slot)| !taken[*slot]) {
            one.slot = *slot;
            taken[*slot] = true;
        }
    }
    for (position, one) in series.iter_mut().enumerate().filter(|(_, one)| one.slot == SLOTS) {
        let free = (0..SLOTS).find(|slot| !taken[*slot]).unwrap_or(position % SLOTS);
        one.slot = free;
        taken[free] = true;
    }
}

fn mean_agreement(series: &Series<'_>, common: &[f32]) -> f64 {
    let points = series
        .points
        .iter()
        .filter(|point| common.is_empty() || common.iter().any(|r| same_ratio(*r, point.ratio)));
    let values: Vec<f64> =
        points.map(|point| point.agreement.mean).filter(|mean| mean.is_finite()).collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
