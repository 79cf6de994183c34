//! Every type of event that a subscriber can hear, its version, and what its data carries. Types are promises: never
//! renamed, never reused. A version counts up only when a subscriber of the old one would misread the new one; a further
//! member of the data is no such case. The same is told in `docs/feeds/*.json`, one schema for each verb.

/// What stands before the dot when an event is about the feed itself.
pub(super) const FEED: &str = "feed";

/// What happened, after the dot of a type: the noun before it is the resource type in lower case, or `feed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Created,
    Updated,
    Deactivated,
    Reactivated,
    Deleted,
    MemberAdded,
    MemberRemoved,
    ScopeEntered,
    ScopeLeft,
    Snapshot,
    SnapshotCompleted,
    ReplayCompleted,
}

/// What is promised of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    /// The verb as it is written.
    pub(super) name: &'static str,
    /// Its version.
    pub(super) version: u32,
    /// Whether it is about the feed and not about a resource.
    pub(super) of_feed: bool,
    /// Members of the data that are always there.
    pub(super) always: &'static [&'static str],
    /// Members that are there in some cases.
    pub(super) sometimes: &'static [&'static str],
}

impl Verb {
    /// Every verb.
    pub(super) const ALL: [Self; 12] = [
        Self::Created,
        Self::Updated,
        Self::Deactivated,
        Self::Reactivated,
        Self::Deleted,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::ScopeEntered,
        Self::ScopeLeft,
        Self::Snapshot,
        Self::SnapshotCompleted,
        Self::ReplayCompleted,
    ];

    /// The catalogue's entry.
    pub(super) fn promise(self) -> Promise {
        const PARTS: &[&str] = &["members", "part", "parts"];
        let resource =
            |name, always, sometimes| Promise { name, version: 1, of_feed: false, always, sometimes };
        let feed = |name, always| Promise { name, version: 1, of_feed: true, always, sometimes: &[] };
        match self {
            Self::Created => resource("created", &["id", "resourceType", "txn", "attributes"], &[]),
            Self::Updated => {
                resource("updated", &["id", "resourceType", "txn", "attributes", "changed"], &[])
            }
            Self::Deactivated => resource("deactivated", &["id", "resourceType", "txn", "attributes"], &[]),
            Self::Reactivated => resource("reactivated", &["id", "resourceType", "txn", "attributes"], &[]),
            Self::Deleted => resource("deleted", &["id", "resourceType", "txn"], &["identity"]),
            Self::MemberAdded => resource("member_added", &["id", "resourceType", "txn", "member"], &[]),
            Self::MemberRemoved => resource("member_removed", &["id", "resourceType", "txn", "member"], &[]),
            Self::ScopeEntered => {
                resource("scope_entered", &["id", "resourceType", "txn", "attributes"], PARTS)
            }
            Self::ScopeLeft => resource("scope_left", &["id", "resourceType", "txn"], &["identity"]),
            Self::Snapshot => resource("snapshot", &["id", "resourceType", "snapshot", "attributes"], PARTS),
            Self::SnapshotCompleted => feed("snapshot_completed", &["feed", "snapshot", "position"]),
            Self::ReplayCompleted => feed("replay_completed", &["feed", "replay", "from", "to"]),
        }
    }

    /// The whole type.
    pub(super) fn of(self, noun: &str) -> String {
        format!("{noun}.{}", self.promise().name)
    }

    /// The name of the schema that the data follows.
    pub(super) fn schema(self) -> String {
        let Promise { name, version, .. } = self.promise();
        format!("urn:rollcall:feed:{name}:{version}")
    }
}

/// Whether a pattern of `types` can ever choose an event of these resource types: `user.created`, `user.*`.
pub(crate) fn is_known(pattern: &str, nouns: &[String]) -> bool {
    let Some((noun, verb)) = pattern.split_once('.') else { return false };
    if noun == FEED {
        return false;
    }
    let told = |known: &Verb| !known.promise().of_feed && (verb == "*" || known.promise().name == verb);
    nouns.iter().any(|known| known == noun) && Verb::ALL.iter().any(told)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::PathBuf;

    use serde_json::Value;

    use super::*;

    fn files() -> BTreeMap<String, Value> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/feeds");
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let named = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        named
            .map(|path| {
                let schema = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
                (path.file_stem().unwrap().to_str().unwrap().to_string(), schema)
            })
            .collect()
    }

    #[test]
    fn catalogue_and_schemas_agree() {
        let mut files = files();
        assert!(files.remove("event").is_some(), "the schema of the envelope");
        for verb in Verb::ALL {
            let promise = verb.promise();
            let schema =
                files.remove(promise.name).unwrap_or_else(|| panic!("{} has no schema", promise.name));
            assert_eq!(schema["$id"], verb.schema());
            let names = |values: &[&str]| values.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
            let required = schema["required"].as_array().unwrap().iter();
            let required: BTreeSet<String> =
                required.map(|name| name.as_str().unwrap().to_string()).collect();
            assert_eq!(required, names(promise.always), "{}", promise.name);
            let properties: BTreeSet<String> =
                schema["properties"].as_object().unwrap().keys().cloned().collect();
            let all = names(promise.always).union(&names(promise.sometimes)).cloned().collect();
            assert_eq!(properties, all, "{}", promise.name);
        }
        assert_eq!(files.keys().collect::<Vec<_>>(), Vec::<&String>::new(), "schemas of nothing");
    }

    #[test]
    fn the_documentation_lists_every_type() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/feeds.md");
        let text = std::fs::read_to_string(path).unwrap();
        for verb in Verb::ALL {
            let noun = if verb.promise().of_feed { FEED } else { "user" };
            let told = [noun, "group"].iter().any(|noun| text.contains(&format!("`{}`", verb.of(noun))));
            assert!(told, "docs/feeds.md says nothing of {}", verb.of(noun));
        }
    }

    #[test]
    fn a_misspelt_pattern_is_noticed() {
        let nouns = ["user".to_string(), "group".to_string()];
        for good in ["user.created", "group.member_added", "user.*"] {
            assert!(is_known(good, &nouns), "{good}");
        }
        for bad in ["user.create", "person.created", "*", "user", "feed.snapshot_completed", "User.created"] {
            assert!(!is_known(bad, &nouns), "{bad}");
        }
    }
}
