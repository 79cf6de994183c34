//! The allocator of the programs, and giving back to the system what a large piece of work has left.
//!
//! Requests are small pieces that one thread makes and another lets go of, which the system's allocator is slow at: it took
//! two fifths of a write. mimalloc does not ask for huge pages (docs/adr/0010).

pub use mimalloc::MiMalloc as Allocator;

/// Gives free memory back to the system at once. The allocator does so by itself only while it is asked for memory and
/// after a delay, so what a large piece of work has left stays with a process that is quiet afterwards.
pub fn give_back() {
    #[expect(unsafe_code, reason = "the allocator's bindings have no safe call for it")]
    // SAFETY: it takes no pointer and may be called by any thread at any time; where another allocator is in use it finds
    // nothing to give back.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}
