//! When something happened, as every reader of the log must say it.

use jiff::{SignedDuration, Timestamp};

/// How far a writer's clock may be from the broker's and still be believed.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// Log time: the writer's clock while it agrees with the broker's, else the broker's, in milliseconds, and never before
/// that of an earlier message (`earliest`).
///
/// An acknowledgement does not tell the broker's time. Since a writer's own clock counts while it is right, a writer
/// knows the log time of what it wrote as soon as it knows the sequence, and a clock that is wrong moves nothing.
pub fn log_time(earliest: Timestamp, occurred_at: Timestamp, broker: Timestamp) -> Timestamp {
    let agrees = occurred_at.duration_since(broker).abs() <= CLOCK_TOLERANCE;
    let time = if agrees { occurred_at } else { broker };
    // Milliseconds are what clients read, so a row that comes from a store is the same as one from the log.
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(earliest).max(earliest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_790_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn the_writers_clock_counts_while_it_is_right() {
        assert_eq!(log_time(Timestamp::MIN, at(-50), at(0)), at(-50));
        assert_eq!(log_time(Timestamp::MIN, at(2_000), at(0)), at(2_000));
    }

    #[test]
    fn a_clock_that_is_wrong_moves_nothing() {
        assert_eq!(log_time(Timestamp::MIN, at(2_001), at(0)), at(0));
        assert_eq!(log_time(Timestamp::MIN, at(-90_000_000), at(5)), at(5));
    }

    #[test]
    fn it_never_goes_back() {
        assert_eq!(log_time(at(100), at(50), at(60)), at(100));
    }
}
