//! The house driven from the street: real processes, real HTTP, a real broker.
//!
//! Nothing here knows what is inside; start reading at [`House`].

pub mod dialogue;
pub mod house;
pub mod proxy;
pub mod simulation;

pub use house::{Client, House, Options, Reply};
