//! What `[app.NAME]` says about who belongs at the app, from when until when, and how it calls them.

use std::collections::BTreeMap;

use dispatcher::{BeforeStart, Dates, Leave, MapRule, Mapping, Matching, Profile, Scope, Timing};
use jiff::SignedDuration;
use scim::Registry;
use serde::Deserialize;
use toml::Value;

use super::apps::AppSection;
use crate::file::Mistakes;

/// Longest time before a deletion: ten years.
const DAYS_MAX: u32 = 3653;

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

/// When accounts begin, end and are deleted.
pub(super) fn timing(
    registry: &Registry,
    place: &str,
    section: &AppSection,
    mistakes: &mut Mistakes,
) -> Timing {
    let mut grace = |name: &str, policy: (&str, Leave), days: Option<u32>| {
        let days = days?;
        if policy.1 == Leave::Never {
            mistakes.add(format!(
                "{place}.{name}: {} = \"never\" deletes nothing; leave one of them out",
                policy.0
            ));
        }
        if days > DAYS_MAX {
            mistakes.add(format!("{place}.{name}: {days} days are too many; at most {DAYS_MAX}"));
        }
        Some(SignedDuration::from_hours(24 * i64::from(days.min(DAYS_MAX)))).filter(|_| days > 0)
    };
    let delete_after =
        grace("delete_after_days", ("on_delete", section.on_delete), section.delete_after_days);
    let leave_grace = grace("leave_grace_days", ("on_leave", section.on_leave), section.leave_grace_days);
    if section.start_date.is_none() && section.before_start == BeforeStart::Inactive {
        mistakes.add(format!("{place}.before_start: says what is before start_date, which is not set"));
    }
    let (start, end) = (section.start_date.as_deref(), section.end_date.as_deref());
    let dates = Dates::new(registry, start, end, section.before_start).unwrap_or_else(|mistake| {
        mistakes.add(format!("{place}.{mistake}"));
        Dates::default()
    });
    Timing { delete_after, leave_grace, dates }
}

/// How the app calls what the directory knows.
pub(super) fn mapping(
    registry: &Registry,
    place: &str,
    section: &AppSection,
    mistakes: &mut Mistakes,
) -> Mapping {
    let mut mapping = Mapping::default();
    if section.provision_groups == Some(false) && !section.map_groups.is_empty() {
        mistakes.add(format!("{place}.map_groups: maps groups that provision_groups = false leaves out"));
    }
    for (setting, name, rules) in
        [("map", "User", &section.map), ("map_groups", "Group", &section.map_groups)]
    {
        let Some(kind) = registry.by_name(name).filter(|_| !rules.is_empty()) else { continue };
        let mut read = BTreeMap::new();
        for (attribute, value) in rules {
            match rule(value) {
                Ok(rule) => drop(read.insert(attribute.clone(), rule)),
                Err(error) => mistakes.add(format!("{place}.{setting}.{attribute}: {error}")),
            }
        }
        // What could not be read would only be missed again.
        if read.len() == rules.len()
            && let Err(found) = mapping.choose(registry, kind, &read)
        {
            for mistake in found {
                mistakes.add(format!("{place}.{setting}.{mistake}"));
            }
        }
    }
    mapping
}

/// By what accounts that are there already are looked for, at an app with this profile that calls things so.
pub(super) fn matching(
    registry: &Registry,
    place: &str,
    section: &AppSection,
    (profile, mapping): (&Profile, &Mapping),
    mistakes: &mut Mistakes,
) -> Matching {
    let mut matching = Matching::new(section.on_match);
    if section.provision_groups == Some(false) && section.match_groups.is_some() {
        mistakes
            .add(format!("{place}.match_groups: matches groups that provision_groups = false leaves out"));
    }
    let named = [("match", "User", &section.match_people), ("match_groups", "Group", &section.match_groups)];
    let named = named
        .into_iter()
        .filter_map(|(setting, name, keys)| Some((setting.to_string(), name, keys.as_ref()?)));
    let further = section.match_types.iter();
    let further = further.map(|(name, keys)| (format!("match_types.{name}"), name.as_str(), keys));
    for (setting, name, keys) in named.chain(further) {
        // A type that the profile does not have is a mistake of its own.
        let found = registry.by_name(name).zip(profile.of(name));
        let known = !setting.starts_with("match_types") || section.types.contains_key(name);
        let (Some((kind, own)), true) = (found, known) else {
            if !known {
                mistakes.add(format!("{place}.{setting}: {name} is none of the app's types"));
            }
            continue;
        };
        for mistake in matching.choose(registry, kind, own, mapping, keys).err().into_iter().flatten() {
            mistakes.add(format!("{place}.{setting}: {mistake}"));
        }
    }
    matching
}

/// An expression alone, or a table.
fn rule(value: &Value) -> Result<MapRule, String> {
    match value.as_str() {
        Some(text) => Ok(MapRule { value: Some(text.to_string()), ..MapRule::default() }),
        None => MapRule::deserialize(value.clone()).map_err(|error| error.message().to_string()),
    }
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
    fn numbers_out_of_range_are_refused() {
        check("concurrency = 1024\ntimeout_ms = 25000\nattempts_max = 100", &[]);
        check("concurrency = 0", &["app.wiki.concurrency: must be 1 to 1024"]);
        check("timeout_ms = 30000", &["app.wiki.timeout_ms: must be 100 to 25000"]);
        check("attempts_max = 0", &["app.wiki.attempts_max: must be 1 to 100"]);
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

    #[test]
    fn when_accounts_begin_and_end() {
        let urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        check(
            "on_delete = \"deactivate\"\ndelete_after_days = 30\non_leave = \"never\"\nstart_date = \"nickName\"\n\
             end_date = \"title\"\nbefore_start = \"inactive\"",
            &[],
        );
        check(
            "on_delete = \"never\"\ndelete_after_days = 30",
            &["app.wiki.delete_after_days: on_delete = \"never\" deletes nothing"],
        );
        check(
            "leave_grace_days = 4000",
            &["app.wiki.leave_grace_days: 4000 days are too many; at most 3653"],
        );
        check("before_start = \"inactive\"", &["app.wiki.before_start"]);
        check("end_date = \"shoe\"", &["app.wiki.end_date: \"shoe\" is an attribute of no resource type"]);
        check(&format!("end_date = \"{urn}:manager\""), &["app.wiki.end_date", "is complex"]);
        check("on_delete = \"sometimes\"", &["app.wiki", "sometimes"]);
    }

    #[test]
    fn by_what_accounts_are_recognized() {
        check(
            "match = [\"externalId\", \"userName\"]\nmatch_groups = [\"displayName\"]\non_match = \"hold\"",
            &[],
        );
        check(
            "match = [\"externalId\", \"emails.value\", \"shoe\"]\nmatch_groups = []",
            &[
                "app.wiki.match: \"emails.value\": its profile cannot search a User by it; it can by externalId, userName, displayName",
                "app.wiki.match: \"shoe\" is no attribute of a User",
                "app.wiki.match_groups: names no attribute",
            ],
        );
        check(
            "[match_types]\nDevice = [\"externalId\"]",
            &["app.wiki.match_types.Device: Device is none of"],
        );
        check(
            "provision_groups = false\nmatch_groups = [\"displayName\"]",
            &["app.wiki.match_groups: matches"],
        );
        check("on_match = \"never\"", &["app.wiki", "never"]);
        check(
            "match = [\"displayName\"]\n[map]\nuserName = 'user.userName'",
            &["app.wiki.match: \"displayName\": the app is never told it"],
        );
    }

    #[test]
    fn how_the_app_calls_them() {
        check(
            "[map]\nuserName = 'user.emails[0].value'\ntitle = { value = 'user.title', create_only = true }\n\
             locale = { constant = \"en\" }\n[map_groups]\ndisplayName = '\"app-\" + resource.displayName'",
            &[],
        );
        check(
            "[map]\nuserName = 'user.usrName'\ntitle = { valeu = 'x' }",
            &["app.wiki.map.title", "unknown field `valeu`"],
        );
        check(
            "[map]\nuserName = 'user.usrName'\nshoe = 'user.title'\n[map_groups]\ndisplayName = 'user.title'",
            &[
                "app.wiki.map.userName: \"usrName\" is no attribute of a User",
                "app.wiki.map.shoe: is no attribute of a User",
                "app.wiki.map_groups.displayName: \"title\" is no attribute of a Group",
            ],
        );
        check("[map]\ntitle = 'user.title'", &["app.wiki.map.userName: a User needs it"]);
    }
}
