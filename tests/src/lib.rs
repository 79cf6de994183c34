//! The house driven from the street: real processes, real HTTP, a real broker.
//!
//! Nothing here knows what is inside; start reading at [`House`].

pub mod dialogue;
pub mod fleet;
pub mod house;
pub mod lag;
pub mod proxy;
pub mod serial;

pub use house::{Client, House, Options, Reply};
