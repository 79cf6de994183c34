//! What a projection answers, as one text, so that two can be compared.

use std::fmt::Write as _;
use std::sync::Arc;

use projector::{Lens, Moment, Part, Projection, Query, Stored, When, Window};
use proto::Tenant;
use scim::{Dialect, Filter, FilterLimits, Registry, ResourceType, Sort};
use serde_json::Value;

use super::history::ENTERPRISE;
use super::lens;

/// Longer filters than a client may send.
pub(crate) const LIMITS: FilterLimits =
    FilterLimits { length_bytes_max: 1 << 20, depth_max: 32, terms_max: 200 };

/// Questions that ask every index.
const QUESTIONS: [&str; 12] = [
    r#"userName sw "a""#,
    r#"userName gt "m""#,
    r#"displayName ge "the b""#,
    r#"displayName pr and not (displayName co "ada")"#,
    r#"emails.value sw "b""#,
    r#"emails[type eq "work" and value le "z"]"#,
    r#"externalId le "E2""#,
    r#"meta.lastModified gt "2026-01-01T00:00:00.500Z""#,
    r#"meta.created le "2026-01-01T00:00:00.3005Z""#,
    r#"title eq "engineer" or active eq true"#,
    "externalId eq null",
    r#"members.display co "a""#,
];

pub(crate) fn parse(text: &str, registry: &Registry, kind: &ResourceType) -> Filter {
    Filter::parse(text, &LIMITS, Dialect::Rfc, registry, kind).unwrap()
}

/// Two things that must be the same; of long ones only where they begin to differ is shown.
#[track_caller]
pub(crate) fn same(left: &str, right: &str, what: &str) {
    if left != right {
        let place = left.bytes().zip(right.bytes()).take_while(|(one, other)| one == other).count();
        let around = |text: &str| {
            let (from, to) = (place.saturating_sub(300), place.saturating_add(300));
            text[text.floor_char_boundary(from)..text.floor_char_boundary(to)].to_string()
        };
        let what: String = what.chars().take(600).collect();
        panic!("{what}: they differ at {place}\n left: {}\nright: {}", around(left), around(right));
    }
}

/// Everything that a client can read of a tenant now and at these moments.
pub(crate) async fn answers(
    projection: &Projection,
    tenant: &Tenant,
    registry: &Arc<Registry>,
    whens: &[When],
) -> String {
    let mut all = String::new();
    for when in [When::Now].iter().chain(whens) {
        let Some(moment) = projection.moment(tenant, *when).unwrap() else {
            writeln!(all, "{when:?} nothing").unwrap();
            continue;
        };
        for kind in registry.resource_types() {
            writeln!(all, "{when:?} {}", kind.name).unwrap();
            whole(projection, tenant, kind, moment, &mut all).await;
            let employee = format!("{ENTERPRISE}:employeeNumber lt \"n5\"");
            for question in QUESTIONS.into_iter().chain([employee.as_str()]) {
                let Ok(filter) = Filter::parse(question, &LIMITS, Dialect::Rfc, registry, kind) else {
                    continue;
                };
                let sort = Sort::parse("displayName", true, registry, kind).unwrap();
                let found = list(projection, tenant, kind, (Some(&filter), Some(&sort)), moment).await;
                writeln!(all, "{question}: {found}").unwrap();
            }
        }
    }
    all
}

/// What a filter finds of a type, in the order of creation.
pub(crate) async fn found(
    projection: &Projection,
    tenant: &Tenant,
    registry: &Registry,
    (kind, filter): (&str, &str),
    moment: Moment,
) -> Vec<Stored> {
    let kind = registry.by_name(kind).unwrap();
    let filter = parse(filter, registry, kind);
    let lens = Lens { moment, ..lens("hr") };
    let parts = [Part { kind, filter: Some(&filter), sort: None }];
    let window = Window::From(1);
    let query = Query { parts: &parts, lens: &lens, window: &window, count: 1000, scan_rows_max: usize::MAX };
    let page = projection.query(tenant, query).await.unwrap();
    assert_eq!(page.total, page.resources.len());
    page.resources
}

/// Every resource of a type, represented.
async fn whole(
    projection: &Projection,
    tenant: &Tenant,
    kind: &ResourceType,
    moment: Moment,
    all: &mut String,
) {
    let lens = Lens { moment, ..lens("hr") };
    let parts = [Part { kind, filter: None, sort: None }];
    let query = Query {
        parts: &parts,
        lens: &lens,
        window: &Window::From(1),
        count: usize::MAX / 2,
        scan_rows_max: usize::MAX,
    };
    let page = projection.query(tenant, query).await.unwrap();
    assert_eq!(page.total, page.resources.len());
    projection.look_ahead(tenant, &page.resources, &lens);
    for stored in page.resources {
        let object = projection.represent(tenant, &stored, kind, &lens);
        let mut text = Vec::new();
        projection.write_json(tenant, &stored, kind, &lens, &mut text);
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), Value::Object(object.clone()));
        writeln!(all, "{} {:?} {}", stored.guard, stored.external_ids, Value::Object(object)).unwrap();
        let key = projection.key(tenant, &kind.name, &stored.key);
        writeln!(all, "{key:?} {:?}", projection.groups_at(tenant, stored.id, moment)).unwrap();
    }
}

/// The ids of a list.
async fn list(
    projection: &Projection,
    tenant: &Tenant,
    kind: &ResourceType,
    (filter, sort): (Option<&Filter>, Option<&Sort>),
    moment: Moment,
) -> String {
    let lens = Lens { moment, ..lens("it") };
    let parts = [Part { kind, filter, sort }];
    let window = Window::From(1);
    let query = Query { parts: &parts, lens: &lens, window: &window, count: 20, scan_rows_max: usize::MAX };
    let page = projection.query(tenant, query).await.unwrap();
    let ids: Vec<String> = page.resources.iter().map(|stored| stored.id.to_string()).collect();
    format!("{} {}", page.total, ids.join(" "))
}
