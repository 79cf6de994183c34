//! What ends a command: one message for the person at the terminal, with what, where and what to do.

use std::error::Error;
use std::fmt;

/// The message that a command ends with.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure with this message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// What we were doing, and why it failed, with every cause once.
    pub(crate) fn of(doing: impl fmt::Display, error: &dyn Error) -> Self {
        Self(format!("{doing}: {}", causes(error)))
    }
}

/// An error and its causes in one line; a cause whose text already stands in the line is left out.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Failure {}
