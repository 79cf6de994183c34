//! What a feed tells: which resources, which types, which attributes. Made once from its configuration.

use std::collections::{BTreeMap, BTreeSet};

use scim::{AttrPath, Dialect, Filter, FilterLimits, Object, Registry, Returned};

use super::catalogue;
use super::document::Allowed;
use crate::config::FeedConfig;

/// Members of a representation that are no part of a resource's own document, so that an event does not tell them.
const NOT_OWN: [&str; 6] = ["id", "externalId", "schemas", "meta", "groups", "members"];

/// What a feed tells.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Attributes that are shown.
    pub(super) attributes: Allowed,
    /// Attributes of a resource that is gone by which the subscriber may know it.
    pub(super) identity: Allowed,
    /// Patterns of types; none means all.
    types: Vec<String>,
    /// By resource type; one without a filter is told wholly.
    filters: BTreeMap<String, Filter>,
}

impl View {
    pub(super) fn new(config: &FeedConfig, registry: &Registry) -> Self {
        let filters = config.filters.iter().filter_map(|(name, text)| {
            let kind = registry.by_name(name)?;
            let filter = Filter::parse(text, &FilterLimits::default(), Dialect::Rfc, registry, kind);
            // Filters are checked when the configuration is read; one that cannot be read selects nobody.
            Some((name.clone(), filter.unwrap_or_else(|_| Filter::Or(Vec::new()))))
        });
        Self {
            attributes: Allowed::new(&config.attributes, registry),
            identity: Allowed::new(&config.identify, registry),
            types: config.types.clone(),
            filters: filters.collect(),
        }
    }

    /// Whether resources of this type are chosen by a filter.
    pub(super) fn chooses(&self, resource_type: &str) -> bool {
        self.filters.contains_key(resource_type)
    }

    /// Whether a resource is in scope. Of one whose document is not known any more, only its id can be told, and is.
    pub(super) fn selects(&self, resource_type: &str, document: Option<&Object>) -> bool {
        match (self.filters.get(resource_type), document) {
            (Some(filter), Some(document)) => filter.matches(document),
            (None, _) | (_, None) => true,
        }
    }

    /// Whether the subscriber wants events of this type.
    pub(super) fn wants(&self, kind: &str) -> bool {
        let is_meant = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => kind == pattern,
        };
        self.types.is_empty() || self.types.iter().any(is_meant)
    }
}

/// What is wrong with a feed's settings: each with the setting's name.
pub(crate) fn mistakes(config: &FeedConfig, registry: &Registry) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (setting, paths) in [("attributes", &config.attributes), ("identify", &config.identify)] {
        mistakes
            .extend(paths.iter().filter_map(|path| Some(format!("{setting}: {}", unknown(path, registry)?))));
    }
    let nouns: Vec<String> =
        registry.resource_types().iter().map(|kind| kind.name.to_ascii_lowercase()).collect();
    for pattern in config.types.iter().filter(|pattern| !catalogue::is_known(pattern, &nouns)) {
        mistakes.push(format!(
            "types: there is no type {pattern:?}; write `user.created` or `user.*` (docs/feeds.md lists them; those of the \
             feed itself are always told)"
        ));
    }
    for (name, text) in &config.filters {
        let Some(kind) = registry.by_name(name) else {
            mistakes.push(format!("filters: there is no resource type {name:?}"));
            continue;
        };
        match Filter::parse(text, &FilterLimits::default(), Dialect::Rfc, registry, kind) {
            Err(error) => mistakes.push(format!("filters: the filter for {name}: {error}")),
            Ok(filter) => {
                let mut roots = BTreeSet::new();
                filter.roots(&mut roots);
                for root in roots.iter().filter(|root| NOT_OWN.contains(&root.as_str())) {
                    mistakes.push(format!(
                        "filters: the filter for {name}: {root} is no part of the resource's own document, and only that decides what a \
                         feed tells; take another attribute"
                    ));
                }
            }
        }
    }
    mistakes
}

/// Why a path names nothing that can be shown.
fn unknown(path: &str, registry: &Registry) -> Option<String> {
    let parsed = match AttrPath::parse(path, registry) {
        Ok(parsed) => parsed,
        Err(error) => return Some(error),
    };
    let name = parsed.name.as_deref();
    if parsed.schema.is_none() && name.is_some_and(|name| NOT_OWN.contains(&name)) {
        return Some(format!("{path} is no part of a resource's own document, so no event tells it"));
    }
    let schemas = registry.schemas().iter().filter(|schema| match &parsed.schema {
        Some(urn) => schema.id == *urn,
        None => registry.resource_types().iter().any(|kind| kind.schema == schema.id),
    });
    let mut found = schemas.flat_map(|schema| &schema.attributes).filter(|attribute| {
        name.is_none_or(|name| attribute.name == name)
            && parsed
                .sub
                .as_deref()
                .is_none_or(|sub| attribute.sub(sub).is_some_and(|known| known.name == sub))
    });
    match found.next() {
        None => Some(format!("no schema has the attribute {path:?} (upper and lower case count)")),
        Some(attribute) if name.is_some() && attribute.returned == Returned::Never => {
            Some(format!("{path} is never shown to anybody"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(change: impl FnOnce(&mut FeedConfig)) -> Vec<String> {
        let mut config = FeedConfig::example();
        change(&mut config);
        mistakes(&config, &Registry::built_in().unwrap())
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut FeedConfig), expected: &str) {
        let found = found(change);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }

    #[test]
    fn what_would_never_be_told_is_a_mistake() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found(|_| {}), Vec::<String>::new());
        let good = [
            "userName",
            "name.givenName",
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
        ];
        assert_eq!(found(|config| config.attributes = texts(&good)), Vec::<String>::new());
        check(|config| config.attributes = texts(&["username"]), "no schema has the attribute");
        check(|config| config.attributes = texts(&["name.middle"]), "no schema has the attribute");
        check(|config| config.attributes = texts(&["password"]), "never shown");
        check(|config| config.identify = texts(&["groups"]), "identify: groups is no part");
        check(|config| config.types = texts(&["user.made"]), "there is no type");
        check(
            |config| drop(config.filters.insert("Person".into(), "active eq true".into())),
            "no resource type",
        );
        check(|config| drop(config.filters.insert("User".into(), "active eq".into())), "the filter for User");
        check(
            |config| drop(config.filters.insert("User".into(), "groups.display eq \"a\"".into())),
            "groups is no part",
        );
    }
}
