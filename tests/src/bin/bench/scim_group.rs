//! What SCIM costs without network and disk: reading, asking and changing, each beside serde_json on the same JSON.

use std::hint::black_box;
use std::time::{Duration, Instant};

use scim::validate::{self, Context};
use scim::{Dialect, Filter, FilterLimits, Object, Patch, Registry};
use serde_json::{Value, json};

/// How long one figure is measured.
const CELL: Duration = Duration::from_millis(600);

/// The median time of one call, in nanoseconds.
fn cost(work: impl Fn()) -> f64 {
    let begun = Instant::now();
    work();
    let calls = (2_000_000 / begun.elapsed().as_nanos().max(1)).clamp(1, 10_000) as u32;
    let mut samples = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < CELL {
        let one = Instant::now();
        for _ in 0..calls {
            work();
        }
        samples.push(one.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn row(title: &str, json: &Value, work: impl Fn()) {
    let text = json.to_string();
    let floor = cost(|| drop(black_box(serde_json::from_str::<Value>(black_box(&text)).expect("JSON"))));
    let own = cost(work);
    println!(
        "{title:<44} {own:>10.0} ns   serde_json on the same {:>7} bytes {floor:>10.0} ns   ratio {:>6.2}",
        text.len(),
        own / floor
    );
}

fn user(emails: usize) -> Value {
    let emails: Vec<Value> = (0..emails)
        .map(|number| json!({"value": format!("ada{number}@corp.test"), "type": if number == 0 { "work" } else { "other" }, "primary": number == 0}))
        .collect();
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
        "userName": "ada@corp.test", "externalId": "00u1abc", "displayName": "Ada Lovelace", "active": true,
        "name": {"givenName": "Ada", "familyName": "Lovelace", "formatted": "Ada Lovelace"},
        "emails": emails, "title": "Countess", "locale": "en-GB", "timezone": "Europe/London",
        "phoneNumbers": [{"value": "+44 20 7946 0000", "type": "work"}],
        "addresses": [{"type": "work", "streetAddress": "12 St James's Square", "locality": "London", "country": "GB"}],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"employeeNumber": "1815", "department": "Engines", "manager": {"value": "26118915-6090-4610-87e4-49d8ca9f808d"}},
    })
}

fn group(members: usize) -> Value {
    let members: Vec<Value> = (0..members)
        .map(|number| json!({"value": format!("01890a5d-ac96-774b-bcce-{number:012x}"), "display": format!("u{number}")}))
        .collect();
    json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Team", "members": members})
}

fn patch(operations: Value) -> Value {
    json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations})
}

pub(crate) fn run() {
    let registry = Registry::built_in().expect("the schemas are valid");
    let context = |kind: &str| {
        let kind = registry.by_name(kind).expect("a built-in type");
        Context { registry: &registry, kind, speech: Dialect::Rfc.into() }
    };
    let (users, groups) = (context("User"), context("Group"));
    let limits = FilterLimits::default();

    for (title, text) in [
        ("filter, one comparison: read", "userName eq \"ada@corp.test\"".to_string()),
        (
            "filter, five terms: read",
            "(userName sw \"a\" or emails[type eq \"work\" and value co \"@corp\"]) and not (active eq false)".to_string(),
        ),
        (
            "filter, 150 terms: read",
            (0..150).map(|number| format!("userName eq \"user{number}\"")).collect::<Vec<_>>().join(" or "),
        ),
    ] {
        let search = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "filter": text});
        let read = || Filter::parse(black_box(&text), &limits, Dialect::Rfc, &registry, users.kind).expect("a filter");
        row(title, &search, || drop(black_box(read())));
    }
    let resource: Object = user(3).as_object().expect("an object").clone();
    for (title, text) in [
        ("filter, one comparison: ask one user", "userName eq \"ada@corp.test\""),
        (
            "filter, five terms: ask one user",
            "(userName sw \"x\" or emails[type eq \"work\" and value co \"@corp\"]) and not (active eq false)",
        ),
    ] {
        let filter = Filter::parse(text, &limits, Dialect::Rfc, &registry, users.kind).expect("a filter");
        row(title, &Value::Object(resource.clone()), || {
            assert!(black_box(filter.matches(black_box(&resource))))
        });
    }
    for (title, context, body) in [
        ("body to validated resource: a user", users, user(3)),
        ("body to validated resource: 300 e-mails", users, user(300)),
        ("body to validated resource: 10,000 members", groups, group(10_000)),
    ] {
        let text = body.to_string();
        row(title, &body, || {
            let body = scim::json::parse(black_box(text.as_bytes())).expect("JSON");
            drop(black_box(validate::create(context, body).expect("a resource")));
        });
    }
    let (ada, many) = (
        validate::create(users, user(3)).expect("a user"),
        validate::create(users, user(300)).expect("a user"),
    );
    for (title, full, body) in [
        (
            "PATCH, one attribute: read and apply",
            &ada,
            patch(json!([{"op": "replace", "path": "active", "value": false}])),
        ),
        (
            "PATCH, five operations: read and apply",
            &ada,
            patch(json!([
                {"op": "replace", "path": "name.givenName", "value": "Augusta"},
                {"op": "replace", "path": "emails[type eq \"work\"].value", "value": "new@corp.test"},
                {"op": "add", "path": "phoneNumbers", "value": [{"value": "1", "type": "home"}]},
                {"op": "remove", "path": "title"},
                {"op": "replace", "value": {"displayName": "A", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department": "D"}},
            ])),
        ),
        (
            "PATCH of one of 300 e-mails: read and apply",
            &many,
            patch(
                json!([{"op": "replace", "path": "emails[value eq \"ada7@corp.test\"].display", "value": "x"}]),
            ),
        ),
    ] {
        let text = body.to_string();
        row(title, &body, || {
            let body = scim::json::parse(black_box(text.as_bytes())).expect("JSON");
            let patch = Patch::parse(users, body, &limits).expect("a PATCH");
            drop(black_box(patch.apply(users, "1", full.clone(), usize::MAX).expect("applies")));
        });
    }
    println!();
}
