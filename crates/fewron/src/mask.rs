//! The run-time mask that `--policy` and `--sparsity` ask for, and what it kept.

use std::sync::Arc;

use anyhow::Result;
use fewron_model::{Choice, MaskSource, Pool};
use fewron_sparsity::{Calibration, Policy, PolicyKind, Scope, Selection};

use crate::cli::{self, MaskArgs};
use crate::loaded::Loaded;

/// What the policy of the arguments needs to know of the model; nothing but for the gate.
///
/// # Errors
/// As [`Loaded::calibration`].
pub(crate) fn calibration(
    args: &MaskArgs,
    loaded: &Loaded,
    pool: &Arc<Pool>,
) -> Result<Calibration> {
    match args.policy {
        cli::Policy::Gate => loaded.calibration(pool),
        cli::Policy::Dense | cli::Policy::Magnitude => Ok(Calibration::default()),
    }
}

/// A policy that counts what it keeps.
#[derive(Debug)]
pub(crate) struct Mask<'a> {
    policy: Policy<'a>,
    kind: PolicyKind,
    /// Neurons kept, over all masked tokens and layers.
    kept: u64,
    /// Neurons seen.
    seen: u64,
}

impl<'a> Mask<'a> {
    /// The mask of the arguments; `None` for the dense policy.
    ///
    /// # Errors
    /// For a combination that does not exist.
    pub(crate) fn new(args: &MaskArgs, calibration: &'a Calibration) -> Result<Option<Self>> {
        let kind = match args.policy {
            cli::Policy::Dense => return Ok(None),
            cli::Policy::Magnitude => PolicyKind::Magnitude,
            cli::Policy::Gate => PolicyKind::Gate,
        };
        let policy = Policy::new(kind, Scope::Mlp, Selection::Layer, args.ratio(), calibration)?;
        Ok(Some(Self { policy, kind, kept: 0, seen: 0 }))
    }

    /// Takes the share of neurons kept since the last call; `None` if nothing was masked.
    pub(crate) fn take_active(&mut self) -> Option<f64> {
        let (kept, seen) = (std::mem::take(&mut self.kept), std::mem::take(&mut self.seen));
        (seen > 0).then(|| kept as f64 / seen as f64)
    }

    /// Weight bytes that a token reads with this share of active neurons. The gate policy reads the
    /// gate in full and the up and down weights of active neurons; magnitude skips nothing, nor does
    /// the gate policy where an MLP has no gate.
    pub(crate) fn bytes_per_token(&self, loaded: &Loaded, active: f64) -> f64 {
        let bytes = loaded.model.bytes_per_token();
        match self.kind {
            PolicyKind::Gate if loaded.model.config().gated => {
                let skippable = bytes.mlp.saturating_sub(gate_bytes(loaded));
                bytes.total() as f64 - skippable as f64 * (1.0 - active)
            }
            PolicyKind::Gate | PolicyKind::Magnitude => bytes.total() as f64,
        }
    }
}

/// Bytes of the gate projections of all layers.
pub(crate) fn gate_bytes(loaded: &Loaded) -> usize {
    let model = &loaded.model;
    (0..model.config().layers.len()).map(|layer| model.layer_bytes(layer).gate).sum()
}

impl MaskSource for Mask<'_> {
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        self.policy.neurons(layer, token, kept)
    }

    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        self.policy.select_neurons(layer, token, values, kept);
        self.kept += kept.len() as u64;
        self.seen += values.len() as u64;
    }
}
