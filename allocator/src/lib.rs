//! The allocator of the programs, and giving back to the system what a large piece of work has left.
//!
//! Requests are small pieces that one thread makes and another lets go of, which the system's allocator is slow at: it took
//! two fifths of a write. mimalloc does not ask for huge pages (docs/adr/0010).

#![expect(unsafe_code, reason = "an allocator is made of pointers, and its bindings have no safe calls")]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_collect, mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

/// How every piece of mimalloc's is aligned, however small it is.
const WORD: usize = align_of::<usize>();

/// mimalloc. It is asked for an alignment only where that is more than every piece has: it makes room for each that it is
/// asked for, unless the size is a power of two, so that most pieces took the slow way to a place of the next larger size.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: mimalloc's calls do what the trait asks of each: a piece of at least that size and alignment or null, which stays
// where it is until it is freed or moved. They neither unwind nor allocate through us. What one of them returned, any of
// them may free or move, by any thread.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: these take any size, and a layout's alignment is a power of two.
        unsafe {
            if layout.align() <= WORD {
                mi_malloc(layout.size()).cast()
            } else {
                mi_malloc_aligned(layout.size(), layout.align()).cast()
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            if layout.align() <= WORD {
                mi_zalloc(layout.size()).cast()
            } else {
                mi_zalloc_aligned(layout.size(), layout.align()).cast()
            }
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller has the piece from one of these, and a layout's alignment is a power of two.
        unsafe {
            if layout.align() <= WORD {
                mi_realloc(piece.cast(), size).cast()
            } else {
                mi_realloc_aligned(piece.cast(), size, layout.align()).cast()
            }
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, _layout: Layout) {
        // SAFETY: the caller has it from one of these.
        unsafe { mi_free(piece.cast()) }
    }
}

/// Gives free memory back to the system at once. The allocator does so by itself only while it is asked for memory and
/// after a delay, so what a large piece of work has left stays with a process that is quiet afterwards.
pub fn give_back() {
    // SAFETY: it takes no pointer and may be called by any thread at any time; where another allocator is in use it finds
    // nothing to give back.
    unsafe { mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of all small sizes and alignments, many at a time, hold what was written until they are let go of.
    #[test]
    fn pieces_are_aligned_apart_and_keep_what_they_hold() {
        let mut pieces = Vec::new();
        for round in 0..4_u8 {
            for size in 1..=600_usize {
                for align in [1, 2, 4, 8, 16, 64, 4096] {
                    let layout = Layout::from_size_align(size, align).unwrap();
                    // SAFETY: no size is zero; each piece is used within its size and freed once, with its layout.
                    let piece = unsafe {
                        let piece = if round % 2 == 0 {
                            Allocator.alloc(layout)
                        } else {
                            Allocator.alloc_zeroed(layout)
                        };
                        assert!(!piece.is_null() && piece.addr().is_multiple_of(align), "{layout:?}");
                        if round % 2 == 1 {
                            let held = std::slice::from_raw_parts(piece, size);
                            assert!(held.iter().all(|byte| *byte == 0), "{layout:?}");
                        }
                        piece.write_bytes(mark(size, align, round), size);
                        piece
                    };
                    pieces.push((piece, layout, round));
                }
            }
        }
        for (piece, layout, round) in pieces {
            let mark = mark(layout.size(), layout.align(), round);
            let size = layout.size() + usize::from(round) * 100;
            // SAFETY: as above; the piece is moved with the layout that it has, and freed with its new one.
            unsafe {
                assert!(std::slice::from_raw_parts(piece, layout.size()).iter().all(|byte| *byte == mark));
                let moved = Allocator.realloc(piece, layout, size);
                assert!(!moved.is_null() && moved.addr().is_multiple_of(layout.align()), "{layout:?}");
                assert!(std::slice::from_raw_parts(moved, layout.size()).iter().all(|byte| *byte == mark));
                Allocator.dealloc(moved, Layout::from_size_align(size, layout.align()).unwrap());
            }
        }
    }

    fn mark(size: usize, align: usize, round: u8) -> u8 {
        (size * 31 + align * 7 + usize::from(round)) as u8
    }

    /// A piece takes up no more than its size needs: 48 bytes are not 64.
    #[test]
    fn no_room_is_made_for_an_alignment_that_is_there_anyway() {
        for (size, most) in [(48, 48), (96, 96), (160, 160), (320, 320), (1_280, 1_280)] {
            let layout = Layout::from_size_align(size, WORD).unwrap();
            // SAFETY: the size is not zero, and the piece is freed once.
            let usable = unsafe {
                let piece = Allocator.alloc(layout);
                let usable = libmimalloc_sys::mi_usable_size(piece.cast());
                Allocator.dealloc(piece, layout);
                usable
            };
            assert!(usable <= most, "{size} bytes take up {usable}");
        }
    }
}
