//! `rollcall app plan`, `why`, `timeline`, `who` and `leave`: how the answers look to people.

use serde_json::{Map, Value};

use super::{cell, items, table};

/// What would be done.
pub(super) fn plan(told: &Map<String, Value>) -> String {
    let mut lines = Vec::new();
    if let Some(calls) = told.get("calls").and_then(Value::as_object) {
        let counts: Vec<String> = calls.iter().map(|(call, count)| format!("{count} {call}")).collect();
        lines.push(format!("{} looked at: {}", cell(told.get("lookedAt")), counts.join(", ")));
    }
    for (operation, held) in told.get("wouldBeHeld").and_then(Value::as_object).into_iter().flatten() {
        lines.push(format!(
            "a guard rail would hold it: {operation}, {} of {} accounts",
            cell(held.get("counted")),
            cell(held.get("of"))
        ));
    }
    lines.extend(items(told, "items").map(step));
    if lines.is_empty() {
        lines.push("nothing: neither the directory nor the app knows it".to_string());
    }
    lines.join("\n")
}

/// One step of a plan.
fn step(item: &Value) -> String {
    let say = |name: &str| cell(item.get(name));
    let mut text = format!("{} {} {} {:?}", say("does"), say("resourceType"), say("id"), say("display"));
    for (name, word) in [("why", "because"), ("dueAt", "at")] {
        if !say(name).is_empty() {
            text.push_str(&format!("  {word} {}", say(name)));
        }
    }
    for (name, sign) in [("membersAdded", '+'), ("membersRemoved", '-')] {
        for id in item.get(name).and_then(Value::as_array).into_iter().flatten() {
            text.push_str(&format!("\n  {sign} member {}", cell(Some(id))));
        }
    }
    for (name, value) in item.get("attributes").and_then(Value::as_object).into_iter().flatten() {
        text.push_str(&format!("\n  {name}: {value}"));
    }
    text
}

/// Why an app holds what it holds.
pub(super) fn why(told: &Map<String, Value>) -> String {
    if let Some(detail) = told.get("detail").and_then(Value::as_str) {
        return std::iter::once(detail.to_string())
            .chain(items(told, "events").map(event))
            .collect::<Vec<_>>()
            .join("\n");
    }
    let say = |name: &str| cell(told.get(name));
    let of = |name: &str, part: &str| cell(told.get(name).and_then(|value| value.get(part)));
    let is_in = told.get("inScope") == Some(&Value::Bool(true));
    let scope = if is_in { "in scope" } else { "not in scope" };
    let mut lines =
        vec![format!("{} {} at {}: {scope} ({})", say("resourceType"), say("id"), say("app"), say("scope"))];
    if let Some(group) = told.get("inScopeBy").and_then(|by| by.get("group")).filter(|group| !group.is_null())
    {
        lines.push(format!(
            "in scope by the group {} {:?}",
            cell(group.get("id")),
            cell(group.get("display"))
        ));
    }
    lines.push(match of("link", "remoteId") {
        none if none.is_empty() => "the app has no account".to_string(),
        remote_id if of("link", "isOff") == "true" => {
            format!("the app's account is {remote_id}, switched off")
        }
        remote_id => format!("the app's account is {remote_id}"),
    });
    if of("link", "outcomeUnknown") == "true" {
        lines.push("what came of the last call is not known: the app is read first".to_string());
    }
    if let Some(held) = told.get("link").and_then(|link| link.get("held")).filter(|held| !held.is_null()) {
        lines.push(format!("held since {}: {}", cell(held.get("since")), cell(held.get("reason"))));
    }
    if !of("wish", "leave").is_empty() {
        lines.push(format!("it should go ({}): {}", of("wish", "leave"), of("wish", "why")));
    }
    if told.get("paused").is_some_and(|paused| !paused.is_null()) {
        lines.push(format!("the app is paused by {}", of("paused", "by")));
    }
    for operation in told.get("tripped").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        lines.push(format!("a guard rail holds {operation} until it is released"));
    }
    if of("rollout", "letThrough") == "false" {
        lines.push("what no event asks for waits for its stage of the rollout".to_string());
    }
    lines.push(format!("next: {}", told.get("plan").map(step).unwrap_or_default()));
    lines.extend(items(told, "events").map(event));
    lines.join("\n")
}

/// One thing that happened, in the directory or at an app.
pub(super) fn event(item: &Value) -> String {
    let say = |name: &str| cell(item.get(name));
    let place = match say("app") {
        none if none.is_empty() => "directory".to_string(),
        app => app,
    };
    let mut text =
        format!("{}  {place:<12} {} {}", say("time"), say("kind"), say("operation")).trim_end().to_string();
    for (name, word) in [
        ("source", "by "),
        ("actor", "by "),
        ("status", ""),
        ("error", ""),
        ("scope", "scope "),
        ("reason", "because "),
        ("why", "because "),
    ] {
        if !say(name).is_empty() {
            text.push_str(&format!("  {word}{}", say(name)));
        }
    }
    let value = |value: Option<&Value>| value.map_or_else(|| "nothing".to_string(), Value::to_string);
    for change in item.get("changes").and_then(Value::as_array).into_iter().flatten() {
        let (before, after) = (value(change.get("before")), value(change.get("after")));
        text.push_str(&format!("\n    {}: {before} -> {after}", cell(change.get("path"))));
    }
    for (name, sign) in [("membersRemoved", '-'), ("membersAdded", '+')] {
        for id in item.get(name).and_then(Value::as_array).into_iter().flatten() {
            text.push_str(&format!("\n    {sign} member {}", cell(Some(id))));
        }
    }
    text
}

/// Everything that happened, in the order of time.
pub(super) fn timeline(told: &Map<String, Value>) -> String {
    let left_out = told.get("leftOut").and_then(Value::as_u64).filter(|count| *count > 0);
    let first = left_out.map(|count| format!("{count} events before these are not shown"));
    let lines: Vec<String> = first.into_iter().chain(items(told, "items").map(event)).collect();
    if lines.is_empty() { "nothing is known of it".to_string() } else { lines.join("\n") }
}

/// Who had an account.
pub(super) fn who(told: &Map<String, Value>) -> String {
    let row = |item: &Value| {
        let mut row: Vec<String> = ["resourceType", "id", "display", "remoteId", "since"]
            .iter()
            .map(|name| cell(item.get(*name)))
            .collect();
        row.push(if item.get("isOff") == Some(&Value::Bool(true)) { "off" } else { "on" }.to_string());
        row
    };
    let rows: Vec<Vec<String>> = items(told, "items").map(row).collect();
    let text = table(&["type", "id", "display", "at the app", "since", "state"], rows);
    format!("{text}\n{} at {}", cell(told.get("total")), cell(told.get("at")))
}

/// Whose end passes what is stopped.
pub(super) fn leave(told: &Map<String, Value>) -> String {
    let line = |item: &Value| {
        let app = cell(item.get("app"));
        if item.get("stillWished") == Some(&Value::Bool(true)) {
            format!(
                "{app}: the directory still wants this account: deactivate or delete the person there, and it goes at once"
            )
        } else {
            format!("{app}: goes now, whatever is stopped there")
        }
    };
    let lines: Vec<String> = items(told, "items").map(line).collect();
    if lines.is_empty() { "no app has an account of this person".to_string() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(show: fn(&Map<String, Value>) -> String, told: Value, parts: &[&str]) {
        let text = show(told.as_object().unwrap());
        for part in parts {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_plan_says_how_much_and_the_first_steps() {
        let told = json!({
            "lookedAt": 99, "calls": {"create": 60, "nothing": 39},
            "wouldBeHeld": {"unasked_create": {"counted": 60, "of": 39}},
            "items": [{"does": "create", "resourceType": "User", "id": "1", "display": "Ada", "why": "missing at the app"}],
        });
        let parts = [
            "99 looked at: 60 create, 39 nothing",
            "unasked_create, 60 of 39",
            "create User 1 \"Ada\"  because missing",
        ];
        check(plan, told, &parts);
    }

    #[test]
    fn why_says_scope_account_and_what_is_next() {
        let told = json!({
            "app": "wiki", "id": "1", "resourceType": "User", "inScope": false, "scope": "active eq true",
            "link": {"remoteId": "r1", "isOff": true, "held": {"since": "T", "reason": "the app refuses it (400)"}},
            "wish": {"leave": "delete", "why": "deleted in the directory"}, "paused": {"by": "ann"},
            "tripped": {"delete": {}}, "plan": {"does": "delete", "why": "deleted in the directory"},
            "events": [{"time": "T", "app": "wiki", "kind": "Done", "operation": "create", "status": 201, "why": "missing"}],
        });
        let parts = [
            "not in scope (active eq true)",
            "account is r1, switched off",
            "held since T: the app refuses it",
            "it should go (delete)",
            "paused by ann",
            "a guard rail holds delete",
            "next: delete",
            "T  wiki         Done create  201  because missing",
        ];
        check(why, told, &parts);
        let by =
            json!({"inScope": true, "inScopeBy": {"filter": true, "group": {"id": "7", "display": "Staff"}}});
        check(why, by, &["in scope by the group 7 \"Staff\""]);
    }

    #[test]
    fn a_timeline_is_in_lines() {
        let told = json!({"items": [
            {"time": "T1", "kind": "Updated", "source": "hr", "changes": [{"path": "title", "before": "A", "after": "B"}]},
            {"time": "T2", "app": "wiki", "kind": "Done", "operation": "change_members", "scope": "left", "membersAdded": ["7"]},
        ]});
        check(
            timeline,
            told,
            &["T1  directory    Updated  by hr", "title: \"A\" -> \"B\"", "scope left", "+ member 7"],
        );
        check(timeline, json!({"items": []}), &["nothing is known"]);
        let first = json!({"items": [], "leftOut": 7});
        check(timeline, first, &["7 events before these are not shown"]);
        let accounts = json!({"at": "T", "total": 1, "items": [{"id": "1", "remoteId": "r", "isOff": true}]});
        check(who, accounts, &["AT THE APP", "off", "1 at T"]);
        let passed =
            json!({"items": [{"app": "wiki", "stillWished": true}, {"app": "chat", "stillWished": false}]});
        check(leave, passed, &["wiki: the directory still wants", "chat: goes now"]);
    }
}
