//! How far it is, on the error output: one line that changes on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line on a terminal changes.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is written elsewhere.
const TOLD_INTERVAL: Duration = Duration::from_secs(2);
/// To the line's beginning, and nothing behind.
const CLEAR: &str = "\r\x1b[K";

/// Tells how far it is, not too often.
pub(crate) struct Progress {
    is_terminal: bool,
    told: Instant,
}

impl Progress {
    /// Begins. A terminal that also shows the answer is left to it.
    pub(crate) fn start(answers_on_terminal: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal() && !answers_on_terminal;
        Self { is_terminal, told: Instant::now() }
    }

    /// Says this, when it is time to.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        let interval = if self.is_terminal { REDRAW_INTERVAL } else { TOLD_INTERVAL };
        if self.told.elapsed() < interval {
            return;
        }
        self.told = Instant::now();
        let mut out = std::io::stderr();
        // Whoever closed it does not want to know.
        let _ = if self.is_terminal { write!(out, "{CLEAR}{}", line()) } else { writeln!(out, "{}", line()) };
    }

    /// Leaves the terminal's line empty.
    pub(crate) fn end(&self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "{CLEAR}");
        }
    }
}
