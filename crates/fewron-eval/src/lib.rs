//! Data sets, quality metrics and the accuracy–sparsity sweep. Emits records; knows no database
//! and no HTML.

pub mod bleu;
pub mod calibrate;
pub mod calibration;
pub mod data;
pub mod record;
pub mod stats;
pub mod sweep;
