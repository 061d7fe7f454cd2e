//! The run-time mask that `--plan`, or `--policy` and `--sparsity`, ask for, and what it kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use fewron_model::{Choice, InputSite, Logits, MaskSource, ModelError, Pool, Session};
use fewron_sparsity::plan::file::{PlanError, from_bytes, read_record};
use fewron_sparsity::plan::record::{PlanModel, PlanRecord};
use fewron_sparsity::{Calibration, Plan, Policy, PolicyKind, Scope, Selection};

use crate::cli::{self, MaskArgs};
use crate::loaded::Loaded;

/// How a command masks its tokens: a plan, and what it goes by.
pub(crate) struct Masking {
    /// `gate@0.5` and the like, or the plan's file.
    pub(crate) label: String,
    pub(crate) plan: Plan,
    /// What a plan file says about itself.
    pub(crate) record: Option<PlanRecord>,
    site_bytes: Vec<[usize; 4]>,
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
        let path = if path == Path::new("auto") { beside(loaded)? } else { path.to_owned() };
        let bytes = read_plan(&path)?;
        let (config, isa) = (loaded.model.config(), loaded.model.isa());
        let (plan, record) = from_bytes(&bytes, &plan_model(loaded)?, config, isa, pool)
            .map_err(|error| bad_plan(&path, &error))?;
        let label = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { label, plan, record: Some(record), site_bytes: site_bytes(loaded) })
    }

    /// A plan that is no file yet.
    pub(crate) fn of_plan(plan: Plan, loaded: &Loaded) -> Self {
        let label = plan.policy.to_string();
        Self { label, plan, record: None, site_bytes: site_bytes(loaded) }
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
        Ok(Self { label, plan, record: None, site_bytes: site_bytes(loaded) })
    }

    /// A mask that counts what it keeps.
    pub(crate) fn mask(&self) -> Mask<'_> {
        let layers = self.plan.layers.len();
        Mask {
            policy: Policy::new(&self.plan),
            kept: vec![0; layers],
            seen: vec![0; layers],
            site_bytes: self.site_bytes.clone(),
        }
    }
}

/// Bytes of the matrices that read each input, by layer.
fn site_bytes(loaded: &Loaded) -> Vec<[usize; 4]> {
    let layers = 0..loaded.model.config().layers.len();
    let of = |layer| InputSite::ALL.map(|site| loaded.model.site_bytes(layer, site));
    layers.map(of).collect()
}

/// The model as plans know it.
///
/// # Errors
/// When its files cannot be hashed.
pub(crate) fn plan_model(loaded: &Loaded) -> Result<PlanModel> {
    let config = loaded.model.config();
    Ok(PlanModel {
        name: loaded.file.name.clone(),
        sha256: loaded.sha256()?,
        quantized: loaded.quantized().map(|dtype| dtype.to_string()),
        layers: config.layers.len(),
        hidden: config.hidden,
        intermediate: config.intermediate,
        heads: config.heads,
    })
}

/// Where `--plan auto` looks: beside the model, `MODEL.fewron`.
pub(crate) fn path_beside(loaded: &Loaded) -> PathBuf {
    crate::loaded::beside(&loaded.file.path)
}

/// What a plan file says about itself, without its tensors.
///
/// # Errors
/// When it cannot be read or is no plan.
pub(crate) fn read_plan_record(path: &Path) -> Result<PlanRecord> {
    read_record(&read_plan(path)?).map_err(|error| bad_plan(path, &error))
}

fn read_plan(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| {
        format!("cannot read the plan {}; `fewron calibrate` makes plans", path.display())
    })
}

fn beside(loaded: &Loaded) -> Result<PathBuf> {
    let path = path_beside(loaded);
    ensure!(
        path.exists(),
        "there is no plan beside the model ({}); `fewron calibrate` makes one there",
        path.display()
    );
    Ok(path)
}

/// A problem of a plan, with the file that has it.
pub(crate) fn bad_plan(path: &Path, error: &PlanError) -> anyhow::Error {
    anyhow!("plan {} {error}", path.display())
}

/// A policy that counts what it keeps.
#[derive(Debug)]
pub(crate) struct Mask<'a> {
    policy: Policy<'a>,
    /// Neurons kept, by layer, over all masked tokens.
    kept: Vec<u64>,
    /// Neurons seen.
    seen: Vec<u64>,
    /// Bytes of the matrices that read each input, by layer.
    site_bytes: Vec<[usize; 4]>,
}

/// Shares of MLP neurons that ran at masked tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Active {
    /// Over all layers.
    pub(crate) mean: f64,
    /// By layer.
    pub(crate) layers: Vec<f64>,
}

impl<'a> Mask<'a> {
    /// Runs tokens dense, as prompts run: see [`Policy::read_prompt`].
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub(crate) fn read_prompt<'s>(
        &mut self,
        session: &'s mut Session,
        tokens: &[u32],
        wanted: Logits,
    ) -> Result<&'s [f32], ModelError> {
        self.policy.read_prompt(session, tokens, wanted)
    }

    /// Whether the policy looks at the whole prompt at once.
    pub(crate) fn reads_prompts(&self) -> bool {
        self.policy.plan().policy == PolicyKind::Prompt
    }

    /// Takes the share of neurons kept since the last call; `None` if nothing was masked.
    pub(crate) fn take_active(&mut self) -> Option<Active> {
        let (kept, seen) = (&self.kept, &self.seen);
        let any = seen.iter().any(|&seen| seen > 0);
        let share = |(&kept, &seen): (&u64, &u64)| match seen {
            0 => 1.0,
            seen => kept as f64 / seen as f64,
        };
        let layers: Vec<f64> = kept.iter().zip(seen).map(share).collect();
        let mean = layers.iter().sum::<f64>() / layers.len() as f64;
        self.kept.fill(0);
        self.seen.fill(0);
        any.then_some(Active { mean, layers })
    }

    /// Weight bytes that a token reads with these shares of active neurons.
    pub(crate) fn bytes_per_token(&self, loaded: &Loaded, active: &Active) -> f64 {
        self.policy.plan().bytes_per_token(&loaded.model, |layer| active.layers[layer])
    }

    /// Operations of a token behind `kv_length` others with these shares of active neurons.
    pub(crate) fn flops_per_token(
        &self,
        loaded: &Loaded,
        active: &Active,
        kv_length: usize,
    ) -> f64 {
        let plan = self.policy.plan();
        plan.flops_per_token(&loaded.model, |layer| active.layers[layer], kv_length)
    }

    fn count(&mut self, layer: usize, kept: usize, of: usize) {
        self.kept[layer] += kept as u64;
        self.seen[layer] += of as u64;
    }
}

/// Bytes of the gate projections of all layers.
pub(crate) fn gate_bytes(loaded: &Loaded) -> usize {
    let model = &loaded.model;
    (0..model.config().layers.len()).map(|layer| model.layer_bytes(layer).gate).sum()
}

impl MaskSource for Mask<'_> {
    fn inner(&mut self, token: usize) -> Option<(&mut dyn MaskSource, usize)> {
        Some((&mut self.policy, token))
    }

    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let choice = self.policy.neurons(layer, token, kept);
        let neurons = self.policy.plan().neurons;
        match choice {
            Choice::Dense if self.policy.plan().policy == PolicyKind::Input => {}
            Choice::Dense => self.count(layer, neurons, neurons),
            Choice::Listed => self.count(layer, kept.len(), neurons),
            _ => {}
        }
        choice
    }

    fn thin(&mut self, site: InputSite, layer: usize, token: usize, values: &mut [f32]) {
        self.policy.thin(site, layer, token, values);
        let plan = self.policy.plan();
        if plan.layers[layer].input(site).is_some() {
            // The down projection counts beside what was computed, so that the share is the mean of both;
            // where all inputs are cut, each counts by the bytes that read it.
            let bytes = match plan.policy {
                PolicyKind::Input => self.site_bytes[layer][site as usize] / values.len(),
                _ => 1,
            };
            let on = values.iter().filter(|value| **value != 0.0).count();
            self.count(layer, on * bytes, values.len() * bytes);
        }
    }

    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        self.policy.select_neurons(layer, token, values, kept);
        self.count(layer, kept.len(), values.len());
    }
}
