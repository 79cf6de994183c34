//! What a subscriber hears: typed JSON events, derived purely from an event of the log, with only the attributes that
//! the feed may show. Types are promises: never renamed, never reused.

use jiff::Timestamp;
use proto::{Body, Event, Kind, ResourceId};
use scim::{Change, Object};
use serde_json::{Value, json};

/// CloudEvents in structured form, each with its id, which is the same whenever it is derived again.
pub(super) fn of(
    event: &Event,
    body: Option<&Body>,
    time: Timestamp,
    allowed: &[String],
) -> Vec<(String, Value)> {
    let noun = event.resource_type.to_ascii_lowercase();
    let mut told: Vec<(String, Object)> = Vec::new();
    let changes = body.map(|body| body.changes.as_slice()).unwrap_or_default();
    let resource = || {
        let mut data = Object::new();
        data.insert("attributes".to_string(), shown(body, allowed).into());
        data
    };
    let members = |verb: &str, ids: &[ResourceId]| -> Vec<(String, Object)> {
        let data = |id: &ResourceId| [("member".to_string(), json!(id.to_string()))].into_iter().collect();
        ids.iter().map(|id| (format!("{noun}.member_{verb}"), data(id))).collect()
    };
    match &event.kind {
        Kind::Created { members_added } => {
            told.push((format!("{noun}.created"), resource()));
            told.extend(members("added", members_added));
        }
        Kind::Updated { members_added, members_removed } => {
            let active = changes
                .iter()
                .find(|change| change.path == "active")
                .map(|change| change.after == Some(json!(true)));
            match active {
                Some(true) => told.push((format!("{noun}.reactivated"), resource())),
                Some(false) => told.push((format!("{noun}.deactivated"), resource())),
                None => {}
            }
            let changed = changed(changes, allowed);
            if active.is_none() || changes.len() > 1 {
                let mut data = resource();
                data.insert("changed".to_string(), changed.into());
                told.push((format!("{noun}.updated"), data));
            }
            told.extend(members("removed", members_removed));
            told.extend(members("added", members_added));
        }
        Kind::MembersChanged { added, removed } => {
            told.extend(members("removed", removed));
            told.extend(members("added", added));
        }
        Kind::Deleted => told.push((format!("{noun}.deleted"), Object::new())),
        Kind::Moved { .. }
        | Kind::Claimed { .. }
        | Kind::Released { .. }
        | Kind::CredentialsChanged
        | Kind::Erased
        | Kind::TenantDropped => {}
    }
    told.into_iter()
        .enumerate()
        .map(|(index, (kind, data))| cloud_event(event, time, index, &kind, data))
        .collect()
}

fn cloud_event(
    event: &Event,
    time: Timestamp,
    index: usize,
    kind: &str,
    mut data: Object,
) -> (String, Value) {
    let id = format!("{}.{index}", event.id);
    data.insert("id".to_string(), event.resource_id.to_string().into());
    data.insert("resourceType".to_string(), event.resource_type.clone().into());
    data.insert("txn".to_string(), event.txn.clone().into());
    let told = json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("/t/{}", event.tenant),
        "type": kind,
        "subject": format!("{}/{}", event.resource_type, event.resource_id),
        "time": time.to_string(),
        "datacontenttype": "application/json",
        "data": data,
    });
    (id, told)
}

/// The attributes that the feed may show.
fn shown(body: Option<&Body>, allowed: &[String]) -> Object {
    let Some(body) = body else { return Object::new() };
    let show =
        |(name, value): (&String, &Value)| allowed.contains(name).then(|| (name.clone(), value.clone()));
    body.document.iter().filter_map(show).collect()
}

/// Which of them changed. Paths of others are not told either.
fn changed(changes: &[Change], allowed: &[String]) -> Vec<String> {
    let root = |path: &str| {
        allowed.iter().any(|name| {
            path == name || path.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(['.', ':']))
        })
    };
    changes.iter().filter(|change| root(&change.path)).map(|change| change.path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind) -> Event {
        Event {
            id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            tenant: "corp".parse().unwrap(),
            resource_type: "User".to_string(),
            resource_id: "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap(),
            source: "hr".to_string(),
            actor: "k".to_string(),
            txn: "t".to_string(),
            occurred_at: Timestamp::UNIX_EPOCH,
            reason: String::new(),
            key_ref: None,
            continued: false,
            kind,
        }
    }

    fn body(changes: &[(&str, Value)]) -> Body {
        let document = json!({"userName": "ada", "title": "Dr", "active": false});
        let change = |(path, after): &(&str, Value)| Change {
            path: path.to_string(),
            before: None,
            after: Some(after.clone()),
        };
        Body {
            document: document.as_object().unwrap().clone().into(),
            changes: changes.iter().map(change).collect(),
            ..Body::default()
        }
    }

    #[track_caller]
    fn check(kind: Kind, changes: &[(&str, Value)], expected: &[&str]) {
        let told = of(&event(kind), Some(&body(changes)), Timestamp::UNIX_EPOCH, &["userName".to_string()]);
        let types: Vec<&str> = told.iter().map(|(_, told)| told["type"].as_str().unwrap()).collect();
        assert_eq!(types, expected);
        for (id, told) in &told {
            assert_eq!(told["id"], json!(id));
            assert!(!told.to_string().contains("Dr"), "title is not allowed: {told}");
        }
    }

    #[test]
    fn each_event_becomes_what_a_subscriber_understands() {
        let updated = || Kind::Updated { members_added: vec![], members_removed: vec![] };
        let member = "01890a5d-ac96-774b-bcce-b302099a8059".parse().unwrap();
        check(Kind::Created { members_added: vec![] }, &[], &["user.created"]);
        check(updated(), &[("active", json!(false))], &["user.deactivated"]);
        check(
            updated(),
            &[("active", json!(true)), ("title", json!("Dr"))],
            &["user.reactivated", "user.updated"],
        );
        check(updated(), &[("title", json!("Dr"))], &["user.updated"]);
        check(
            Kind::MembersChanged { added: vec![member], removed: vec![member] },
            &[],
            &["user.member_removed", "user.member_added"],
        );
        check(Kind::Deleted, &[], &["user.deleted"]);
        check(Kind::Erased, &[], &[]);
    }
}
