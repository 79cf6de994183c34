//! `rollcall token create|list|revoke`.

use eventlog::{Broker, clock, nats};
use gateway::{mint, read_tokens, revoke};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proto::Tenant;
use serde_json::json;

use crate::Failure;
use crate::args::{Token, TokenCreate};
use crate::output::print;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, command: Token) -> Result<(), Failure> {
    match command {
        Token::Create(create) => make(settings, &create).await,
        Token::List { tenant, json } => list(settings, tenant.as_deref(), json).await,
        Token::Revoke { id, reason } => end(settings, &id, &reason).await,
    }
}

/// The broker of these settings.
pub(crate) async fn connect(settings: &Settings) -> Result<Broker, Failure> {
    let config = settings.broker_config(None)?;
    nats::connect(&config).await.map_err(|error| Failure::new(error.to_string()))
}

async fn make(settings: &Settings, create: &TokenCreate) -> Result<(), Failure> {
    let tenant: Tenant = create.tenant.parse().map_err(|error| Failure::of("--tenant", &error))?;
    let is_shown = |text: &str| !text.chars().any(char::is_control);
    if create.source.trim().is_empty() || create.source.len() > 64 || !is_shown(&create.source) {
        return Err(Failure::new("--source: must have 1 to 64 characters, all of which can be shown"));
    }
    if !is_shown(&create.description) {
        return Err(Failure::new("--description: must be one line of characters that can be shown"));
    }
    let dialect =
        create.dialect.parse().map_err(|error: String| Failure::new(format!("--dialect: {error}")))?;
    let expires_at = match &create.expires_in {
        None => None,
        Some(text) => Some(end_of(text, clock::now())?),
    };
    let user = match &create.user {
        None => None,
        Some(id) => Some(id.parse().map_err(|error| Failure::of("--user", &error))?),
    };
    let broker = connect(settings).await?;
    let minted =
        mint(&*broker.control, &tenant, &create.source, dialect, expires_at, &create.description, user)
            .await
            .map_err(|error| Failure::of("making the token", &error))?;
    print(&format!(
        "Token {} for tenant {tenant}, source {}, dialect {}.",
        minted.credential,
        create.source,
        dialect.as_str()
    ));
    print("It is shown this once; only its hash is kept:");
    if !print(&minted.secret) {
        return Err(Failure::new(format!(
            "token {0} is made, but it could not be shown and nobody has it: `rollcall token revoke {0}`, and make another",
            minted.credential
        )));
    }
    Ok(())
}

/// `90d`, `12h`, or anything that a duration can be written as. Days, months and years are those of UTC.
fn end_of(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let wrong = || {
        Failure::new(format!(
            "--expires-in: {text:?} is no duration, or ends before it begins or after the year 9999; write 90d or 12h"
        ))
    };
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let now = now.to_zoned_datetime(TimeZone::UTC);
    let end = now.checked_add(span).map_err(|_| wrong())?;
    if end <= now { Err(wrong()) } else { Ok(end.timestamp()) }
}

async fn list(settings: &Settings, tenant: Option<&str>, json: bool) -> Result<(), Failure> {
    let broker = connect(settings).await?;
    let tokens =
        read_tokens(&*broker.control).await.map_err(|error| Failure::of("reading the tokens", &error))?;
    if !json {
        print(&format!(
            "{:<18} {:<16} {:<16} {:<8} {:<8} {:<21} NOTE",
            "ID", "TENANT", "SOURCE", "DIALECT", "STATE", "MADE"
        ));
    }
    for token in tokens.iter().filter(|token| tenant.is_none_or(|tenant| token.tenant.as_str() == tenant)) {
        let expired = token.expires_at.is_some_and(|end| end <= clock::now());
        let state = match (token.revoked, expired) {
            (true, _) => "revoked",
            (false, true) => "expired",
            (false, false) => "valid",
        };
        let line = if json {
            json!({
                "id": token.credential, "tenant": token.tenant, "source": token.source, "dialect": token.dialect.as_str(),
                "state": state, "created": token.created_at.to_string(), "expires": token.expires_at.map(|end| end.to_string()),
                "description": token.description,
            })
            .to_string()
        } else {
            let made = token.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            format!(
                "{:<18} {:<16} {:<16} {:<8} {state:<8} {made:<21} {}",
                token.credential,
                token.tenant.to_string(),
                token.source,
                token.dialect.as_str(),
                token.description
            )
        };
        if !print(&line) {
            break;
        }
    }
    Ok(())
}

async fn end(settings: &Settings, id: &str, reason: &str) -> Result<(), Failure> {
    let broker = connect(settings).await?;
    let control = &*broker.control;
    let tokens = read_tokens(control).await.map_err(|error| Failure::of("reading the tokens", &error))?;
    let Some(token) = tokens.iter().find(|token| token.credential == id) else {
        return Err(Failure::new(format!("there is no token {id}; `rollcall token list` shows them all")));
    };
    if token.revoked {
        print(&format!("Token {id} was revoked before."));
        return Ok(());
    }
    revoke(control, token, reason).await.map_err(|error| Failure::of("revoking the token", &error))?;
    print(&format!("Token {id} of tenant {} is revoked.", token.tenant));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let now = "2026-01-31T08:00:00Z".parse().unwrap();
        let found = end_of(text, now).ok().map(|end| end.to_string());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn a_token_ends_when_it_was_said() {
        check("90d", Some("2026-05-01T08:00:00Z"));
        check("12h", Some("2026-01-31T20:00:00Z"));
        check("1h 30m", Some("2026-01-31T09:30:00Z"));
        check("2w", Some("2026-02-14T08:00:00Z"));
        check("1mo", Some("2026-02-28T08:00:00Z"));
        check("1y 1d", Some("2027-02-01T08:00:00Z"));
        check("P1Y", Some("2027-01-31T08:00:00Z"));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "soon", "0d", "-5d", "90", "7304484d 23h", "175307616h"] {
            check(text, None);
        }
    }
}
