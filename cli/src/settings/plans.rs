//! What `[app.NAME]` says about who belongs at the app.

use std::collections::BTreeMap;

use dispatcher::Scope;
use scim::Registry;

use super::apps::AppSection;
use crate::file::Mistakes;

/// Who belongs at an app.
pub(super) fn scope(
    registry: &Registry,
    place: &str,
    section: &AppSection,
    mistakes: &mut Mistakes,
) -> Scope {
    let mut chosen = BTreeMap::from([("User", (section.users.as_deref(), section.users_in.as_deref()))]);
    if section.provision_groups.unwrap_or(true) {
        chosen.insert("Group", (section.groups.as_deref(), None));
    } else if section.groups.is_some() {
        mistakes
            .add(format!("{place}.groups: chooses among groups that provision_groups = false leaves out"));
    }
    for (kind, filter) in &section.types {
        chosen.insert(kind, (Some(filter.as_str()).filter(|filter| !filter.is_empty()), None));
    }
    let mut scope = Scope::default();
    for (name, (filter, within)) in chosen {
        let Some(kind) = registry.by_name(name) else {
            mistakes.add(format!("{place}.types: there is no resource type {name:?}"));
            continue;
        };
        if let Err(mistake) = scope.choose(registry, kind, filter, within) {
            mistakes.add(format!("{place}: {mistake}"));
        }
    }
    scope
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::apps;

    /// What is wrong with an app of which these settings are said.
    #[track_caller]
    fn check(settings: &str, expected: &[&str]) {
        let registry = Registry::built_in().unwrap();
        let text = format!("tenant = \"corp\"\nurl = \"http://app.test\"\ntoken = \"t\"\n{settings}");
        let table: toml::Table = text.parse().unwrap();
        let mut mistakes = Mistakes::default();
        apps::app(&registry, std::path::Path::new(""), "app.wiki", table.into(), &mut mistakes);
        let found = mistakes.into_result().map_or_else(|failure| failure.to_string(), |()| String::new());
        assert_eq!(found.is_empty(), expected.is_empty(), "{found}");
        for word in expected {
            assert!(found.contains(word), "{found}");
        }
    }

    #[test]
    fn who_belongs() {
        check("users = 'active eq true'\nusers_in = [\"VPN\"]\ngroups = 'displayName sw \"App\"'", &[]);
        check("users = 'active zz true'", &["app.wiki: the filter for User"]);
        check("users = 'externalId eq \"7\"'", &["app.wiki: the filter for User: externalId differs"]);
        check("users_in = []", &["app.wiki: no group is named, so no User would belong"]);
        check("provision_groups = false\ngroups = 'displayName pr'", &["app.wiki.groups: chooses among"]);
        check("[types]\nDevice = \"\"", &["app.wiki.types: there is no resource type \"Device\""]);
    }
}
