//! Predictors of which neurons matter, trained on attribution.

use super::{CalibrateError, Calibrator};
use fewron_sparsity::Plan;

impl Calibrator<'_> {
    /// Trains a predictor for each layer.
    pub(super) fn train_predictors(&mut self, _plan: &mut Plan) -> Result<(), CalibrateError> {
        Err(fewron_sparsity::PolicyError::NeedsPlan(self.settings.policy).into())
    }
}
