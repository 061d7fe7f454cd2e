//! `fewron sweep`: quality against sparsity.

use std::num::NonZeroUsize;

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Table, presets};
use fewron_eval::data::Dataset;
use fewron_eval::record::{Interval, Point, SweepRun};
use fewron_eval::sweep::{Masks, RuntimeMask, SweepConfig};
use fewron_model::Pool;
use fewron_sparsity::{Calibration, Plan, PolicyError, PolicyKind, Selection};
use sha2::{Digest, Sha256};

use crate::Outcome;
use crate::cli::{Policy, Protocol, SweepArgs};
use crate::loaded::{self, Loaded};
use crate::mask::Masking;
use crate::store::hex;
use crate::study::{Study, write_json};
use crate::ui;

pub(crate) fn run(args: &SweepArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.check()?;
    let data = Dataset::load(&args.data.data, args.data.limit.map(NonZeroUsize::get))?;
    let mut config = config(args)?;
    let loaded = Loaded::from_args(&args.model)?;
    let plans = match args.protocol {
        Protocol::Oracle => Vec::new(),
        Protocol::Runtime => {
            let (masks, plans) = runtime(args, &config, &loaded, threads)?;
            config.masks = Masks::Runtime(masks);
            plans
        }
    };
    let study = Study {
        loaded: &loaded,
        config,
        plans,
        data: &data,
        out: args.out.as_deref(),
        restart: args.restart,
        threads,
    };
    let (run, folder) = study.run()?;
    if let Some(path) = &args.json {
        write_json(&run, path)?;
    }
    if args.json.as_deref() != Some(std::path::Path::new("-")) {
        println!("{}", table(&run));
    }
    let shown = folder.display();
    ui::note(&format!("results in {shown}; `fewron report {shown} -o report.html` draws them"));
    Ok(Outcome::Done)
}

fn config(args: &SweepArgs) -> Result<SweepConfig> {
    let masks = match args.protocol {
        Protocol::Oracle => {
            let metrics = args.metrics();
            Masks::Oracle(metrics.iter().map(|m| Ok(m.as_str().parse()?)).collect::<Result<_>>()?)
        }
        // Filled in once the model is there.
        Protocol::Runtime => Masks::Runtime(Vec::new()),
    };
    Ok(SweepConfig {
        masks,
        ratios: args.ratios.clone(),
        scope: args.scope.as_str().parse()?,
        selection: args.select.as_str().parse()?,
        correction: args.attribution.correction,
        ig_steps: args.attribution.ig_steps.get(),
        max_new_tokens: args.data.max_new_tokens.get(),
        seed: args.seed,
        raw: args.data.raw,
    })
}

/// The policies and plan files of a runtime sweep, and their plans by ratio.
fn runtime(
    args: &SweepArgs,
    config: &SweepConfig,
    loaded: &Loaded,
    threads: Option<NonZeroUsize>,
) -> Result<(Vec<RuntimeMask>, Vec<Vec<Plan>>)> {
    let policies = args.policies(loaded.model.config().gated);
    anyhow::ensure!(
        !policies.contains(&Policy::Dense),
        "policy dense is what the others are compared with; leave it out of --policies"
    );
    let pool = loaded::pool(threads);
    let calibration = match policies.is_empty() {
        true => Calibration::default(),
        false => loaded.calibration(&pool)?,
    };
    let (mut masks, mut plans) = (Vec::new(), Vec::new());
    for policy in policies {
        let kind = policy.as_str().parse()?;
        let shape = loaded.model.config();
        let (scope, selection) = (config.scope, config.selection);
        let plan = |&ratio: &f32| Plan::uniform(shape, kind, scope, selection, ratio, &calibration);
        plans.push(config.ratios.iter().map(plan).collect::<Result<_, _>>()?);
        masks.push(RuntimeMask { name: policy.to_string(), plan: None });
    }
    for made in plans_by_policy(args, loaded, &pool)? {
        let plan = |&ratio: &f32| made.at(config.selection, ratio);
        plans.push(config.ratios.iter().map(plan).collect::<Result<_, _>>()?);
        let plan = hex(&made.hash.finalize());
        masks.push(RuntimeMask { name: made.policy.to_string(), plan: Some(plan) });
    }
    Ok((masks, plans))
}

/// Calibrated plans of one policy.
struct MadePlans {
    policy: PolicyKind,
    /// With the shares of neurons off that they were made for.
    plans: Vec<(f32, Plan)>,
    /// Of their files.
    hash: Sha256,
}

impl MadePlans {
    /// The plan that was made for a ratio, as it is; else the nearest one's scores at that ratio.
    fn at(&self, selection: Selection, ratio: f32) -> Result<Plan, PolicyError> {
        let distance = |(made_for, _): &&(f32, Plan)| (made_for - ratio).abs();
        let nearest = self.plans.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        match nearest {
            Some(made) if distance(&made) < 1e-4 => Ok(made.1.clone()),
            Some((_, plan)) => plan.at_ratio(selection, ratio),
            None => unreachable!("a policy is there for a plan"),
        }
    }
}

fn plans_by_policy(args: &SweepArgs, loaded: &Loaded, pool: &Pool) -> Result<Vec<MadePlans>> {
    let mut made: Vec<MadePlans> = Vec::new();
    for path in &args.plan {
        let Masking { plan, record, .. } = Masking::from_file(path, loaded, pool)?;
        let policy = plan.policy;
        if made.iter().all(|known| known.policy != policy) {
            made.push(MadePlans { policy, plans: Vec::new(), hash: Sha256::new() });
        }
        for known in made.iter_mut().filter(|known| known.policy == policy) {
            let made_for = record.as_ref().map_or(f32::NAN, |record| record.sparsity);
            known.plans.push((made_for, plan.clone()));
            known.hash.update(std::fs::read(path)?);
        }
    }
    Ok(made)
}

/// All points of a run.
fn table(run: &SweepRun) -> String {
    let kind = if run.protocol == "oracle" { "metric" } else { "policy" };
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        kind,
        "protocol",
        "scope",
        "ratio",
        "MLP off",
        "heads off",
        "bytes",
        "agreement (95%)",
        "KL (95%)",
        "BLEU (95%)",
    ]);
    for point in &run.points {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(point.name()),
            Cell::new(&run.protocol),
            Cell::new(&point.scope),
            right(format!("{:.2}", point.ratio)),
            right(percent(point.actual.mlp)),
            right(percent(point.actual.heads)),
            right(percent(point.actual.bytes)),
            right(interval(&point.agreement, 3)),
            right(interval(&point.kl, 3)),
            right(interval(&point.bleu, 1)),
        ]);
    }
    table.to_string()
}

fn percent(share: f32) -> String {
    format!("{:.1}%", 100.0 * share)
}

fn interval(i: &Interval, digits: usize) -> String {
    format!("{:.digits$} [{:.digits$}, {:.digits$}]", i.mean, i.low, i.high)
}

/// One number for every metric (rows) and ratio (columns).
pub(crate) fn matrix(run: &SweepRun, value: impl Fn(&Point) -> String) -> String {
    let mut names: Vec<&str> = run.points.iter().map(Point::name).collect();
    names.dedup();
    let mut ratios: Vec<f32> = run.points.iter().map(|p| p.ratio).collect();
    ratios.sort_by(f32::total_cmp);
    ratios.dedup();
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let header = ratios.iter().map(|r| format!("{:.0}% off", 100.0 * r));
    table.set_header(std::iter::once(String::new()).chain(header));
    for name in names {
        let cell = |ratio: &f32| {
            let point = run.points.iter().find(|p| p.name() == name && p.ratio == *ratio);
            Cell::new(point.map(&value).unwrap_or_default()).set_alignment(CellAlignment::Right)
        };
        table.add_row(std::iter::once(Cell::new(name)).chain(ratios.iter().map(cell)));
    }
    table.to_string()
}
