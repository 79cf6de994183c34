//! `rollcall app reconcile`: has an app held against what it should hold, and tells what was found.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::Failure;
use crate::apps::{cell, get, path, show, table};
use crate::args::Reconcile;
use crate::audit::Client;
use crate::settings::Settings;

/// How often it is asked whether it ended.
const ASK_INTERVAL: Duration = Duration::from_millis(300);
/// How long it is waited for.
const WAIT_MAX: Duration = Duration::from_secs(6 * 60 * 60);

pub(crate) async fn run(settings: &Settings, asked: &Reconcile) -> Result<(), Failure> {
    let place = path(&asked.app, "/reconcile");
    let body = json!({"by": asked.by, "why": asked.why});
    let begun = Client::new(settings, &asked.answer.admin)?.post_json(&place, &body).await?;
    if !asked.wait {
        show(&asked.answer, &begun, "asked for; `rollcall app show` tells what was found");
        return Ok(());
    }
    let asked_at = cell(begun.get("askedAt"));
    let deadline = Instant::now() + WAIT_MAX;
    while Instant::now() < deadline {
        tokio::time::sleep(ASK_INTERVAL).await;
        let now = Value::Object(get(settings, &asked.answer, &place, &[]).await?);
        if let Some(Value::Object(found)) = last(&now)
            && is_after(&cell(found.get("begunAt")), &asked_at)
        {
            show(&asked.answer, found, &text(found));
            return Ok(());
        }
    }
    let hours = WAIT_MAX.as_secs() / 3600;
    Err(Failure::new(format!(
        "it has not ended within {hours} hours; it goes on, and `rollcall app show` tells what was found"
    )))
}

/// The last one that ended, of what the admin API tells.
pub(crate) fn last(told: &Value) -> Option<&Value> {
    told.get("last").filter(|last| !last.is_null())
}

fn is_after(begun: &str, asked: &str) -> bool {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().ok();
    instant(begun).zip(instant(asked)).is_some_and(|(begun, asked)| begun >= asked)
}

/// One line about what was found.
pub(crate) fn summary(last: &Value) -> String {
    let found = last.get("findings");
    let say = |name: &str| cell(found.and_then(|found| found.get(name)));
    let mut line = format!(
        "reconciled at {}: {} drifted, {} missing, {} members too many, {} too few, {} strangers",
        cell(last.get("endedAt")),
        say("drifted"),
        say("missing"),
        say("membersTooMany"),
        say("membersTooFew"),
        say("strangers"),
    );
    if let Some(broken) = last.get("broken").and_then(Value::as_str) {
        line.push_str(&format!("; not everything was listed: {broken}"));
    }
    line
}

fn text(last: &Map<String, Value>) -> String {
    let whole = Value::Object(last.clone());
    let mut text = summary(&whole);
    let found = |name: &str| {
        let listed = whole.get("findings").and_then(|found| found.get(name)).and_then(Value::as_array);
        listed.cloned().unwrap_or_default()
    };
    let paths = |item: &Value| {
        let paths = item.get("paths").and_then(Value::as_array).into_iter().flatten();
        paths.map(|path| cell(Some(path))).collect::<Vec<_>>().join(", ")
    };
    for (name, head) in [("firstDrifted", "otherwise in"), ("notKept", "not kept by the app")] {
        let rows: Vec<Vec<String>> =
            found(name).iter().map(|item| vec![cell(item.get("id")), paths(item)]).collect();
        if !rows.is_empty() {
            text.push_str(&format!("\n\n{}", table(&["id", head], rows)));
        }
    }
    let strangers = found("firstStrangers");
    let row = |item: &Value| {
        ["resourceType", "remoteId", "claims"].iter().map(|name| cell(item.get(*name))).collect()
    };
    let rows: Vec<Vec<String>> = strangers.iter().map(row).collect();
    if !rows.is_empty() {
        text.push_str(&format!("\n\n{}", table(&["type", "stranger", "says it is"], rows)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_told() {
        let last = json!({
            "endedAt": "T", "broken": "the app listed 10 of 24 User",
            "findings": {"drifted": 1, "missing": 0, "membersTooMany": 2, "membersTooFew": 0, "strangers": 1,
                "firstDrifted": [{"id": "01", "paths": ["members", "title"]}], "notKept": [],
                "firstStrangers": [{"resourceType": "User", "remoteId": "r9"}]},
        });
        let text = text(last.as_object().unwrap());
        for part in [
            "1 drifted, 0 missing, 2 members too many, 0 too few, 1 strangers",
            "not everything was listed: the app listed 10 of 24 User",
            "01  members, title",
            "User  r9",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("NOT KEPT"), "{text}");
    }

    #[test]
    fn only_one_that_began_after_it_was_asked_for_answers() {
        assert!(is_after("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00Z"));
        assert!(!is_after("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z"));
        assert!(!is_after("", "2026-01-01T00:00:00Z"));
    }
}
