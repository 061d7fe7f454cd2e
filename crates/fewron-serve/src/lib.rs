//! The server: many requests at once on one model, each dense or sparse by a plan.
//!
//! ```text
//! HTTP (api) ── Request ──► Engine ── queue ──► worker thread: admit, one batch, sample, emit
//!      ◄────── Event, Event, … ──────────────────┘      └─ idle: the quality monitor
//! ```
//!
//! The only crate that knows HTTP. It reads no files and writes none: models, plans and settings come
//! from outside.

mod api;
mod dashboard;
pub mod engine;
mod openai;
mod server;

pub use api::{App, Chat, Config, router};
pub use server::{Server, Timeouts};
