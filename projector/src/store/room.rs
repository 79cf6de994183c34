//! Room on the disk of a folder.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The file that takes it for a moment.
pub(super) const FILE: &str = "room";
/// So much there must be before a store is opened anew, in pieces that are written one after the other.
const PIECES: usize = 128;
static PIECE: [u8; 64 << 10] = [0x5a; 64 << 10];
/// The same in bytes.
pub(super) const BYTES: u64 = (PIECES * PIECE.len()) as u64;

/// Whether there is room for what is written at once. Asked by writing: nothing else is sure.
pub(super) fn find(folder: &Path) -> io::Result<()> {
    let path = folder.join(FILE);
    let write = || {
        let mut file = File::create(&path)?;
        for _ in 0..PIECES {
            file.write_all(&PIECE)?;
        }
        file.sync_data()
    };
    let written = write();
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}
