//! Scores, selections and policies on tiny random-weight models, with goldens from PyTorch
//! (`fixtures/goldens/part_tiny.py`).

mod attribution;
#[path = "../../../fewron-model/tests/goldens/mod.rs"]
mod goldens;
mod models;
mod names;
mod plan;
mod policy;
mod selection;
