//! A moment as it is written: a sequence, an instant, a date.

use jiff::Timestamp;
use jiff::civil::Date;
use projector::When;

/// Reads `42`, `2026-11-01T08:30:00+01:00` or `2026-11-01`. A date is the midnight at which it begins, UTC.
pub(crate) fn parse(text: &str) -> Result<When, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let sequence = text.parse::<u64>();
        return sequence.map(When::Sequence).map_err(|_| format!("{text} is larger than any sequence"));
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(When::Instant(instant));
    }
    let midnight = Date::strptime("%Y-%m-%d", text).and_then(|date| format!("{date}T00:00:00Z").parse());
    match midnight {
        Ok(midnight) => Ok(When::Instant(midnight)),
        Err(_) => Err(format!(
            "{text:?} is neither a sequence (42) nor an instant with its offset (2026-11-01T08:30:00Z, \
             2026-11-01T08:30:00+01:00; in a URL + is %2B) nor a date (2026-11-01)"
        )),
    }
}

/// An instant with all its milliseconds, as every answer shows it.
pub(crate) fn shown(time: Timestamp) -> String {
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let found = parse(text).ok().map(|when| match when {
            When::Now => "now".to_string(),
            When::Sequence(sequence) => sequence.to_string(),
            When::Instant(instant) => shown(instant),
        });
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn sequences_instants_and_dates_are_moments() {
        check("42", Some("42"));
        check(" 0 ", Some("0"));
        check("99999999999999999999", None);
        check("2026-11-01T08:30:00Z", Some("2026-11-01T08:30:00.000Z"));
        check("2026-11-01T08:30:00.1239+01:00", Some("2026-11-01T07:30:00.123Z"));
        check("2026-11-01", Some("2026-11-01T00:00:00.000Z"));
        check("2026-11-31", None);
        check("2026-11-01T08:30:00", None);
        check("2026-11-01T08:30:00 01:00", None);
        check("", None);
        check("yesterday", None);
        check("-3", None);
    }
}
