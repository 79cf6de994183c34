//! `[app.NAME.guard]`: how many operations an app takes within a window before a person is asked.

use std::collections::BTreeMap;

use dispatcher::{Limit, Operation, Rails};
use serde::Deserialize;

use crate::file::Mistakes;

/// The longest window: as long as what was done is remembered.
const WINDOW_MINUTES_MAX: u32 = 24 * 60;

/// What the section says; what it does not say is as without it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GuardSection {
    window_minutes: Option<u32>,
    create: Option<Said>,
    unasked_create: Option<Said>,
    update: Option<Said>,
    grant: Option<Said>,
    revoke: Option<Said>,
    deactivate: Option<Said>,
    delete: Option<Said>,
}

/// A limit, or none.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be { more_than = 50, percent = 20 }, one of both, or \"off\"")]
enum Said {
    Word(String),
    Limit(Bounds),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    more_than: Option<u64>,
    percent: Option<u8>,
}

/// The guard rails of an app.
pub(super) fn rails(place: &str, section: GuardSection, mistakes: &mut Mistakes) -> Rails {
    let mut rails = Rails::default();
    if let Some(minutes) = section.window_minutes {
        if (1..=WINDOW_MINUTES_MAX).contains(&minutes) {
            rails.window_minutes = minutes;
        } else {
            mistakes.add(format!("{place}.window_minutes: must be 1 to {WINDOW_MINUTES_MAX}"));
        }
    }
    let said = [
        (Operation::Create, section.create),
        (Operation::UnaskedCreate, section.unasked_create),
        (Operation::Update, section.update),
        (Operation::Grant, section.grant),
        (Operation::Revoke, section.revoke),
        (Operation::Deactivate, section.deactivate),
        (Operation::Delete, section.delete),
    ];
    for (operation, said) in said {
        limit(place, operation, said, &mut rails.limits, mistakes);
    }
    rails
}

fn limit(
    place: &str,
    operation: Operation,
    said: Option<Said>,
    limits: &mut BTreeMap<Operation, Limit>,
    mistakes: &mut Mistakes,
) {
    match said {
        None => {}
        Some(Said::Word(word)) if word == "off" => drop(limits.remove(&operation)),
        Some(Said::Word(word)) => mistakes.add(format!(
            "{place}.{operation}: {word:?} is no limit; write {{ more_than = 50, percent = 20 }}, one of both, or \"off\""
        )),
        Some(Said::Limit(Bounds { more_than: None, percent: None })) => {
            mistakes.add(format!("{place}.{operation}: needs more_than, percent or both"));
        }
        Some(Said::Limit(Bounds { percent: Some(percent), .. })) if percent > 100 => {
            mistakes.add(format!("{place}.{operation}.percent: must be 0 to 100"));
        }
        Some(Said::Limit(Bounds { more_than, percent })) => {
            limits.insert(operation, Limit { more_than, percent });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Rails, Vec<String>) {
        let mut mistakes = Mistakes::default();
        let table: toml::Table = text.parse().unwrap();
        let section = crate::file::section("app.x.guard", table.into(), &mut mistakes).unwrap_or_default();
        let rails = rails("app.x.guard", section, &mut mistakes);
        let told = mistakes.into_result().err().map(|failure| failure.to_string());
        (rails, told.iter().flat_map(|text| text.lines().skip(1)).map(str::to_string).collect())
    }

    #[test]
    fn what_is_not_said_is_as_without_it() {
        let (found, mistakes) = read("window_minutes = 5\ndelete = \"off\"\ngrant = { more_than = 10 }");
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let mut expected = Rails { window_minutes: 5, ..Rails::default() };
        expected.limits.remove(&Operation::Delete);
        expected.limits.insert(Operation::Grant, Limit { more_than: Some(10), percent: None });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_limit_is_a_mistake() {
        let text = "window_minutes = 0\ndelete = \"no\"\ncreate = {}\nupdate = { percent = 101 }";
        let (_, mistakes) = read(text);
        for part in ["guard.window_minutes", "guard.delete", "guard.create", "guard.update.percent"] {
            assert!(mistakes.iter().any(|mistake| mistake.contains(part)), "{part}: {mistakes:?}");
        }
        assert_eq!(mistakes.len(), 4);
        let (_, mistakes) = read("deactivate = { more_than = -1 }");
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains("guard.deactivate: must be { more_than = 50"), "{mistakes:?}");
    }
}
