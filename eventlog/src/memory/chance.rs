//! Chance that a seed decides.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A sequence of numbers that look like chance and are the same for the same seed (splitmix64).
#[derive(Debug)]
pub struct Chance(AtomicU64);

impl Chance {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound; 0 when the bound is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { (self.next() >> 11) % bound }
    }

    /// Whether something happens that happens so many times in a thousand. What never happens draws nothing.
    pub fn strikes(&self, per_mille: u64) -> bool {
        per_mille > 0 && self.below(1000) < per_mille
    }

    /// A length of time up to a bound, in milliseconds.
    pub fn up_to(&self, longest: Duration) -> Duration {
        Duration::from_millis(self.below(1 + u64::try_from(longest.as_millis()).unwrap_or_default()))
    }

    /// One of several things.
    pub fn pick<'a, T>(&self, things: &'a [T]) -> Option<&'a T> {
        things.get(usize::try_from(self.below(things.len() as u64)).unwrap_or_default())
    }

    /// A sequence of its own, whose seed is drawn here.
    pub fn fork(&self) -> Self {
        Self::new(self.next())
    }
}
