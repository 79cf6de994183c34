//! What is printed. A reader who went away is nobody's mistake; an answer that could not be written is no success.

use std::io::{ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use crate::Failure;

/// Why a part of the answer is missing.
static MISSING: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// Prints a line of the answer; returns whether more are of use. What cannot be written is told at the end.
pub(crate) fn print(line: &str) -> bool {
    let Err(error) = writeln!(std::io::stdout(), "{line}") else { return true };
    if error.kind() != ErrorKind::BrokenPipe {
        MISSING.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
    false
}

/// An error when a part of the answer could not be written.
pub(crate) fn whole() -> Result<(), Failure> {
    match &*MISSING.lock().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(error) => Err(Failure::of("writing the answer", error)),
    }
}

/// Says a line to whoever may sit at the terminal. Nothing hangs on it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
