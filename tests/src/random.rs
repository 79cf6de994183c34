//! Chance with a seed that is printed: the same seed chooses the same things in the same order.

/// A seed that nobody chose, small enough to be typed again.
pub fn fresh_seed() -> u64 {
    let bytes = eventlog::clock::random::<4>().expect("randomness");
    u64::from(u32::from_le_bytes(bytes))
}

/// A source of chance.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The source of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another source that depends on this one's seed and a number, not on what was drawn from it.
    pub fn fork(&self, number: u64) -> Self {
        let mut fork = Self(self.0 ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        fork.number();
        fork
    }

    /// The next number (splitmix64).
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number().checked_rem(end).unwrap_or(0)
    }

    /// An index of something of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Whether something of so many percent happens.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_chooses_the_same_again() {
        let draw = |mut random: Random| (0..20).map(|_| random.below(1_000)).collect::<Vec<_>>();
        let drawn = draw(Random::new(7));
        assert_eq!(drawn, draw(Random::new(7)));
        assert_ne!(drawn, draw(Random::new(8)));
        assert_ne!(draw(Random::new(7).fork(1)), draw(Random::new(7).fork(2)));
        assert!(drawn.iter().all(|number| *number < 1_000));
    }
}
