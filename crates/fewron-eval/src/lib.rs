//! Data sets, quality metrics, the accuracy–sparsity sweep, neuron analytics and evaluation on tasks. Emits
//! records; knows no database and no HTML.

pub mod bleu;
pub mod calibrate;
pub mod calibration;
pub mod data;
mod hash;
pub mod neurons;
mod overlap;
pub mod recommend;
pub mod record;
pub mod rouge;
pub mod squad;
pub mod stats;
pub mod sweep;
pub mod tasks;
