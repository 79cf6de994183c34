//! Whether an app can be worked with, found out without changing anything there: each check with its outcome and with what
//! to do.

use scim::ResourceType;
use serde::Serialize;
use serde_json::Value;

use super::{Unanswered, View};
use crate::Error;
use crate::config::AppConfig;
use crate::connector::{Listed, NoAnswer, Place, Probed, ScimApp};
use crate::profile::{Change, Operation, Type};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It could not be looked at.
    Skipped,
    /// The app cannot be worked with like this.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub todo: String,
}

impl Check {
    fn of(
        name: impl Into<String>,
        verdict: Verdict,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), verdict, found: found.into(), todo: todo.into() }
    }

    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::of(name, Verdict::Ok, found, "")
    }

    fn skipped(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::of(name, Verdict::Skipped, found, "")
    }
}

/// A resource type of ours that belongs at the app, and what its profile says of it.
struct Kept<'a> {
    kind: &'a ResourceType,
    own: &'a Type,
    has_members: bool,
    /// By what an account that is there already is found.
    keys: Vec<String>,
    /// What every resource of ours has.
    has: Vec<String>,
}

impl View {
    /// Checks an app: whether it is there and knows us, whether its profile is as it says of itself, whether it can be
    /// searched and listed. Uses its budget, and changes nothing.
    pub async fn test(&self, name: &str) -> Result<Vec<Check>, Unanswered> {
        let config = self.config(name)?;
        let purse = self.shared.purses.of_app(name, config);
        let app = ScimApp::new(config, purse, None)
            .map_err(|reason| Error::App { app: name.to_string(), reason })?;
        let kept = self.kept(config, &app);
        let described = app.probe("/ServiceProviderConfig", &[]).await;
        let mut checks = vec![reachable(config, &described)];
        if failed(&checks) {
            return Ok(checks);
        }
        checks.push(known(&app, config, &kept).await);
        if failed(&checks) {
            return Ok(checks);
        }
        checks.extend(supports(described.document(), &kept));
        let schemas = app.probe("/Schemas", &[]).await;
        checks.extend(kept.iter().map(|kept| required(schemas.document(), kept)));
        for kept in &kept {
            for key in &kept.keys {
                let found = app.probe_search(kept.kind, key).await;
                checks.push(searched(kept, key, &found));
            }
            checks.push(listed(&app, kept).await);
        }
        Ok(checks)
    }

    fn kept<'a>(&'a self, config: &AppConfig, app: &'a ScimApp) -> Vec<Kept<'a>> {
        let registry = &self.shared.registry;
        let kinds = registry.resource_types().iter().filter(|kind| config.scope.of(&kind.name).is_some());
        let kept = kinds.map(|kind| {
            let (own, core) = (app.own(kind), registry.core(kind));
            let keys =
                config.matching.keys(registry, kind, &config.mapping).into_iter().map(|key| key.to_string());
            Kept {
                kind,
                own,
                has_members: core.iter().any(|attribute| attribute.name == "members"),
                keys: keys.filter(|key| own.can_search(key)).collect(),
                has: core.iter().filter(|one| one.required).map(|one| one.name.clone()).collect(),
            }
        });
        kept.collect()
    }
}

fn failed(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict == Verdict::Failed)
}

/// Any answer says that somebody is there; whether it knows us is another question.
fn reachable(config: &AppConfig, described: &Probed) -> Check {
    let place = format!("{}", config.url);
    match described {
        Probed::Answer { .. } | Probed::Lost(NoAnswer::Unauthenticated(_)) => {
            Check::ok("reachable", format!("{place} answers"))
        }
        Probed::NotYet(_) => Check::of(
            "reachable",
            Verdict::Failed,
            described.told(),
            "ask again later, or raise [app.NAME.budget]",
        ),
        Probed::Lost(NoAnswer::Timeout | NoAnswer::Unreachable | NoAnswer::Broken) => Check::of(
            "reachable",
            Verdict::Failed,
            described.told(),
            format!("check that {place} is right and can be reached from here: network, proxy, certificates"),
        ),
    }
}

/// Whether the app knows us: told by what it lets nobody else see.
async fn known(app: &ScimApp, config: &AppConfig, kept: &[Kept<'_>]) -> Check {
    let listed = kept.iter().find(|kept| kept.own.can(Operation::List));
    let Some(kept) = listed else {
        return Check::skipped(
            "credential",
            "the profile says that nothing can be listed, so nothing shows it",
        );
    };
    let found = app.probe(&kept.kind.endpoint, &[("startIndex", "1"), ("count", "1")]).await;
    credential(config, kept.kind, &found)
}

fn credential(config: &AppConfig, kind: &ResourceType, found: &Probed) -> Check {
    let name = "credential";
    let fails = |todo: String| Check::of(name, Verdict::Failed, found.told(), todo);
    match found {
        Probed::Answer { status: 200..=299, .. } => Check::ok(name, "the app knows us"),
        Probed::Answer { throttled: true, .. } => Check::of(
            name,
            Verdict::Warning,
            found.told(),
            "it is too fast for the app at the moment: ask again later",
        ),
        Probed::Answer { status: 401, .. } | Probed::Lost(NoAnswer::Unauthenticated(_)) => {
            fails("renew what [app.NAME] shows: token, token_file, token_env or [app.NAME.auth]".to_string())
        }
        Probed::Answer { status: 403, .. } => {
            fails(format!("give the credential the right to read and write {} at the app", kind.name))
        }
        Probed::Answer { status: 404, .. } => fails(format!(
            "check the url: {}{} must be where the app keeps them",
            config.url.as_str().trim_end_matches('/'),
            kind.endpoint
        )),
        Probed::Answer { .. } | Probed::NotYet(_) | Probed::Lost(_) => {
            fails("look at the app: it does not work as it is; ask again later".to_string())
        }
    }
}

/// What the app says that it supports, against what its profile makes us do.
fn supports(described: Option<&Value>, kept: &[Kept<'_>]) -> Vec<Check> {
    let Some(described) = described else {
        return vec![Check::skipped("supports", "the app has no ServiceProviderConfig")];
    };
    let supported = |name: &str| described.get(name)?.get("supported")?.as_bool();
    let patches = kept
        .iter()
        .any(|kept| kept.has_members || kept.own.change == Change::Patch || kept.own.can(Operation::Patch));
    let searches = kept.iter().any(|kept| !kept.keys.is_empty());
    let one = |name: &str, word: &str, is_used: bool, todo: &str| match supported(name) {
        Some(true) => Check::ok(name, format!("the app supports {word}")),
        Some(false) if is_used => Check::of(
            name,
            Verdict::Failed,
            format!("the app says that it does not support {word}, and the profile uses it"),
            todo,
        ),
        Some(false) => {
            Check::ok(name, format!("the app does not support {word}, and the profile does not use it"))
        }
        None => Check::skipped(name, format!("the app does not say whether it supports {word}")),
    };
    let mut checks = vec![
        one(
            "patch",
            "PATCH",
            patches,
            "write a profile without patch in operations, with change = \"put\" and without groups (docs/profiles.md)",
        ),
        one(
            "filter",
            "filters",
            searches,
            "write a profile with search = [] (docs/profiles.md): accounts that are there already are then not found",
        ),
    ];
    let most = described.get("filter").and_then(|filter| filter.get("maxResults")).and_then(Value::as_u64);
    let asked = kept.iter().map(|kept| kept.own.page_max).max().unwrap_or_default();
    checks.push(match most {
        None => Check::skipped("max results", "the app does not say how many it lists at once"),
        Some(most) if u64::try_from(asked).is_ok_and(|asked| asked > most) => Check::of(
            "max results",
            Verdict::Warning,
            format!("the app lists {most} at once, the profile asks for {asked}"),
            format!("write page_max = {most} in a profile; an app that answers fewer is listed all the same"),
        ),
        Some(most) => {
            Check::ok("max results", format!("the app lists {most} at once, the profile asks for {asked}"))
        }
    });
    checks
}

/// What the app's schema requires, against what every resource of ours has or the profile asks for.
fn required(schemas: Option<&Value>, kept: &Kept<'_>) -> Check {
    let name = format!("required {}", kept.kind.name);
    let listed = schemas.and_then(|schemas| schemas.get("Resources")).and_then(Value::as_array);
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
    let own = listed
        .into_iter()
        .flatten()
        .find(|schema| text(schema, "id").eq_ignore_ascii_case(&kept.kind.schema));
    let Some(attributes) = own.and_then(|schema| schema.get("attributes")).and_then(Value::as_array) else {
        return Check::skipped(name, "the app shows no schema of it");
    };
    let wanted = attributes.iter().filter(|attribute| attribute.get("required") == Some(&Value::Bool(true)));
    let wanted = wanted.filter(|attribute| text(attribute, "mutability") != "readOnly");
    let wanted: Vec<String> = wanted.map(|attribute| text(attribute, "name")).collect();
    let is_sure = |name: &String| {
        let same =
            |other: &String| other.split('.').next().is_some_and(|head| head.eq_ignore_ascii_case(name));
        kept.has.iter().chain(&kept.own.required).chain(kept.own.defaults.keys()).any(same)
    };
    let unsure: Vec<String> = wanted.iter().filter(|name| !is_sure(name)).cloned().collect();
    if unsure.is_empty() {
        return Check::ok(name, format!("the app requires {}", list(&wanted)));
    }
    Check::of(
        name,
        Verdict::Warning,
        format!("the app requires {}, which not every resource has", list(&unsure)),
        "map it or give it a default ([app.NAME.map]), and name it under required in a profile: whoever lacks it is then held with that reason",
    )
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_string() } else { names.join(", ") }
}

/// Whether a search works by which an account that is there already is found.
fn searched(kept: &Kept<'_>, key: &str, found: &Probed) -> Check {
    let name = format!("search {} {key}", kept.kind.name);
    let is_list = |body: &Value| body.get("totalResults").is_some() || body.get("Resources").is_some();
    let todo = format!("leave {key} out of search in a profile (docs/profiles.md), or ask the app's people");
    match found {
        Probed::Answer { status: 200..=299, body: Some(body), .. } if is_list(body) => {
            let shown = body.get("Resources").and_then(Value::as_array).map_or(0, Vec::len);
            if shown == 0 {
                return Check::ok(name, "the app can be searched");
            }
            let found = "the app answers accounts that do not have the value: it does not know the filter";
            Check::of(name, Verdict::Failed, found, todo)
        }
        Probed::Answer { status: 404, .. } => Check::ok(name, "the app answers 404 for nobody"),
        Probed::Answer { throttled: true, .. } | Probed::NotYet(_) => {
            Check::of(name, Verdict::Warning, found.told(), "ask again later")
        }
        Probed::Answer { status: 200..=299, .. } => {
            Check::of(name, Verdict::Failed, "the app answers something that is no list", todo)
        }
        Probed::Answer { .. } => Check::of(name, Verdict::Failed, found.told(), todo),
        Probed::Lost(_) => {
            Check::of(name, Verdict::Failed, found.told(), "ask again; the app was there before")
        }
    }
}

/// Whether a page of all accounts can be read, as reconciliation and import do.
async fn listed(app: &ScimApp, kept: &Kept<'_>) -> Check {
    let name = format!("list {}", kept.kind.name);
    if !kept.own.can(Operation::List) {
        return Check::skipped(
            name,
            "the profile says that it cannot be listed: nothing is reconciled or imported",
        );
    }
    let count = u64::try_from(kept.own.page_max).unwrap_or(1).clamp(1, 100);
    page(name, app.list(kept.kind, &Place::Index(1), count).await)
}

fn page(name: String, found: Listed) -> Check {
    let todo = "leave list out of operations in a profile (docs/profiles.md), or ask the app's people";
    match found {
        Listed::Page(page) => {
            let total = page.total.map_or_else(|| "an unknown number".to_string(), |total| total.to_string());
            Check::ok(name, format!("{} of {total} can be read on the first page", page.accounts.len()))
        }
        Listed::TooLarge => Check::of(
            name,
            Verdict::Warning,
            "the first page is larger than we read",
            "write a smaller page_max in a profile",
        ),
        Listed::Refused { status } => {
            Check::of(name, Verdict::Failed, format!("the app does not list them ({status})"), todo)
        }
        Listed::NotYet(denied) => {
            let found = format!("the app's budget allows no call for {} s", denied.after.as_secs().max(1));
            Check::of(name, Verdict::Warning, found, "ask again later")
        }
        Listed::Unavailable { error, .. } => Check::of(name, Verdict::Failed, error, "ask again later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use scim::Registry;
    use serde_json::json;

    fn registry() -> Registry {
        Registry::built_in().unwrap()
    }

    #[track_caller]
    fn with_profile(text: &str, check: impl Fn(&Kept<'_>) -> Check) -> (Verdict, String) {
        let (registry, profile) = (registry(), Profile::parse(text).unwrap());
        let kind = registry.by_name("User").unwrap();
        let keys = vec!["userName".to_string()];
        let has = vec!["userName".to_string()];
        let kept = Kept { kind, own: profile.of("User").unwrap(), has_members: false, keys, has };
        let check = check(&kept);
        assert_eq!(
            check.todo.is_empty(),
            matches!(check.verdict, Verdict::Ok | Verdict::Skipped),
            "{check:?}"
        );
        (check.verdict, check.found)
    }

    fn answer(status: u16, body: Value) -> Probed {
        Probed::Answer { status, body: Some(body), throttled: status == 429 }
    }

    #[test]
    fn what_an_app_says_of_itself_is_held_against_the_profile() {
        let told = |profile: &str, described: Value, name: &str| {
            with_profile(profile, |kept| {
                let kept = std::slice::from_ref(kept);
                supports(Some(&described), kept).into_iter().find(|check| check.name == name).unwrap()
            })
            .0
        };
        let no_patch =
            json!({"patch": {"supported": false}, "filter": {"supported": true, "maxResults": 50}});
        assert_eq!(told("[type.User]", no_patch.clone(), "patch"), Verdict::Failed);
        let put = "[type.User]\noperations = [\"create\", \"read\", \"list\", \"put\", \"delete\"]";
        assert_eq!(told(put, no_patch.clone(), "patch"), Verdict::Ok);
        assert_eq!(told(put, no_patch.clone(), "filter"), Verdict::Ok);
        assert_eq!(told(put, no_patch.clone(), "max results"), Verdict::Warning);
        assert_eq!(told("[type.User]\npage_max = 50", no_patch, "max results"), Verdict::Ok);
        assert_eq!(told(put, json!({"filter": {"supported": false}}), "filter"), Verdict::Failed);
        assert_eq!(told(put, json!({}), "patch"), Verdict::Skipped);
        assert_eq!(
            with_profile(put, |kept| supports(None, std::slice::from_ref(kept)).remove(0)).0,
            Verdict::Skipped
        );
    }

    #[test]
    fn what_the_schema_requires_must_be_there() {
        let attribute = |name: &str| json!({"name": name, "required": true});
        let schemas = json!({"Resources": [{
            "id": "urn:ietf:params:scim:schemas:core:2.0:User",
            "attributes": [attribute("userName"), attribute("title"),
                {"name": "id", "required": true, "mutability": "readOnly"}, {"name": "nickName", "required": false}],
        }]});
        let told = |profile: &str| with_profile(profile, |kept| required(Some(&schemas), kept));
        let (verdict, found) = told("[type.User]");
        assert!(verdict == Verdict::Warning && found.contains("requires title,"), "{found}");
        assert_eq!(told("[type.User]\nrequired = [\"title\"]").0, Verdict::Ok);
        assert_eq!(told("[type.User]\ndefaults = { title = \"-\" }").0, Verdict::Ok);
        assert_eq!(with_profile("[type.User]", |kept| required(None, kept)).0, Verdict::Skipped);
    }

    #[test]
    fn only_a_list_of_nobody_shows_that_a_search_works() {
        let told = |found: &Probed| with_profile("[type.User]", |kept| searched(kept, "userName", found)).0;
        assert_eq!(told(&answer(200, json!({"totalResults": 0}))), Verdict::Ok);
        assert_eq!(
            told(&answer(200, json!({"totalResults": 1, "Resources": [{"id": "1"}]}))),
            Verdict::Failed
        );
        assert_eq!(told(&answer(200, json!({"hello": 1}))), Verdict::Failed);
        assert_eq!(told(&answer(400, json!({}))), Verdict::Failed);
        assert_eq!(told(&answer(429, json!({}))), Verdict::Warning);
        assert_eq!(told(&answer(404, json!({}))), Verdict::Ok);
        assert_eq!(told(&Probed::Lost(NoAnswer::Timeout)), Verdict::Failed);
    }

    #[test]
    fn an_app_that_lists_nothing_is_told_apart_from_one_that_cannot_now() {
        let refused = page("list".to_string(), Listed::Refused { status: 501 });
        assert!(refused.verdict == Verdict::Failed && refused.found.contains("501"), "{refused:?}");
        assert_eq!(page(String::new(), Listed::TooLarge).verdict, Verdict::Warning);
    }
}
