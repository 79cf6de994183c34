//! Which profile an app has, and what it is allowed of its own.

use std::path::Path;
use std::sync::Arc;

use dispatcher::{Budget, Calls, Profile, Window};
use serde::Deserialize;

use crate::file::Mistakes;

/// The profile of an app that names none.
const PLAIN: &str = "scim";

/// `[app.NAME.budget]`: limits of every call together, instead of the profile's for the same window.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BudgetSection {
    rate_per_second: Option<u32>,
    rate_per_minute: Option<u32>,
    rate_per_hour: Option<u32>,
    rate_per_day: Option<u32>,
    /// Apps that name the same draw from the same budgets.
    pub(super) shared_as: Option<String>,
    /// So many turns while others who draw from them have one.
    weight: Option<u32>,
}

/// Most turns that one has while others have one.
const WEIGHT_MAX: u32 = 1_000;

impl BudgetSection {
    pub(super) fn weight(&self, place: &str, mistakes: &mut Mistakes) -> u32 {
        let weight = self.weight.unwrap_or(1);
        if weight == 0 || weight > WEIGHT_MAX {
            mistakes.add(format!("{place}.budget.weight: is {weight}, from 1 to {WEIGHT_MAX}"));
        }
        weight
    }

    pub(super) fn budgets(&self, place: &str, mistakes: &mut Mistakes) -> Vec<Budget> {
        let windows = [
            ("rate_per_second", self.rate_per_second, Window::Second),
            ("rate_per_minute", self.rate_per_minute, Window::Minute),
            ("rate_per_hour", self.rate_per_hour, Window::Hour),
            ("rate_per_day", self.rate_per_day, Window::Day),
        ];
        let mut budgets = Vec::new();
        for (name, limit, per) in windows {
            match limit {
                None => {}
                Some(0) => mistakes
                    .add(format!("{place}.budget.{name}: must be 1 or more; to stop an app, pause it")),
                Some(limit) => {
                    budgets.push(Budget { calls: Calls::All, kind: None, per, limit, burst: None })
                }
            }
        }
        budgets
    }
}

/// A shipped profile by its name, or one from a file: relative to the configuration's folder, or else to the working folder.
pub(super) fn profile(
    place: &str,
    name: Option<&str>,
    folder: &Path,
    mistakes: &mut Mistakes,
) -> Arc<Profile> {
    let name = name.unwrap_or(PLAIN);
    let read = match Profile::shipped(name) {
        Some(profile) => profile,
        None => from_file(name, folder),
    };
    match read {
        Ok(profile) => Arc::new(profile),
        Err(mistake) => {
            mistakes.add(format!("{place}.profile: {mistake}"));
            Arc::new(Profile::scim())
        }
    }
}

fn from_file(name: &str, folder: &Path) -> Result<Profile, String> {
    let paths = [folder.join(name), Path::new(name).to_path_buf()];
    let Some(path) = paths.iter().find(|path| path.is_file()) else {
        let known = Profile::shipped_names().join(", ");
        return Err(format!(
            "{name:?} is neither a profile that is shipped ({known}) nor a file; docs/profiles.md says how to write one"
        ));
    };
    let text =
        eventlog::file::text(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Profile::parse(&text).map_err(|mistake| format!("{}: {}", path.display(), mistake.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: Option<&str>, folder: &Path, expected: &str) {
        let mut mistakes = Mistakes::default();
        let profile = profile("app.x", name, folder, &mut mistakes);
        let found = match mistakes.into_result() {
            Ok(()) => profile.about.clone(),
            Err(mistakes) => mistakes.to_string(),
        };
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn a_profile_is_shipped_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("good.toml"), "about = \"Ours.\"\n[type.User]").unwrap();
        std::fs::write(path.join("bad.toml"), "[type.User]\nchange = \"post\"").unwrap();
        check(None, path, "RFC 7643");
        check(Some("slack"), path, "Slack");
        check(Some("good.toml"), path, "Ours.");
        check(Some("bad.toml"), path, "unknown variant `post`");
        check(Some("teams"), path, "(aws-identity-center, github-emu, github-org, scim, slack)");
    }

    #[test]
    fn a_budget_of_nothing_is_a_mistake() {
        let mut mistakes = Mistakes::default();
        let section =
            BudgetSection { rate_per_second: Some(10), rate_per_day: Some(0), ..BudgetSection::default() };
        assert_eq!(section.weight("app.x", &mut mistakes), 1);
        BudgetSection { weight: Some(0), ..BudgetSection::default() }.weight("app.x", &mut mistakes);
        let budgets = section.budgets("app.x", &mut mistakes);
        assert_eq!(budgets.iter().map(|budget| budget.limit).collect::<Vec<_>>(), [10]);
        let told = mistakes.into_result().unwrap_err().to_string();
        for part in
            ["app.x.budget.rate_per_day: must be 1 or more", "app.x.budget.weight: is 0, from 1 to 1000"]
        {
            assert!(told.contains(part), "{told}");
        }
    }
}
