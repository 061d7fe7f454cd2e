//! Which variant serves a request, and what replies say of it.

use fewron_sparsity::PolicyKind;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Shared;
use super::error::ApiError;
use crate::engine::Variant;
use crate::openai::{FewronInfo, Sparsity};

/// Steps of the sparsity that clients may ask for: each makes a plan that stays in memory.
const STEPS: f64 = 100.0;

/// What all replies to a request have in common.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) id: String,
    pub(super) created: u64,
    /// `NAME:VARIANT`.
    pub(super) model: String,
    pub(super) info: FewronInfo,
}

/// Version of the server, in every reply.
pub(super) const FINGERPRINT: &str = concat!("fewron-", env!("CARGO_PKG_VERSION"));

impl Served {
    /// Of a request that a variant serves; ids start with `prefix`.
    pub(super) fn new(app: &Shared, variant: &Variant, prefix: &str) -> Self {
        Self {
            id: format!("{prefix}-{:032x}", rand::random::<u128>()),
            created: now_s(),
            model: format!("{}:{}", app.engine.name(), variant.name),
            info: info(variant),
        }
    }
}

/// A variant as replies tell it.
pub(super) fn info(variant: &Variant) -> FewronInfo {
    FewronInfo {
        variant: variant.name.clone(),
        policy: variant.plan.as_ref().map(|plan| plan.policy.to_string()),
        sparsity: variant.sparsity,
    }
}

/// Seconds since the Unix epoch.
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The variant that a request asks for, by the model's name or by a policy.
///
/// # Errors
/// When there is no such model, the policy cannot be had, or both name a variant.
pub(super) async fn variant(
    app: &Shared,
    model: &str,
    user: Option<&str>,
    sparsity: Option<&Sparsity>,
) -> Result<Arc<Variant>, ApiError> {
    let named = app.engine.variant(model, user)?;
    let Some(sparsity) = sparsity else { return Ok(named) };
    if model != app.engine.name() {
        let message =
            format!("{model} names a variant; for a policy ask for {}", app.engine.name());
        return Err(ApiError::parameter("fewron", message));
    }
    let Some(policy) = policy(sparsity)? else {
        return Ok(app.engine.variant(&format!("{model}:dense"), None)?);
    };
    let ratio = ratio(sparsity.sparsity)?;
    let made = app.beside(move |app| app.engine.policy(policy, ratio)).await?;
    Ok(made?)
}

/// The policy; `None` for the dense model.
fn policy(sparsity: &Sparsity) -> Result<Option<PolicyKind>, ApiError> {
    match (sparsity.policy.as_deref(), sparsity.sparsity) {
        (Some("dense"), Some(ratio)) if ratio != 0.0 => {
            Err(ApiError::parameter("fewron.sparsity", "the policy dense has sparsity 0"))
        }
        (Some("dense"), _) => Ok(None),
        (Some(name), _) => match name.parse() {
            Ok(policy) => Ok(Some(policy)),
            Err(error) => Err(ApiError::parameter("fewron.policy", format!("{error}, dense"))),
        },
        (None, _) => {
            let message = "fewron has no policy: name one, such as gate";
            Err(ApiError::parameter("fewron.policy", message))
        }
    }
}

fn ratio(sparsity: Option<f64>) -> Result<f32, ApiError> {
    let ratio = sparsity.unwrap_or(0.5);
    let steps = ratio * STEPS;
    if !(0.0..=1.0).contains(&ratio) || (steps - steps.round()).abs() > 1e-6 {
        let message = format!("sparsity is 0 to 1 in steps of 0.01, got {ratio}");
        return Err(ApiError::parameter("fewron.sparsity", message));
    }
    Ok((steps.round() / STEPS) as f32)
}
