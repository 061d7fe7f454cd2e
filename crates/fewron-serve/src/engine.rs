//! Continuous batching: requests in, tokens out.

mod book;
mod guard;
mod handle;
mod lanes;
mod logprobs;
mod monitor;
mod prefix;
mod request;
mod settings;
mod status;
mod variant;
mod variants;
mod window;
mod worker;
mod writer;

pub use handle::Engine;

pub use request::{Answer, ChosenToken, Event, Failure, Finish, Piece, Refused, Request};
pub use settings::{Guard, Limits, PlanMaker, Settings};
pub use status::{
    GuardStatus, Interval, Latency, Load, LogLine, MemoryStatus, Percentiles, RequestState,
    RequestStatus, Status, Totals, VariantStatus,
};
pub use variant::{Variant, VariantError};
