//! How many files this process may open. Every connection is one, and so is every call to an app: whoever runs out of them
//! can neither write the projection nor reach the broker.

use std::io;

/// What the broker, the projection and calls to apps may need.
const BESIDE: u64 = 2_000;

/// Takes as many files as the system lets us have, and says so when as many clients as may connect would use them up.
pub(crate) fn take(listeners: u64, connections_max: u64) {
    let needed = listeners.saturating_mul(connections_max).saturating_add(BESIDE);
    match raised() {
        Ok(files) if files < needed => tracing::warn!(
            files,
            needed,
            connections_max,
            "this process may open fewer files than its clients may need: raise the limit (ulimit -n, LimitNOFILE=), or lower \
             gateway.limits.connections_max"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be read"),
    }
}

/// Raises the limit as far as it goes, and returns it.
fn raised() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a value of ours of the type that the call fills in.
    #[expect(unsafe_code, reason = "the standard library has no call for limits")]
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a value of ours that the call reads.
    #[expect(unsafe_code, reason = "the standard library has no call for limits")]
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    Ok(if set == 0 { limit.rlim_cur } else { before })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_may_be_are_taken_and_taking_them_again_changes_nothing() {
        let files = raised().unwrap();
        assert!(files > 0);
        assert_eq!(raised().unwrap(), files);
    }
}
