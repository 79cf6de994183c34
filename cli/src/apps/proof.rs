//! `rollcall app test` and `provision`: whether an app can be worked with, at large and at one resource.

use serde_json::{Map, Value};

use super::{by, cell, items, path, people, post, show, table};
use crate::Failure;
use crate::args::{AppShow, Provision};
use crate::settings::Settings;

pub(super) async fn test(settings: &Settings, asked: &AppShow) -> Result<(), Failure> {
    let told = post(settings, &asked.answer, &path(&asked.app, "/test"), Map::new()).await?;
    show(&asked.answer, &told, &checks(&told));
    match told.get("failed").and_then(Value::as_u64).unwrap_or_default() {
        0 => Ok(()),
        1 => Err(Failure::new(format!("1 check of {} failed", asked.app))),
        failed => Err(Failure::new(format!("{failed} checks of {} failed", asked.app))),
    }
}

/// A line for each check, and below it what to do.
fn checks(told: &Map<String, Value>) -> String {
    let say = |item: &Value, name: &str| cell(item.get(name));
    let row = |item: &Value| ["verdict", "name", "found"].iter().map(|name| say(item, name)).collect();
    let text = table(&["verdict", "check", "found"], items(told, "items").map(row).collect());
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    // From below, so that the places of those above stay.
    let all: Vec<&Value> = items(told, "items").collect();
    for (place, item) in all.iter().enumerate().rev() {
        let todo = say(item, "todo");
        if !todo.is_empty() {
            lines.insert(place + 2, format!("         -> {todo}"));
        }
    }
    lines.join("\n")
}

pub(super) async fn provision(settings: &Settings, asked: &Provision) -> Result<(), Failure> {
    let mut body = by(&asked.said);
    body.insert("who".to_string(), asked.who.clone().into());
    body.insert("waitSeconds".to_string(), asked.wait_seconds.into());
    let told = post(settings, &asked.answer, &path(&asked.app, "/provision"), body).await?;
    show(&asked.answer, &told, &provisioned(&told));
    match told.get("outcome").and_then(Value::as_str) {
        Some("settled") => Ok(()),
        _ => Err(Failure::new(format!(
            "{} is not as it should be: {}",
            cell(told.get("id")),
            cell(told.get("why"))
        ))),
    }
}

/// Each call, and how it ended.
fn provisioned(told: &Map<String, Value>) -> String {
    let say = |name: &str| cell(told.get(name));
    let mut lines =
        vec![format!("{} {} {:?} at {}", say("resourceType"), say("id"), say("display"), say("app"))];
    lines.extend(items(told, "events").map(people::event));
    if items(told, "events").next().is_none() {
        lines.push("nothing was called".to_string());
    }
    let account = match (say("remoteId"), told.get("isOff") == Some(&Value::Bool(true))) {
        (none, _) if none.is_empty() => "the app has no account".to_string(),
        (remote_id, true) => format!("the app's account is {remote_id}, switched off"),
        (remote_id, false) => format!("the app's account is {remote_id}"),
    };
    lines.push(match say("outcome").as_str() {
        "settled" => format!("as it should be: {account}"),
        outcome => format!("{outcome}: {}; {account}", say("why")),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_to_do_stands_below_what_was_found() {
        let told = json!({"failed": 1, "items": [
            {"verdict": "ok", "name": "reachable", "found": "it answers"},
            {"verdict": "failed", "name": "credential", "found": "the app answers 401", "todo": "renew it"},
            {"verdict": "skipped", "name": "patch", "found": "not told"},
        ]});
        let text = checks(told.as_object().unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "failed   credential  the app answers 401");
        assert_eq!(lines[3], "         -> renew it");
        assert!(lines[4].starts_with("skipped  patch") && lines.len() == 5, "{text}");
    }

    #[test]
    fn every_call_and_the_end_are_told() {
        let told = json!({"app": "wiki", "id": "01", "resourceType": "User", "display": "ada", "outcome": "held",
            "why": "400", "remoteId": null, "isOff": false,
            "events": [{"time": "T", "app": "wiki", "kind": "Refused", "operation": "create", "status": 400}]});
        let text = provisioned(told.as_object().unwrap());
        for part in ["User 01 \"ada\" at wiki", "Refused create  400", "held: 400; the app has no account"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let told = json!({"outcome": "settled", "remoteId": "r1", "events": []});
        let text = provisioned(told.as_object().unwrap());
        assert!(text.contains("nothing was called\nas it should be: the app's account is r1"), "{text}");
    }
}
