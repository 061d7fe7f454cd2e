//! The model of a file, and those that recovered plans make of it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fewron_sparsity::plan::changes::NO_CHANGES;

use super::Loaded;
use super::wishes::{self, Wishes};
use crate::cli::ModelArgs;
use crate::store;
use crate::ui;

/// A model as its file has it, and once more for each way in which plans change its weights.
pub(crate) struct Models {
    pub(crate) original: Loaded,
    recovered: Vec<Loaded>,
    /// With the id of what they change.
    plans: Vec<(PathBuf, u64)>,
}

impl Models {
    /// Loads what the plans need, each laid out for its own: see [`Loaded::for_plans`]. All models share the
    /// budget in equal parts.
    ///
    /// # Errors
    /// As [`Loaded::open`].
    pub(crate) fn open(args: &ModelArgs, plans: &[PathBuf]) -> Result<Self> {
        let file = store::resolve(&args.name)?;
        let wishes = plans.iter().map(|path| Wishes::of(path, &file, args.quantize));
        let wishes: Vec<Wishes> = wishes.collect();
        let mut ids: Vec<u64> = wishes.iter().map(|wishes| wishes.id).collect();
        let plans = plans.iter().cloned().zip(ids.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| *id != NO_CHANGES);
        let budget = args.resident_budget_bytes().map(|bytes| bytes / (1 + ids.len()));
        if let (Some(bytes), 1..) = (budget, ids.len()) {
            let (models, each) = (1 + ids.len(), ui::show_bytes(bytes as f64));
            ui::note(&format!("{models} models share --resident-budget: {each} each"));
        }
        let options =
            |id: u64| wishes::options(wishes.iter().filter(|wishes| wishes.id == id), budget);
        let original = Loaded::open_with(file, args.quantize, options(NO_CHANGES)?, NO_CHANGES)?;
        let recovered = ids.into_iter().map(|id| original.again(options(id)?, id));
        let recovered = recovered.collect::<Result<_>>()?;
        Ok(Self { original, recovered, plans })
    }

    /// The model that a plan masks, with the changes that it makes; the original without one.
    pub(crate) fn of(&self, plan: Option<&Path>) -> &Loaded {
        let known = self.plans.iter().find(|(known, _)| Some(known.as_path()) == plan);
        let id = known.map_or(NO_CHANGES, |(_, id)| *id);
        self.recovered.iter().find(|loaded| loaded.changes == id).unwrap_or(&self.original)
    }
}
