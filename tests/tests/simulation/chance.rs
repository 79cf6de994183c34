//! The operating system's chance, decided by a seed: tokio draws from it in which order it wakes and polls what is ready, so
//! without this a seed would decide the work and the faults, but not who comes first.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use eventlog::memory::Chance;

static DECIDED: AtomicBool = AtomicBool::new(false);
static CHANCE: Mutex<Option<Chance>> = Mutex::new(None);

/// From now on this process's chance is a seed's.
pub(crate) fn decide_by(seed: u64) {
    *CHANCE.lock().expect("no panic") = Some(Chance::new(seed));
    DECIDED.store(true, Ordering::SeqCst);
}

/// The standard library looks for this symbol before it asks the kernel, so that it can be put in its place.
///
/// # Safety
///
/// As getrandom(2): `buffer` must be valid for writes of `length` bytes.
#[expect(
    unsafe_code,
    reason = "the one way to decide what RandomState draws without a build of tokio of our own"
)]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    if !DECIDED.load(Ordering::SeqCst) {
        // SAFETY: the caller's promise is the kernel's condition.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as isize;
    }
    let chance = CHANCE.lock().expect("no panic");
    for offset in 0..length {
        let byte = chance.as_ref().map_or(0, |chance| chance.below(256));
        // SAFETY: the caller's promise.
        unsafe { buffer.add(offset).write(u8::try_from(byte).unwrap_or_default()) };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
