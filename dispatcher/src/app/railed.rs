//! What lets an app's calls through, or holds them: the valve as it is now.

use std::sync::{Mutex, PoisonError};

use crate::valve::{self, Said, Valve};
use crate::{Error, Shared};

/// Who is said to have stopped an app whose value cannot be read.
const UNREADABLE: &str = "rollcall";

/// What holds the calls of one app.
pub(crate) struct Railing {
    name: String,
    shared: Shared,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    valve: Valve,
}

impl Railing {
    pub(crate) fn new(name: &str, shared: &Shared) -> Self {
        Self { name: name.to_string(), shared: shared.clone(), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the valve again. One that cannot be read stops the app: nobody knows what was stopped.
    pub(crate) async fn look(&self) -> Result<(), Error> {
        let valve = match valve::load(&*self.shared.broker.leases, &self.name).await {
            Ok(valve) => valve,
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(error) => {
                let why = error.to_string();
                Valve { paused: Some(Said::now(UNREADABLE, &why)), ..Valve::default() }
            }
        };
        self.state().valve = valve;
        Ok(())
    }

    /// Why nothing is called, if nothing is.
    pub(crate) fn stopped(&self) -> Option<String> {
        let paused = self.state().valve.paused.clone()?;
        let why = if paused.why.is_empty() { String::new() } else { format!(": {}", paused.why) };
        Some(format!("paused by {}{why}", paused.by))
    }
}
