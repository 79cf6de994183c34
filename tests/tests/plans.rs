//! Plans, over a log in memory and in virtual time.

#![cfg(test)]

#[path = "plans/mapping.rs"]
mod mapping;
#[path = "plans/time.rs"]
mod time;
#[path = "plans/walk.rs"]
mod walk;

/// Runs with virtual time, on this thread.
fn virtually<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}
