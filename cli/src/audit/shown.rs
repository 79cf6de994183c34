//! How items look: lines for people, rows for spreadsheets.

use serde_json::Value;

/// What is asked for, and so what an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    History,
    Resources,
    Members,
    Stays,
    Differences,
    Digest,
    Plan,
}

impl Surface {
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::History => "/api/v1/audit/history",
            Self::Resources => "/api/v1/audit/at",
            Self::Members | Self::Stays => "/api/v1/audit/members",
            Self::Differences => "/api/v1/audit/diff",
            Self::Digest => "/api/v1/audit/digest",
            Self::Plan => "/api/v1/explain",
        }
    }

    /// The first row.
    pub(super) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::History => &[
                "sequence",
                "time",
                "kind",
                "resourceType",
                "resourceId",
                "source",
                "actor",
                "txn",
                "reason",
                "callerAddress",
                "erased",
                "path",
                "before",
                "after",
            ],
            Self::Resources => &["id", "resourceType", "version", "path", "value"],
            Self::Members => &["id", "resourceType", "display", "direct"],
            Self::Stays => {
                &["group", "member", "display", "fromSequence", "fromTime", "toSequence", "toTime"]
            }
            Self::Differences => &["id", "resourceType", "display", "what", "path", "before", "after"],
            Self::Digest => &["resources", "sha256"],
            Self::Plan => &["step"],
        }
    }

    /// An item as rows: one a change.
    pub(super) fn rows(self, item: &Value) -> Vec<Vec<String>> {
        let first = |names: &[&str]| names.iter().map(|name| cell(item.get(*name))).collect::<Vec<_>>();
        match self {
            Self::History => {
                let event =
                    self.columns().split_last_chunk::<3>().map(|(event, _)| event).unwrap_or_default();
                with_changes(&first(event), item)
            }
            Self::Differences => with_changes(&first(&["id", "resourceType", "display", "what"]), item),
            Self::Members => vec![first(&["id", "resourceType", "display", "direct"])],
            Self::Digest => vec![first(&["resources", "sha256"])],
            Self::Plan => vec![vec![cell(Some(item))]],
            Self::Stays => {
                let mut row = first(&["group", "member", "display"]);
                for end in ["from", "to"] {
                    row.extend(
                        ["sequence", "time"].map(|name| cell(item.get(end).and_then(|end| end.get(name)))),
                    );
                }
                vec![row]
            }
            Self::Resources => {
                let meta = |name: &str| cell(item.get("meta").and_then(|meta| meta.get(name)));
                let about = [cell(item.get("id")), meta("resourceType"), meta("version")];
                let mut leaves = Vec::new();
                leaves_of("", '.', item, &mut leaves);
                let row =
                    |(path, value): (String, String)| about.iter().cloned().chain([path, value]).collect();
                leaves.into_iter().map(row).collect()
            }
        }
    }

    /// An item as lines.
    pub(super) fn text(self, item: &Value) -> String {
        let say = |name: &str| cell(item.get(name));
        let quoted = |name: &str| item.get(name).unwrap_or(&Value::Null).to_string();
        match self {
            Self::History => {
                let mut text = format!(
                    "{:>8}  {}  {} {} {}  by {}/{}",
                    say("sequence"),
                    say("time"),
                    say("kind"),
                    say("resourceType"),
                    say("resourceId"),
                    say("source"),
                    say("actor")
                );
                for (name, word) in [("callerAddress", "from"), ("reason", "because")] {
                    if !say(name).is_empty() {
                        text.push_str(&format!("  {word} {}", say(name)));
                    }
                }
                if item.get("erased") == Some(&Value::Bool(true)) {
                    text.push_str("\n          what it said was erased");
                }
                text + &changed(item)
            }
            Self::Differences => {
                let what =
                    format!("{} {} {} {}", say("what"), say("resourceType"), say("id"), quoted("display"));
                what + &changed(item)
            }
            Self::Resources => serde_json::to_string_pretty(item).unwrap_or_default(),
            Self::Members => {
                let how = if item.get("direct") == Some(&Value::Bool(false)) {
                    "  through another group"
                } else {
                    ""
                };
                format!("{} {} {}{how}", say("resourceType"), say("id"), quoted("display"))
            }
            Self::Stays => {
                let moment = |name: &str| {
                    let end = item.get(name).filter(|end| !end.is_null())?;
                    Some(format!("{} ({})", cell(end.get("sequence")), cell(end.get("time"))))
                };
                format!(
                    "{} in {}, {}: from {} {}",
                    say("member"),
                    say("group"),
                    quoted("display"),
                    moment("from").unwrap_or_default(),
                    moment("to").map_or_else(|| "on".to_string(), |to| format!("to {to}"))
                )
            }
            Self::Digest => format!("{} resources, sha256 {}", say("resources"), say("sha256")),
            Self::Plan => cell(Some(item)),
        }
    }
}

/// A text as it is, everything else as JSON; nothing for nothing.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

fn listed<'a>(item: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    item.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// A row for each change, members included; one row for an item without any.
fn with_changes(first: &[String], item: &Value) -> Vec<Vec<String>> {
    let row = |path: String, before: String, after: String| -> Vec<String> {
        first.iter().cloned().chain([path, before, after]).collect()
    };
    let mut rows = Vec::new();
    for change in listed(item, "changes") {
        rows.push(row(cell(change.get("path")), cell(change.get("before")), cell(change.get("after"))));
    }
    for id in listed(item, "membersRemoved") {
        rows.push(row("members".to_string(), cell(Some(id)), String::new()));
    }
    for id in listed(item, "membersAdded") {
        rows.push(row("members".to_string(), String::new(), cell(Some(id))));
    }
    if rows.is_empty() {
        rows.push(row(String::new(), String::new(), String::new()));
    }
    rows
}

/// The lines of each change.
fn changed(item: &Value) -> String {
    let value = |value: Option<&Value>| value.map_or_else(|| "nothing".to_string(), Value::to_string);
    let mut text = String::new();
    for change in listed(item, "changes") {
        let (before, after) = (value(change.get("before")), value(change.get("after")));
        text.push_str(&format!("\n          {}: {before} -> {after}", cell(change.get("path"))));
    }
    for (name, sign) in [("membersRemoved", '-'), ("membersAdded", '+')] {
        for id in listed(item, name) {
            text.push_str(&format!("\n          {sign} member {}", cell(Some(id))));
        }
    }
    text
}

/// Every value that has no parts, by its path as changes have it.
fn leaves_of(path: &str, separator: char, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let whole = if path.is_empty() { name.clone() } else { format!("{path}{separator}{name}") };
                let separator = if path.is_empty() && scim::is_urn(name) { ':' } else { '.' };
                leaves_of(&whole, separator, value, leaves);
            }
        }
        Value::Array(values) => {
            for (place, value) in values.iter().enumerate() {
                leaves_of(&format!("{path}[{place}]"), '.', value, leaves);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            leaves.push((path.to_string(), cell(Some(value))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event() -> Value {
        json!({
            "sequence": 7, "time": "2026-11-01T00:00:00.000Z", "kind": "Updated", "resourceType": "Group",
            "resourceId": "g", "source": "hr", "actor": "a1", "txn": "t", "reason": "", "callerAddress": "127.0.0.1",
            "changes": [{"path": "displayName", "before": "=A", "after": "B"}, {"path": "active", "after": true}],
            "membersAdded": ["m2"], "membersRemoved": ["m1"], "erased": false,
        })
    }

    #[test]
    fn a_row_is_a_change() {
        let rows = Surface::History.rows(&event());
        let ends: Vec<&[String]> = rows.iter().map(|row| &row[11..]).collect();
        assert_eq!(
            ends,
            [
                ["displayName", "=A", "B"],
                ["active", "", "true"],
                ["members", "m1", ""],
                ["members", "", "m2"]
            ]
        );
        assert!(rows.iter().all(|row| row.len() == Surface::History.columns().len() && row[0] == "7"));
        let nothing = Surface::History.rows(&json!({"sequence": 8}));
        assert_eq!(nothing, [[vec!["8".to_string()], vec![String::new(); 13]].concat()]);
    }

    #[test]
    fn every_surface_has_a_cell_for_each_column() {
        let stay = json!({"group": "g", "from": {"sequence": 1, "time": "t"}, "to": null});
        for surface in [
            Surface::History,
            Surface::Resources,
            Surface::Members,
            Surface::Stays,
            Surface::Differences,
            Surface::Digest,
            Surface::Plan,
        ] {
            for row in surface.rows(&stay) {
                assert_eq!(row.len(), surface.columns().len(), "{surface:?}");
            }
        }
        assert_eq!(Surface::Stays.rows(&stay), [["g", "", "", "1", "t", "", ""]]);
    }

    #[test]
    fn a_resource_is_a_row_for_each_value() {
        let urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        let resource = json!({
            "id": "1", "meta": {"resourceType": "User", "version": "v"}, "emails": [{"value": "a@x", "primary": true}],
            urn: {"manager": {"value": "2"}},
        });
        let rows = Surface::Resources.rows(&resource);
        let ends: Vec<String> = rows.iter().map(|row| row[3..].join("=")).collect();
        let manager = format!("{urn}:manager.value=2");
        assert!(ends.contains(&"emails[0].value=a@x".to_string()) && ends.contains(&manager), "{ends:?}");
        assert!(rows.iter().all(|row| row[..3] == ["1", "User", "v"]));
    }

    #[test]
    fn an_event_is_told_in_lines() {
        let text = Surface::History.text(&event());
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "7  2026-11-01T00:00:00.000Z  Updated Group g  by hr/a1  from 127.0.0.1",
                "displayName: \"=A\" -> \"B\"",
                "active: nothing -> true",
                "- member m1",
                "+ member m2",
            ]
        );
    }
}
