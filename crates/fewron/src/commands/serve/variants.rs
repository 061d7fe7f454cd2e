//! The variants of a server.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use fewron_model::Pool;
use fewron_serve::engine::{PlanMaker, Variant};
use fewron_sparsity::{Calibration, Plan, PolicyKind, Scope, Selection};

use crate::cli::VariantArgs;
use crate::loaded::Loaded;
use crate::mask::Masking;

/// The sparse variants that the arguments ask for: plans, then the policy.
///
/// # Errors
/// For a plan that is not one for this model, and a policy that needs one.
pub(super) fn all(args: &VariantArgs, loaded: &Loaded, pool: &Arc<Pool>) -> Result<Vec<Variant>> {
    let several = args.plan.len() > 1;
    let mut variants = Vec::new();
    for path in &args.plan {
        let masking = Masking::from_file(path, loaded, pool)?;
        let name = if several { stem(&masking.label) } else { "plan".to_owned() };
        let sparsity = masking.record.as_ref().map_or(0.0, |record| record.sparsity);
        variants.push(Variant { name, plan: Some(Arc::new(masking.plan)), sparsity });
    }
    let mask = args.mask();
    if let Some(masking) = Masking::new(&mask, loaded, pool)? {
        let (name, sparsity) = (masking.label, mask.ratio());
        variants.push(Variant { name, plan: Some(Arc::new(masking.plan)), sparsity });
    }
    Ok(variants)
}

/// The name of a plan's file without its ending, and without what cannot stand in a model's name.
fn stem(label: &str) -> String {
    let stem = Path::new(label).file_stem().map(|stem| stem.to_string_lossy());
    stem.unwrap_or_default().replace([':', ' '], "-")
}

/// Makes the plans that clients ask for. What the gate policy needs to know of the model is measured, or
/// read from the cache, when it is first asked for.
pub(super) fn maker(loaded: &Arc<Loaded>, threads: usize) -> PlanMaker {
    let loaded = Arc::clone(loaded);
    let known: Mutex<Option<Arc<Calibration>>> = Mutex::default();
    Box::new(move |policy, ratio| {
        let calibration = match policy {
            PolicyKind::Gate => {
                // Others who ask meanwhile wait for the one measurement.
                let mut known = known.lock().map_err(|error| error.to_string())?;
                if known.is_none() {
                    *known = Some(Arc::new(measure(&loaded, threads)?));
                }
                known.clone().unwrap_or_default()
            }
            _ => Arc::default(),
        };
        let config = loaded.model.config();
        Plan::uniform(config, policy, Scope::Mlp, Selection::Layer, ratio, &calibration)
            .map_err(|error| error.to_string())
    })
}

fn measure(loaded: &Loaded, threads: usize) -> Result<Calibration, String> {
    // The engine's pool is at work.
    let pool = Arc::new(Pool::new(threads));
    let calibration = loaded.calibration(&pool).context("the model cannot be calibrated");
    calibration.map_err(|error| {
        tracing::warn!(error = format_args!("{error:#}"), "no calibration");
        error.to_string()
    })
}
