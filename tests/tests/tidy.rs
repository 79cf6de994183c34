//! What the house promises about itself: edges between crates, sizes of files, things that stand in one place only.

#![cfg(test)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CRATES: [&str; 9] =
    ["allocator", "scim", "proto", "eventlog", "projector", "gateway", "dispatcher", "cli", "tests"];
const LINES_MAX: usize = 520;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

fn all() -> Vec<(PathBuf, String)> {
    CRATES.iter().flat_map(|name| sources(&root().join(name))).collect()
}

/// A crate uses crates to its left only; `gateway` and `dispatcher` never each other; `eventlog` knows no SCIM.
#[test]
fn edges_are_as_drawn() {
    for (place, name) in CRATES.iter().enumerate() {
        let text = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let used: BTreeSet<&str> = manifest["dependencies"]
            .as_table()
            .unwrap()
            .keys()
            .filter_map(|dependency| CRATES.iter().find(|name| *name == dependency).copied())
            .collect();
        let mut allowed: BTreeSet<&str> = CRATES[..place].iter().copied().collect();
        if *name == "dispatcher" {
            allowed.remove("gateway");
        }
        if *name == "eventlog" {
            allowed.remove("scim");
        }
        assert!(used.is_subset(&allowed), "{name} uses {used:?}, may use {allowed:?}");
    }
}

#[test]
fn files_are_one_thing() {
    for (path, text) in all() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: what is the second thing in it?", path.display());
        let own = !path.components().any(|part| part.as_os_str() == "tests");
        assert!(!own || text.starts_with("//!"), "{} does not say what it is", path.display());
        for word in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"] {
            let here = path.file_name().is_some_and(|name| name == "tidy.rs");
            assert!(here || !text.contains(word), "{} has {word}", path.display());
        }
    }
}

/// Subjects are built in one file, sled is named in one file, the clock has one home.
#[test]
fn one_home_each() {
    let homes = [
        ("format!(\"identity.", "proto/src/subject.rs"),
        ("format!(\"provisioning.", "proto/src/subject.rs"),
        ("format!(\"control.", "proto/src/subject.rs"),
        ("sled::", "projector/src/store/folder.rs"),
        ("Timestamp::now(", "eventlog/src/clock.rs"),
        ("Uuid::now_v7", "eventlog/src/clock.rs"),
        ("std::env::var(", "cli/src/settings/mod.rs"),
    ];
    for (path, text) in all() {
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_string();
        if relative.contains("tests/") || relative.ends_with("tests.rs") || relative.ends_with("build.rs") {
            continue;
        }
        for (word, home) in homes {
            assert!(relative == home || !text.contains(word), "{relative} has {word}, whose home is {home}");
        }
    }
}

#[test]
fn what_is_pure_stays_pure() {
    for name in ["scim", "proto"] {
        for (path, text) in sources(&root().join(name).join("src")) {
            for word in
                ["async fn", ".await", "tokio", "std::fs", "std::net", "std::time", "tracing::", "getrandom"]
            {
                assert!(!text.contains(word), "{} has {word}", path.display());
            }
        }
    }
}

/// Canonical JSON depends on sorted keys.
#[test]
fn json_objects_are_sorted() {
    let object: serde_json::Value = serde_json::from_str(r#"{"b": 1, "a": 2}"#).unwrap();
    assert_eq!(object.to_string(), r#"{"a":2,"b":1}"#);
}

/// What a text names of metrics, each after this.
fn metrics(text: &str, before: &str) -> BTreeSet<String> {
    let places = text.match_indices("rollcall_").filter(|(place, _)| text[..*place].ends_with(before));
    let name = |(place, _): (usize, &str)| -> String {
        let rest = text[place..].chars();
        rest.take_while(|sign| sign.is_ascii_alphanumeric() || *sign == '_').collect()
    };
    places.map(name).collect()
}

/// Whoever watches a process finds each of its metrics in one table, and none there that does not exist.
#[test]
fn every_metric_is_told_of() {
    let code = CRATES.iter().filter(|name| **name != "tests").flat_map(|name| sources(&root().join(name)));
    let own =
        |text: &str| text.split("\nmod tests {").next().map(|own| metrics(own, "\"")).unwrap_or_default();
    let counted: BTreeSet<String> = code.flat_map(|(_, text)| own(&text)).collect();
    let told = std::fs::read_to_string(root().join("docs/operations/metrics.md")).unwrap();
    assert_eq!(metrics(&told, "| `"), counted, "docs/operations/metrics.md (left) and the code (right)");
    let elsewhere = std::fs::read_dir(root().join("docs/operations")).unwrap();
    for path in elsewhere.map(|entry| entry.unwrap().path()) {
        let named = metrics(&std::fs::read_to_string(&path).unwrap(), "`");
        assert!(named.is_subset(&counted), "{} names {named:?}", path.display());
    }
}
