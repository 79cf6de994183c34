//! PATCH cases as files: `before`, `patch`, and `after` or `error`. A new file is a new test.

#![cfg(test)]

use std::path::Path;

use scim::validate::Context;
use scim::{Dialect, FilterLimits, Object, Patch, Registry, Schema, SchemaExtension};
use serde::Deserialize;
use serde_json::{Value, json};

/// Schemas of one's own, for what the built-in ones do not have.
const OWN: [&str; 3] = [
    include_str!("../testdata/desk.json"),
    include_str!("../testdata/locker.json"),
    include_str!("../testdata/rack.json"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    title: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    dialect: Option<String>,
    before: Object,
    patch: Vec<Value>,
    #[serde(default)]
    after: Option<Value>,
    #[serde(default)]
    error: Option<String>,
}

fn apply(case: &Case) -> Result<Object, scim::Error> {
    let mut registry = Registry::built_in().unwrap();
    for text in OWN {
        let own: Schema = serde_json::from_str(text).unwrap();
        let schema = own.id.clone();
        registry.add_schema(own).unwrap();
        registry.extend("User", SchemaExtension { schema, required: false }).unwrap();
    }
    let kind = registry.by_name(case.kind.as_deref().unwrap_or("User")).unwrap();
    let dialect: Dialect = case.dialect.as_deref().unwrap_or("rfc").parse().unwrap();
    let context = Context { registry: &registry, kind, speech: dialect.into() };
    let body =
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": case.patch});
    let patch = Patch::parse(context, body, &FilterLimits::default())?;
    patch.apply(context, "the-id", case.before.clone(), usize::MAX)
}

#[test]
fn every_case_ends_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/patch");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10);
    for file in files {
        let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for case in cases {
            let place = format!("{}: {}", file.display(), case.title);
            match (apply(&case), &case.after, &case.error) {
                (Ok(after), Some(expected), None) => {
                    assert_eq!(&Value::Object(after.clone()), expected, "{place}");
                    let again = apply(&Case { before: after.clone(), ..case });
                    // Adding or replacing twice is doing it once.
                    if let Ok(again) = again {
                        assert_eq!(again, after, "{place}: the second time");
                    }
                }
                (Err(error), None, Some(expected)) => {
                    assert_eq!(
                        error.scim_type.map(|kind| kind.as_str()),
                        Some(expected.as_str()),
                        "{place}: {error}"
                    );
                }
                (found, _, _) => panic!("{place}: {found:?}"),
            }
        }
    }
}
