//! What must hold for any bytes, shared by the fuzz targets and the test that replays their corpora. A check panics when
//! it does not hold.

#![allow(dead_code, reason = "each target uses one of them")]

use scim::validate::{self, Context};
use scim::{AttrPath, Dialect, Filter, FilterLimits, Object, Patch, Registry};
use serde_json::{Value, json};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

fn everywhere(test: impl Fn(Context<'_>)) {
    let registry = Registry::built_in().expect("the schemas are valid");
    for dialect in Dialect::ALL {
        for kind in registry.resource_types() {
            test(Context { registry: &registry, kind, speech: dialect.into() });
        }
    }
}

fn sample() -> Object {
    let sample = json!({
        "userName": "ada", "active": true, "title": "Dr", "name": {"givenName": "Ada"},
        "emails": [{"value": "a@x.test", "type": "work", "primary": true}, {"value": "b@x.test", "type": "home"}],
        ENTERPRISE: {"department": "R", "manager": {"value": "1"}},
    });
    let Value::Object(sample) = sample else { unreachable!() };
    sample
}

/// Whatever is read as a filter can be printed, read again as the same, and asked.
pub(crate) fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    everywhere(|context| {
        let read = |text: &str| {
            Filter::parse(text, &FilterLimits::default(), context.speech, context.registry, context.kind)
        };
        let Ok(filter) = read(text) else { return };
        let _ = filter.matches(&sample());
        assert_eq!(read(&filter.to_string()).expect("a printed filter"), filter, "{text}");
    });
}

/// A path's canonical form is its own canonical form.
pub(crate) fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    everywhere(|context| {
        let Ok(path) = AttrPath::parse(text, context.registry) else { return };
        let Some(canonical) = context.registry.canonical(context.kind, &path) else { return };
        let again = AttrPath::parse(&canonical.to_string(), context.registry).expect("a canonical path");
        assert_eq!(context.registry.canonical(context.kind, &again), Some(canonical), "{text}");
    });
}

/// What a PATCH makes of a valid document is a valid document.
pub(crate) fn patch(data: &[u8]) {
    let Ok(body) = scim::json::parse(data) else { return };
    everywhere(|context| {
        if context.kind.name != "User" {
            return;
        }
        let Ok(patch) = Patch::parse(context, body.clone(), &FilterLimits::default()) else { return };
        let Ok(changed) = patch.apply(context, "1", sample(), 10_000) else { return };
        let mut whole = changed.clone();
        whole.insert("schemas".to_string(), json!([USER, ENTERPRISE]));
        let again = validate::create(context, whole.into()).expect("a patched document");
        assert_eq!(again, changed, "{body}");
    });
}

/// A validated body is valid, and the same.
pub(crate) fn body(data: &[u8]) {
    let Ok(body) = scim::json::parse(data) else { return };
    everywhere(|context| {
        let Ok(full) = validate::create(context, body.clone()) else { return };
        let _ = validate::unknown(context, &body);
        let mut whole = full.clone();
        let extensions = context.registry.extensions(context.kind).map(|schema| schema.id.clone());
        let urns: Vec<String> = std::iter::once(context.kind.schema.clone()).chain(extensions).collect();
        whole.insert("schemas".to_string(), json!(urns));
        let again = validate::create(context, whole.into()).expect("a validated body");
        assert_eq!(again, full, "{body}");
        let _ = validate::split(context, full);
    });
}
