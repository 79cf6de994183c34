//! The corpora of the fuzz targets, and small changes to each of their files.

#![cfg(test)]

#[path = "../../fuzz/checks.rs"]
mod checks;

use std::path::Path;

/// Changed copies of each file.
const COPIES: u64 = 400;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        check(&bytes);
        for seed in 0..COPIES {
            check(&changed(&bytes, seed));
        }
    }
}

/// The same bytes with a few of them gone, doubled, swapped or other ones.
fn changed(bytes: &[u8], seed: u64) -> Vec<u8> {
    const LIKELY: &[u8] = b"\"{}[]():,.\\ 0aAe-tfn\x00\xff";
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state as usize) % below.max(1)
    };
    let mut bytes = bytes.to_vec();
    for _ in 0..=next(3) {
        let (at, other) = (next(bytes.len()), next(bytes.len()));
        if bytes.is_empty() {
            break;
        }
        match next(5) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, LIKELY[next(LIKELY.len())]),
            2 => bytes[at] = LIKELY[next(LIKELY.len())],
            3 => bytes.swap(at, other),
            _ => {
                let (from, to) = (at.min(other), at.max(other));
                let part = bytes[from..to].to_vec();
                bytes.splice(from..from, part);
            }
        }
    }
    bytes
}

#[test]
fn filters() {
    replay("filter", checks::filter);
}

#[test]
fn paths() {
    replay("path", checks::path);
}

#[test]
fn patches() {
    replay("patch", checks::patch);
}

#[test]
fn bodies() {
    replay("body", checks::body);
}
