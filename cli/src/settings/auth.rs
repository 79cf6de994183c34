//! `[app.NAME.auth]`, and the token that stands at the app itself.

use std::path::PathBuf;

use dispatcher::{Auth, ClientAuth, OAuth, Scheme, Secret, Source, Tls};
use serde::Deserialize;
use toml::Value;
use url::Url;

use super::environment;
use crate::file::{self, Mistakes};

/// A secret in the file, the name of a variable, or a file of its own.
pub(super) type Given = (Option<Secret>, Option<String>, Option<PathBuf>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthSection {
    kind: String,
    token: Option<Secret>,
    token_env: Option<String>,
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<Secret>,
    password_env: Option<String>,
    password_file: Option<PathBuf>,
    token_url: Option<Url>,
    client_id: Option<String>,
    method: Option<String>,
    client_secret: Option<Secret>,
    client_secret_env: Option<String>,
    client_secret_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    key_id: Option<String>,
    assertion_audience: Option<String>,
    scope: Option<String>,
    audience: Option<String>,
    resource: Option<String>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    ca: Option<PathBuf>,
}

/// Which settings belong together.
const SETTINGS: [(&str, &[&str]); 4] = [
    ("bearer", &["token"]),
    ("basic", &["username", "password"]),
    (
        "oauth2",
        &[
            "token_url",
            "client_id",
            "method",
            "client_secret",
            "key_file",
            "key_id",
            "assertion_audience",
            "scope",
            "audience",
            "resource",
        ],
    ),
    ("mtls-only", &[]),
];
/// Those that every kind may have.
const CERTIFICATES: [&str; 3] = ["client_certificate", "client_key", "ca"];

/// How an app is shown who we are: its section, or a token beside it.
pub(super) fn auth(place: &str, section: Option<Value>, beside: Given, mistakes: &mut Mistakes) -> Auth {
    let Some(value) = section else {
        let token = source(place, "token", beside, mistakes);
        return checked(place, Auth { scheme: Scheme::Bearer(token), tls: Tls::default() }, mistakes);
    };
    let nothing = || Auth::bearer(Secret::default());
    if !matches!(beside, (None, None, None)) {
        mistakes.add(format!("{place}: has a token and {place}.auth; one of them must go"));
        return nothing();
    }
    let place = format!("{place}.auth");
    let names: Vec<String> = value.as_table().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let Some(section) = file::section::<AuthSection>(&place, value, mistakes) else { return nothing() };
    if !is_one_kind(&place, &section.kind, &names, mistakes) {
        return nothing();
    }
    let tls = Tls {
        identity: match (section.client_certificate.clone(), section.client_key.clone()) {
            (Some(chain), Some(key)) => Some((chain, key)),
            (None, None) => None,
            (_, _) => {
                mistakes.add(format!("{place}: client_certificate and client_key need each other"));
                return nothing();
            }
        },
        ca: section.ca.clone(),
    };
    scheme(&place, section, mistakes)
        .map_or_else(nothing, |scheme| checked(&place, Auth { scheme, tls }, mistakes))
}

/// Every file is read, so that what is wrong with it is said at the start.
fn checked(place: &str, auth: Auth, mistakes: &mut Mistakes) -> Auth {
    for mistake in auth.mistakes() {
        mistakes.add(format!("{place}.{mistake}"));
    }
    auth
}

fn is_one_kind(place: &str, kind: &str, names: &[String], mistakes: &mut Mistakes) -> bool {
    let Some((_, settings)) = SETTINGS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = SETTINGS.iter().map(|(known, _)| *known).collect();
        mistakes.add(format!("{place}.kind: {kind:?} is not known; there are {}", known.join(", ")));
        return false;
    };
    let strange = names.iter().filter(|name| {
        let plain = name.strip_suffix("_env").or_else(|| name.strip_suffix("_file")).unwrap_or(name);
        let belongs = |known: &[&str]| known.contains(&plain) || known.contains(&name.as_str());
        name.as_str() != "kind" && !belongs(settings) && !belongs(&CERTIFICATES)
    });
    let mut is_one = true;
    for name in strange {
        mistakes.add(format!("{place}.{name}: does not belong to kind = {kind:?}"));
        is_one = false;
    }
    is_one
}

fn scheme(place: &str, section: AuthSection, mistakes: &mut Mistakes) -> Option<Scheme> {
    match section.kind.as_str() {
        "bearer" => {
            let given = (section.token, section.token_env, section.token_file);
            Some(Scheme::Bearer(source(place, "token", given, mistakes)))
        }
        "basic" => {
            let given = (section.password, section.password_env, section.password_file);
            let password = source(place, "password", given, mistakes);
            let user = needed(place, "username", section.username, mistakes)?;
            Some(Scheme::Basic { user, password })
        }
        "oauth2" => oauth(place, section, mistakes).map(|oauth| Scheme::OAuth(Box::new(oauth))),
        _ => Some(Scheme::Certificate),
    }
}

fn oauth(place: &str, section: AuthSection, mistakes: &mut Mistakes) -> Option<OAuth> {
    let token_url = needed(place, "token_url", section.token_url, mistakes);
    let client_id = needed(place, "client_id", section.client_id, mistakes);
    let method = section.method.as_deref().unwrap_or("client_secret_basic");
    let secret = (section.client_secret, section.client_secret_env, section.client_secret_file);
    let has_secret = !matches!(secret, (None, None, None));
    let has_key =
        section.key_file.is_some() || section.key_id.is_some() || section.assertion_audience.is_some();
    let is_known = ["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth"];
    if !is_known.contains(&method) {
        mistakes.add(format!("{place}.method: {method:?} is not known; there are {}", is_known.join(", ")));
        return None;
    }
    if has_secret && !method.starts_with("client_secret") {
        mistakes.add(format!("{place}.client_secret: does not belong to method = {method:?}"));
    }
    if has_key && method != "private_key_jwt" {
        mistakes.add(format!(
            "{place}.key_file, key_id, assertion_audience: belong to method = \"private_key_jwt\""
        ));
    }
    let client = match method {
        "client_secret_basic" => ClientAuth::SecretBasic(source(place, "client_secret", secret, mistakes)),
        "client_secret_post" => ClientAuth::SecretPost(source(place, "client_secret", secret, mistakes)),
        "private_key_jwt" => ClientAuth::PrivateKey {
            key: needed(place, "key_file", section.key_file, mistakes)?,
            key_id: section.key_id,
            audience: section.assertion_audience,
        },
        _ => ClientAuth::Certificate,
    };
    let (scope, audience, resource) = (section.scope, section.audience, section.resource);
    Some(OAuth { token_url: token_url?, client_id: client_id?, client, scope, audience, resource })
}

fn needed<T>(place: &str, name: &str, value: Option<T>, mistakes: &mut Mistakes) -> Option<T> {
    if value.is_none() {
        mistakes.add(format!("{place}.{name}: is missing"));
    }
    value
}

/// Where a secret is kept. What a variable holds is taken now; a file is read again when its secret is refused.
fn source(place: &str, name: &str, given: Given, mistakes: &mut Mistakes) -> Source {
    match given {
        (Some(secret), None, None) => Source::Given(secret),
        (None, Some(variable), None) => match environment(&variable).filter(|text| !text.is_empty()) {
            Some(text) => Source::Given(Secret::new(text)),
            None => {
                mistakes.add(format!("{place}.{name}_env: the variable {variable} is not set"));
                Source::Given(Secret::new("?"))
            }
        },
        (None, None, Some(path)) => Source::File(path),
        (_, _, _) => {
            mistakes.add(format!("{place}: needs one of {name}, {name}_env and {name}_file"));
            Source::Given(Secret::new("?"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, mistake: Option<&str>) {
        let (value, mut mistakes) = (text.parse::<toml::Table>().unwrap(), Mistakes::default());
        auth("app.wiki", Some(Value::Table(value)), (None, None, None), &mut mistakes);
        let found = mistakes.into_result().err().map(|failure| failure.to_string());
        match (found, mistake) {
            (None, None) => {}
            (Some(found), Some(mistake)) => assert!(found.contains(mistake), "{found}"),
            (found, mistake) => panic!("{found:?} instead of {mistake:?}"),
        }
    }

    const OAUTH: &str = "kind = \"oauth2\"\ntoken_url = \"https://x.test/token\"\nclient_id = \"rollcall\"\n";

    #[test]
    fn what_cannot_work_is_said_at_the_start() {
        check("kind = \"bearer\"\ntoken = \"t\"", None);
        check("kind = \"basic\"\nusername = \"u\"\npassword = \"p\"", None);
        check(&format!("{OAUTH}client_secret = \"s\""), None);
        check(
            "kind = \"digest\"",
            Some("app.wiki.auth.kind: \"digest\" is not known; there are bearer, basic"),
        );
        check("kind = \"bearer\"", Some("needs one of token, token_env and token_file"));
        check("kind = \"bearer\"\ntoken = \"a\\nb\"", Some("app.wiki.auth.token: has a character"));
        check(
            "kind = \"bearer\"\ntoken_file = \"/nowhere/t\"",
            Some("auth.token: /nowhere/t cannot be read"),
        );
        check(
            "kind = \"basic\"\nusername = \"a:b\"\npassword = \"p\"",
            Some("auth.username: must have no colon"),
        );
        check("kind = \"basic\"\npassword = \"p\"", Some("auth.username: is missing"));
        check("kind = \"bearer\"\ntoken = \"t\"\nscope = \"x\"", Some("auth.scope: does not belong to kind"));
        check("kind = \"mtls-only\"", Some("auth.client_certificate: is needed"));
        check(
            "kind = \"mtls-only\"\nclient_key = \"k\"",
            Some("client_certificate and client_key need each other"),
        );
        check(
            "kind = \"bearer\"\ntoken = \"t\"\nca = \"/nowhere/ca\"",
            Some("auth.ca: /nowhere/ca cannot be read"),
        );
        check(
            "kind = \"oauth2\"\nclient_id = \"x\"\nclient_secret = \"s\"",
            Some("auth.token_url: is missing"),
        );
        check(&format!("{OAUTH}method = \"none\""), Some("auth.method: \"none\" is not known"));
        check(&format!("{OAUTH}method = \"private_key_jwt\""), Some("auth.key_file: is missing"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let method = format!(
            "{OAUTH}method = \"private_key_jwt\"\nkey_file = {:?}",
            file.path().display().to_string()
        );
        check(&method, Some("holds no private key in PEM"));
        check(&format!("{OAUTH}method = \"tls_client_auth\""), Some("auth.client_certificate: is needed"));
        check(
            &format!("{OAUTH}key_id = \"k\"\nclient_secret = \"s\""),
            Some("belong to method = \"private_key_jwt\""),
        );
    }
}
