//! Pages: one HTML file each that needs no network, in the reader's light or dark theme, readable on a
//! phone and on paper. Every figure has a link that saves its numbers as CSV.

mod about;
mod answers;
mod bench;
mod changes;
mod chart;
mod comparison;
mod csv;
mod data;
mod evaluation;
mod facts;
mod format;
mod gap;
mod history;
mod kept;
mod lines;
mod metrics;
mod names;
mod neurons;
mod page;
mod rows;
mod scale;
mod series;
mod story;
mod sweep;
mod tables;
mod variants;

pub use bench::render as render_bench;
pub use comparison::render as render_comparison;
pub use evaluation::render as render_evaluation;
pub use history::render as render_history;
pub use neurons::render as render_neurons;
pub use sweep::render;
