//! What plans want of a model before it is loaded.

use std::path::Path;

use anyhow::Result;
use fewron_kernels::DType;
use fewron_model::{Changes, LoadOptions, Residency};
use fewron_sparsity::PolicyKind;
use fewron_sparsity::plan::changes::{NO_CHANGES, read_changes};
use fewron_sparsity::plan::file::{read_frequency, read_record};

use crate::store::{Home, ModelFile};

/// How a plan wants a model to lie in memory, and what it changes.
#[derive(Default)]
pub(super) struct Wishes {
    /// Whether there is a plan of this model; what is wrong with another is told when it is used.
    pub(super) readable: bool,
    by_input: bool,
    heat: Vec<Vec<f32>>,
    changes: Changes,
    /// Two plans share it where they change the same: see [`read_changes`].
    pub(super) id: u64,
}

impl Wishes {
    /// What a plan file says; nothing for one that cannot be read, or is one for another model.
    pub(super) fn of(path: &Path, model: &ModelFile, quantize: Option<DType>) -> Self {
        Self::read(&model.plan(path), model, quantize).unwrap_or_default()
    }

    fn read(path: &Path, model: &ModelFile, quantize: Option<DType>) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let record = read_record(&bytes).ok()?;
        let (changes, id) = read_changes(&bytes).ok()?;
        let (by_input, heat) = (record.policy == PolicyKind::Input, read_frequency(&bytes));
        let this = (model.sha256().ok()?, quantize.map(|dtype| dtype.to_string()));
        (this == (record.model.sha256, record.model.quantized)).then_some(Self {
            readable: true,
            by_input,
            heat,
            changes,
            id,
        })
    }
}

/// How a model is loaded for plans that change the same. What the first keeps most often stays in memory
/// under a budget; all matrices lie by input if each plan leaves out input channels.
///
/// # Errors
/// When there is no folder for what does not fit the budget.
pub(super) fn options<'a>(
    wishes: impl IntoIterator<Item = &'a Wishes>,
    budget_bytes: Option<usize>,
) -> Result<LoadOptions> {
    let wishes: Vec<&Wishes> = wishes.into_iter().collect();
    let heat = || wishes.first().map(|wishes| wishes.heat.clone()).unwrap_or_default();
    let residency = |budget_bytes| -> Result<Residency> {
        // What does not fit goes to a file in the cache folder.
        let directory = Home::find()?.folder()?;
        Ok(Residency { budget_bytes, heat: heat(), gate_stays_hot: true, directory })
    };
    let changed = wishes.iter().find(|wishes| wishes.id != NO_CHANGES);
    Ok(LoadOptions {
        residency: budget_bytes.map(residency).transpose()?,
        by_input: !wishes.is_empty() && wishes.iter().all(|wishes| wishes.by_input),
        changes: changed.map(|wishes| wishes.changes.clone()).unwrap_or_default(),
        ..LoadOptions::default()
    })
}
