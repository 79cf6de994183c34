//! The events: what happened, what it means, how it is sealed, written and named.
//!
//! Pure: it knows no HTTP, no store, no `async`, no clock and no chance; nonces, keys, ids and times are arguments.
//! Start reading at [`Event`]; the wire format is in `proto/*.proto`.

#![forbid(unsafe_code)]

pub mod cloud_events;
pub mod codec;
pub mod control;
pub mod provisioning;
pub mod sealing;
pub mod stand_in;
pub mod subject;

mod document;
mod event;
mod evolve;
mod external_ids;
mod ids;
mod log_time;
mod wire;

pub use document::Document;
pub use event::{Body, Event, Kind};
pub use evolve::{At, Resource, evolve};
pub use external_ids::ExternalIds;
pub use ids::{EventId, InvalidId, KeyRef, Position, ResourceId, Tenant, Version};
pub use log_time::{CLOCK_TOLERANCE, log_time};
