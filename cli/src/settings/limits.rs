//! `[gateway.limits]`: what a value may be. A limit of nothing is no limit, it is an outage.

use std::ops::RangeInclusive;

use gateway::Limits;

use crate::file::Mistakes;

/// Where they stand.
const PLACE: &str = "gateway.limits";
/// The broker knows a message again for 120 s, so no write may be tried for as long.
const REQUEST_TIMEOUT_MS: RangeInclusive<u64> = 100..=100_000;
const CONNECTIONS_MAX: RangeInclusive<u64> = 1..=1_000_000;
/// A filter is read and evaluated by functions that call themselves, on the stack of a thread that serves everybody.
const FILTER_DEPTH_MAX: RangeInclusive<u64> = 1..=128;
const ASYNC_REQUESTS_MAX: RangeInclusive<u64> = 0..=1_000_000;
/// How long a client may be slow, or idle: an hour is enough for every network, and nobody is served within nothing.
const CONNECTION_TIMEOUT_MS: RangeInclusive<u64> = 100..=3_600_000;

/// Adds what is wrong with them.
pub(super) fn check(limits: &Limits, mistakes: &mut Mistakes) {
    let Limits { request_timeout_ms, connections_max, .. } = *limits;
    let Limits { head_timeout_ms, body_timeout_ms, idle_timeout_ms, send_timeout_ms, .. } = *limits;
    for (name, value, range) in [
        ("request_timeout_ms", request_timeout_ms, REQUEST_TIMEOUT_MS),
        ("connections_max", connections_max as u64, CONNECTIONS_MAX),
        ("filter_depth_max", limits.filter_depth_max as u64, FILTER_DEPTH_MAX),
        ("async_requests_max", limits.async_requests_max as u64, ASYNC_REQUESTS_MAX),
        ("head_timeout_ms", head_timeout_ms, CONNECTION_TIMEOUT_MS),
        ("body_timeout_ms", body_timeout_ms, CONNECTION_TIMEOUT_MS),
        ("idle_timeout_ms", idle_timeout_ms, CONNECTION_TIMEOUT_MS),
        ("send_timeout_ms", send_timeout_ms, CONNECTION_TIMEOUT_MS),
    ] {
        mistakes.check_range(PLACE, name, value, range);
    }
    for (name, value) in [
        ("body_bytes_max", limits.body_bytes_max),
        ("resource_bytes_max", limits.resource_bytes_max),
        ("filter_bytes_max", limits.filter_bytes_max),
        ("filter_terms_max", limits.filter_terms_max),
        ("patch_operations_max", limits.patch_operations_max),
        ("patch_values_max", limits.patch_values_max),
        ("members_max", limits.members_max),
        ("answer_bytes_max", limits.answer_bytes_max),
        ("memory_bytes_max", limits.memory_bytes_max),
        ("page_max", limits.page_max),
        ("attributes_max", limits.attributes_max),
        ("cursor_timeout_s", usize::try_from(limits.cursor_timeout_s).unwrap_or(usize::MAX)),
        ("bulk_operations_max", limits.bulk_operations_max),
        ("bulk_parallel_max", limits.bulk_parallel_max),
        ("scan_rows_max", limits.scan_rows_max),
        ("attempts_max", limits.attempts_max as usize),
    ] {
        if value == 0 {
            mistakes.add(format!("{PLACE}.{name}: must be at least 1"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(text: &str, mistake: Option<&str>) {
        let (limits, mut mistakes): (Limits, _) = (toml::from_str(text).unwrap(), Mistakes::default());
        check(&limits, &mut mistakes);
        let found = mistakes.into_result().err().map(|failure| failure.to_string());
        match (&found, mistake) {
            (None, None) => {}
            (Some(found), Some(mistake)) => assert!(found.contains(mistake), "{text}: {found}"),
            (_, _) => panic!("{text}: {found:?} instead of {mistake:?}"),
        }
    }

    #[test]
    fn what_would_refuse_everybody_is_refused_at_the_start() {
        check_text("", None);
        check_text("async_requests_max = 0\nanswer_members_max = 0", None);
        check_text("page_max = 0", Some("gateway.limits.page_max: must be at least 1"));
        check_text("body_bytes_max = 0", Some("gateway.limits.body_bytes_max: must be at least 1"));
        check_text("connections_max = 0", Some("gateway.limits.connections_max: must be 1 to 1000000"));
        check_text("filter_depth_max = 128", None);
        check_text("filter_depth_max = 129", Some("gateway.limits.filter_depth_max: must be 1 to 128"));
        check_text(
            "async_requests_max = 9223372036854775807",
            Some("gateway.limits.async_requests_max: must be 0 to 1000000"),
        );
        check_text("idle_timeout_ms = 0", Some("gateway.limits.idle_timeout_ms: must be 100 to 3600000"));
        check_text(
            "request_timeout_ms = 0",
            Some("gateway.limits.request_timeout_ms: must be 100 to 100000"),
        );
    }
}
