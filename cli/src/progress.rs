//! How far it is, on the error output: one line that changes on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line on a terminal changes.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is written elsewhere.
const TOLD_INTERVAL: Duration = Duration::from_secs(2);
/// Characters of a bar.
const BAR_WIDTH: u64 = 30;
/// To the line's beginning, and nothing behind.
const CLEAR: &str = "\r\x1b[K";

/// Tells how far it is, not too often.
pub(crate) struct Progress {
    is_terminal: bool,
    begun: Instant,
    told: Instant,
}

impl Progress {
    /// Begins. A terminal that also shows the answer is left to it.
    pub(crate) fn start(answers_on_terminal: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal() && !answers_on_terminal;
        Self { is_terminal, begun: Instant::now(), told: Instant::now() }
    }

    /// How long it has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether somebody looks at it on a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
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

    /// Says what follows from how long it has taken.
    pub(crate) fn tell_of(&mut self, line: impl FnOnce(Duration) -> String) {
        let elapsed = self.elapsed();
        self.tell(|| line(elapsed));
    }

    /// Leaves the terminal's line empty.
    pub(crate) fn end(&self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "{CLEAR}");
        }
    }
}

/// A bar, with how many there are of how many, how fast, and how long it will take.
pub(crate) fn bar(done: u64, of: u64, elapsed: Duration, is_terminal: bool) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = done as f64 / seconds;
    let rest = of.saturating_sub(done) as f64 / rate.max(0.001);
    let percent = done.saturating_mul(100).checked_div(of).unwrap_or(100).min(100);
    let words = format!("{percent} %, {done} of {of} events, {rate:.0}/s, {} left", time(rest));
    if !is_terminal {
        return words;
    }
    let filled = percent * BAR_WIDTH / 100;
    let bar: String = (0..BAR_WIDTH).map(|place| if place < filled { '#' } else { '.' }).collect();
    format!("[{bar}] {words}")
}

fn time(seconds: f64) -> String {
    // No rebuild takes longer than that.
    let seconds = seconds.min(1e9).round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_how_fast_and_how_long() {
        let text = bar(2_500, 10_000, Duration::from_secs(5), true);
        assert_eq!(text, "[#######.......................] 25 %, 2500 of 10000 events, 500/s, 15 s left");
        assert_eq!(bar(0, 0, Duration::ZERO, false), "100 %, 0 of 0 events, 0/s, 0 s left");
        assert_eq!(
            bar(1, 7_201, Duration::from_secs(1), false),
            "0 %, 1 of 7201 events, 1/s, 2 h 0 min left"
        );
    }
}
