//! Every event of a tenant, in the order of the log: what it made of its resource. Numbered without gaps, so that a
//! moment is a number: things are as of an event.

use crate::table::{Column, plain_struct};

/// An event's number among those of its tenant, a slot, or another number of that kind.
pub(crate) type Number = u32;
/// No such.
pub(crate) const NONE: Number = Number::MAX;
/// As of the last event.
pub(crate) const NOW: Number = NONE - 1;

/// An event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Its sequence.
    pub(crate) sequence: u64,
    /// Log time.
    pub(crate) time_ms: i64,
    /// What tells it from others that stood at the sequence in other histories.
    pub(crate) tail: u32,
    /// Its resource.
    pub(crate) slot: Number,
    /// The event of the same resource before it.
    pub(crate) previous: Number,
    /// An earlier one of the same resource, far enough back that few jumps lead to any.
    jump: Number,
    /// How many stand before it.
    depth: u32,
    /// The event that holds the document as it is from here on.
    pub(crate) document: Number,
    /// Whether it changed what a client reads.
    pub(crate) counts: u8,
}

plain_struct!(Step {
    sequence: u64,
    time_ms: i64,
    tail: u32,
    slot: u32,
    previous: u32,
    jump: u32,
    depth: u32,
    document: u32,
    counts: u8,
});

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions(pub(crate) Column<Step>);

impl Versions {
    /// Appends an event of a resource whose last one is `previous`; what it made of the resource is set later.
    pub(crate) fn push(
        &mut self,
        sequence: u64,
        time_ms: i64,
        tail: u32,
        slot: Number,
        previous: Number,
    ) -> Number {
        let (mut jump, mut depth, mut document) = (previous, 0, NONE);
        if let Some(before) = self.0.get(previous) {
            depth = before.depth + 1;
            document = before.document;
            // Jumps of one length twice in a row become one of double length and one more.
            if let Some(first) = self.0.get(before.jump)
                && let Some(second) = self.0.get(first.jump)
                && before.depth - first.depth == first.depth - second.depth
            {
                jump = first.jump;
            }
        }
        self.0.push(Step { sequence, time_ms, tail, slot, previous, jump, depth, document, counts: 0 })
    }

    pub(crate) fn get(&self, number: Number) -> Option<&Step> {
        self.0.at(number)
    }

    pub(crate) fn get_mut(&mut self, number: Number) -> Option<&mut Step> {
        self.0.at_mut(number)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The last of a resource's events that is not newer than `at`, found from its last.
    pub(crate) fn last_until(&self, last: Number, at: Number) -> Option<(Number, &Step)> {
        let mut number = last;
        loop {
            let step = self.get(number)?;
            if number <= at {
                return Some((number, step));
            }
            number = if step.jump > at && step.jump != NONE { step.jump } else { step.previous };
        }
    }

    /// The last of a resource's events until `at` that changed what a client reads.
    pub(crate) fn change_until(&self, last: Number, at: Number) -> Option<Number> {
        let (mut number, mut step) = self.last_until(last, at)?;
        while step.counts == 0 {
            number = step.previous;
            step = self.get(number)?;
        }
        Some(number)
    }

    /// The last event whose sequence is not greater; nothing when all are.
    pub(crate) fn at_sequence(&self, sequence: u64) -> Option<Number> {
        self.0.partition_point(|step| step.sequence <= sequence).checked_sub(1)
    }

    /// The last event that is not later; nothing when all are.
    pub(crate) fn at_time(&self, time_ms: i64) -> Option<Number> {
        self.0.partition_point(|step| step.time_ms <= time_ms).checked_sub(1)
    }

    /// The event with exactly this sequence.
    pub(crate) fn exactly(&self, sequence: u64) -> Option<Number> {
        self.at_sequence(sequence)
            .filter(|number| self.get(*number).is_some_and(|step| step.sequence == sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_moment_of_a_long_life_is_found_in_few_jumps() {
        let mut versions = Versions::default();
        let mut last = [NONE; 3];
        let count = 30_000;
        for number in 0..count {
            let slot = number % 3;
            let at = &mut last[slot as usize];
            *at = versions.push(u64::from(number) * 2 + 1, i64::from(number), 0, slot, *at);
        }
        for at in [0, 1, 2, 3, 17, 4_000, 14_999, 29_998, NOW] {
            for slot in 0..3 {
                let expected = (0..count.min(at.saturating_add(1))).rev().find(|number| number % 3 == slot);
                let found = versions.last_until(last[slot as usize], at).map(|(number, _)| number);
                assert_eq!(found, expected, "{slot} at {at}");
            }
        }
        assert_eq!(versions.at_sequence(0), None);
        assert_eq!(versions.at_sequence(4), Some(1));
        assert_eq!((versions.exactly(3), versions.exactly(4)), (Some(1), None));
        assert_eq!(versions.at_time(7), Some(7));
    }
}
