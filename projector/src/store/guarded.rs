//! sled panics where its files are damaged. That is answered as damage, and is nobody's mistake to be told of.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Does this; nothing when it panicked.
pub(super) fn guarded<T>(act: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(act));
    GUARDED.set(before);
    done.ok()
}

/// Whether a panic of this thread is answered as damage of the store just now. Who tells panics asks.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_done_inside_is_guarded() {
        assert!(!is_guarded());
        assert_eq!(guarded(is_guarded), Some(true));
        assert!(!is_guarded());
        assert_eq!(guarded(|| guarded(is_guarded).is_some() && is_guarded()), Some(true));
        assert_eq!(guarded(|| std::panic::resume_unwind(Box::new("damaged"))), None::<()>);
        assert!(!is_guarded());
    }
}
