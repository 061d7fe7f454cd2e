//! The run-time mask that `--plan`, or `--policy` and `--sparsity`, ask for, and what it kept.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use fewron_model::{Model, ModelConfig, Pool};
use fewron_sparsity::plan::file::{PlanError, from_bytes, read_record};
use fewron_sparsity::plan::record::{PlanModel, PlanRecord};
use fewron_sparsity::{Calibration, Counted, Plan, PolicyKind, Scope, Selection};

use crate::cli::{self, MaskArgs};
use crate::loaded::Loaded;
use crate::store::{self, ModelFile, PLANS, PlanEntry};

/// A policy that counts what it keeps.
pub(crate) type Mask<'a> = Counted<&'a Plan>;

/// How a command masks its tokens: a plan, and what it goes by.
pub(crate) struct Masking {
    /// `gate@0.5` and the like, or the plan's file.
    pub(crate) label: String,
    pub(crate) plan: Plan,
    /// What a plan file says about itself.
    pub(crate) record: Option<PlanRecord>,
    /// What it masks.
    pub(crate) model: Arc<Model>,
}

impl Masking {
    /// What the arguments ask for; `None` for the dense model.
    ///
    /// # Errors
    /// For a plan that is not one for this model, and a combination that does not exist.
    pub(crate) fn new(args: &MaskArgs, loaded: &Loaded, pool: &Arc<Pool>) -> Result<Option<Self>> {
        match (&args.plan, args.policy) {
            (Some(path), _) => Self::from_file(path, loaded, pool).map(Some),
            (None, cli::Policy::Dense) => Ok(None),
            (None, policy) => Self::uniform(policy, args.ratio(), loaded, pool).map(Some),
        }
    }

    /// A plan from its file; `auto` is the one beside the model.
    ///
    /// # Errors
    /// When it cannot be read, or is not one for this model.
    pub(crate) fn from_file(path: &Path, loaded: &Loaded, pool: &Pool) -> Result<Self> {
        let model = plan_model(loaded)?;
        let path = found_plan(path, &loaded.file, &model)?;
        let bytes = read_plan(&path)?;
        let (config, isa) = (loaded.model.config(), loaded.model.isa());
        let (plan, record) = from_bytes(&bytes, &model, config, isa, pool)
            .map_err(|error| bad_plan(&path, &error))?;
        loaded.check_changes(&bytes).with_context(|| path.display().to_string())?;
        let label = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { label, plan, record: Some(record), model: Arc::clone(&loaded.model) })
    }

    /// A plan that is no file yet.
    pub(crate) fn of_plan(plan: Plan, loaded: &Loaded) -> Self {
        let label = plan.policy.to_string();
        Self { label, plan, record: None, model: Arc::clone(&loaded.model) }
    }

    /// A policy at one ratio for all layers, calibrated on the built-in text.
    fn uniform(policy: cli::Policy, ratio: f32, loaded: &Loaded, pool: &Arc<Pool>) -> Result<Self> {
        let kind: PolicyKind = policy.as_str().parse()?;
        let calibration = match kind {
            PolicyKind::Gate => loaded.calibration(pool)?,
            _ => Calibration::default(),
        };
        let config = loaded.model.config();
        let plan = Plan::uniform(config, kind, Scope::Mlp, Selection::Layer, ratio, &calibration)?;
        let label = format!("{policy}@{ratio}");
        Ok(Self { label, plan, record: None, model: Arc::clone(&loaded.model) })
    }

    /// A mask that counts what it keeps.
    pub(crate) fn mask(&self) -> Mask<'_> {
        Counted::new(&self.plan, &self.model)
    }
}

/// The model as plans know it.
///
/// # Errors
/// When its files cannot be hashed.
pub(crate) fn plan_model(loaded: &Loaded) -> Result<PlanModel> {
    let quantized = loaded.quantized().map(|dtype| dtype.to_string());
    Ok(PlanModel { quantized, ..plan_model_of(&loaded.file, loaded.model.config())? })
}

/// A model file that is not loaded, as plans know it.
///
/// # Errors
/// When it cannot be hashed.
pub(crate) fn plan_model_of(file: &ModelFile, config: &ModelConfig) -> Result<PlanModel> {
    let shown = file.path.display();
    Ok(PlanModel {
        name: file.name.clone(),
        sha256: file.sha256().with_context(|| format!("cannot hash {shown}"))?,
        quantized: None,
        layers: config.layers.len(),
        hidden: config.hidden,
        intermediate: config.intermediate,
        heads: config.heads,
    })
}

/// What a plan file says about itself, without its tensors.
///
/// # Errors
/// When it cannot be read or is no plan.
pub(crate) fn read_plan_record(path: &Path) -> Result<PlanRecord> {
    read_record(&read_plan(path)?).map_err(|error| bad_plan(path, &error))
}

/// The bytes of a plan file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_plan(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| {
        format!(
            "cannot read the plan {}{}; `fewron calibrate` makes plans, `fewron models` lists those that \
             come with it",
            path.display(),
            store::plan_hint(path)
        )
    })
}

/// The plan that is meant: `auto` is the one beside the model.
///
/// # Errors
/// When `auto` finds none.
pub(crate) fn found_plan<'a>(
    given: &'a Path,
    file: &ModelFile,
    model: &PlanModel,
) -> Result<Cow<'a, Path>> {
    let path = file.plan(given);
    ensure!(
        path == given || path.exists(),
        "there is no plan beside the model ({}); `fewron calibrate` makes one there{}",
        path.display(),
        shipped_for(model)
    );
    Ok(path)
}

/// The plans of a model that come with fewron, in words.
fn shipped_for(model: &PlanModel) -> String {
    let is_it = |of: &PlanModel| of.sha256 == model.sha256 && of.quantized == model.quantized;
    let record = |plan: &PlanEntry| read_plan_record(&store::source_path(plan.file));
    let fits = |plan: &&PlanEntry| record(plan).is_ok_and(|record| is_it(&record.model));
    let names = PLANS.iter().filter(fits).map(|plan| format!("--plan {}", plan.name));
    match names.collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => names,
        names => format!(", and with fewron comes {names}"),
    }
}

/// A problem of a plan, with the file that has it.
pub(crate) fn bad_plan(path: &Path, error: &PlanError) -> anyhow::Error {
    anyhow!("plan {} {error}", path.display())
}

/// Bytes of the gate projections of all layers.
pub(crate) fn gate_bytes(loaded: &Loaded) -> usize {
    let model = &loaded.model;
    (0..model.config().layers.len()).map(|layer| model.layer_bytes(layer).gate).sum()
}
