//! The directory: what the log says about people and groups, ready to be asked.
//!
//! Rows stand under the sequence of their event, sealed as they are in the log: bytes in segments, their places in sled.
//! Indexes and edges stand in memory. Visible from memory first, written behind. Everything here can be deleted and is then built again from the
//! log. It knows no HTTP. Start reading at [`Projection`].

#![forbid(unsafe_code)]

mod ahead;
mod behind;
mod chunks;
mod content;
mod cuts;
mod digest;
mod directory;
mod error;
mod extract;
mod fill;
mod fragments;
mod frames;
mod history;
mod hot;
mod images;
mod index;
mod kin;
mod linked;
mod members;
mod mend;
mod moment;
mod open;
mod own;
mod plan;
mod projection;
mod query;
mod reader;
mod represent;
mod row;
mod rows;
mod run;
mod scan;
mod settle;
mod sift;
mod snapshot;
mod splice;
mod stall;
mod state;
mod stays;
mod store;
mod stored;
mod table;
mod tail;
mod thin;
mod waiters;
mod writer;

pub use digest::Digest;
pub use directory::KeyState;
pub use error::{Error, Lagging};
pub use history::{Became, Difference, Differences, Happened, History};
pub use index::check_indexed;
pub use moment::{Known, Moment, When};
pub use own::{Announced, Announcement};
pub use projection::{Config, Projection, Readiness};
pub use query::{Page, Part, Place, Query, Window};
pub use represent::{Lens, Represented};
pub use snapshot::{Snapshot, snapshots};
pub use splice::Written;
pub use stays::{Stay, Stays};
pub use store::{MemoryStore, Storage, is_guarded};
pub use stored::{Cut, Former, Stored};
