//! The house driven from the street: real processes, real HTTP, a real broker.
//!
//! Nothing here knows what is inside; start reading at [`House`].

pub mod apps;
pub mod cluster;
pub mod control;
pub mod dialogue;
pub mod doors;
pub mod expected;
pub mod fleet;
pub mod fold;
pub mod history;
pub mod house;
pub mod lag;
pub mod process;
pub mod proxy;
pub mod random;
pub mod routes;
pub mod serial;
pub mod simulation;
pub mod site;
pub mod subscriber;
pub mod torture;
pub mod workload;

pub use apps::App;
pub use house::{Client, House, Options, Reply};
