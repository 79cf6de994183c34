//! The directory: what the log says about people and groups, ready to be asked.
//!
//! Rows stand in sled under the sequence of their event, sealed as they are in the log; indexes and edges stand in
//! memory. Visible from memory first, written behind. Everything here can be deleted and is then built again from the
//! log. It knows no HTTP. Start reading at [`Projection`].

#![forbid(unsafe_code)]

mod directory;
mod edges;
mod error;
mod hot;
mod index;
mod open;
mod own;
mod projection;
mod query;
mod represent;
mod row;
mod run;
mod state;
mod store;
mod tail;
mod waiters;
mod writer;

pub use directory::KeyState;
pub use error::{Error, Lagging};
pub use index::check_indexed;
pub use own::{Announced, Announcement};
pub use projection::{Config, Former, Projection, Readiness, Stored};
pub use query::{Page, Part, Place, Query, Window};
pub use represent::{Lens, Represented};
pub use store::{MemoryStore, Storage};
