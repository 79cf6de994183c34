//! `rollcall app …`, `why`, `timeline` and `who`: what an operator asks and tells a running dispatcher.

mod import;
mod people;
mod proof;

use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::Failure;
use crate::args::{AppCommand, By, Leave, Timeline, Told, WhoAt, Why};
use crate::audit::Client;
use crate::output::print;
use crate::reconcile;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, command: AppCommand) -> Result<(), Failure> {
    match command {
        AppCommand::List(asked) => {
            let told = get(settings, &asked.answer, "/api/v1/apps", &[]).await?;
            show(&asked.answer, &told, &list(&told));
        }
        AppCommand::Show(asked) => {
            let told = get(settings, &asked.answer, &path(&asked.app, ""), &[]).await?;
            show(&asked.answer, &told, &app(&told));
        }
        AppCommand::Held(asked) => {
            let reason = asked.reason.map(|words| ("reason", words));
            let told = get(settings, &asked.answer, &path(&asked.app, "/held"), reason.as_slice()).await?;
            show(&asked.answer, &told, &held(&told));
        }
        AppCommand::Reconcile(asked) => reconcile::run(settings, &asked).await?,
        AppCommand::Pause(asked) => {
            tell(settings, &asked.answer, &path(&asked.app, "/pause"), by(&asked.said)).await?;
        }
        AppCommand::Resume(asked) => {
            tell(settings, &asked.answer, &path(&asked.app, "/resume"), by(&asked.said)).await?;
        }
        AppCommand::Release(asked) => {
            let mut body = by(&asked.said);
            if let Some(operation) = asked.operation {
                body.insert("operation".to_string(), operation.into());
            }
            tell(settings, &asked.answer, &path(&asked.app, "/release"), body).await?;
        }
        AppCommand::Redrive(asked) => {
            let mut body = by(&asked.said);
            if asked.all {
                body.insert("all".to_string(), true.into());
            }
            if !asked.id.is_empty() {
                body.insert("ids".to_string(), asked.id.into());
            }
            if let Some(words) = asked.reason {
                body.insert("reason".to_string(), words.into());
            }
            let told = post(settings, &asked.answer, &path(&asked.app, "/redrive"), body).await?;
            show(&asked.answer, &told, &format!("{} are planned afresh", cell(told.get("total"))));
        }
        AppCommand::Test(asked) => proof::test(settings, &asked).await?,
        AppCommand::Import(asked) => import::run(settings, &asked).await?,
        AppCommand::Provision(asked) => proof::provision(settings, &asked).await?,
        AppCommand::Plan(asked) => {
            let told = match asked.with {
                None => {
                    let parameters: Vec<(&str, String)> = std::iter::once(("count", asked.count.to_string()))
                        .chain(asked.who.map(|who| ("who", who)))
                        .collect();
                    get(settings, &asked.answer, &path(&asked.app, "/plan"), &parameters).await?
                }
                Some(file) => {
                    let text = eventlog::file::text(&file)
                        .map_err(|error| Failure::of(format_args!("reading {}", file.display()), &error))?;
                    let body = json!({"configuration": text, "who": asked.who, "count": asked.count});
                    let body = body.as_object().cloned().unwrap_or_default();
                    post(settings, &asked.answer, &path(&asked.app, "/plan"), body).await?
                }
            };
            show(&asked.answer, &told, &people::plan(&told));
        }
    }
    Ok(())
}

pub(crate) async fn why(settings: &Settings, asked: Why) -> Result<(), Failure> {
    let told = get(settings, &asked.answer, &path(&asked.app, "/why"), &[("who", asked.who)]).await?;
    show(&asked.answer, &told, &people::why(&told));
    Ok(())
}

pub(crate) async fn timeline(settings: &Settings, asked: Timeline) -> Result<(), Failure> {
    let parameters: Vec<(&str, String)> =
        std::iter::once(("who", asked.who)).chain(asked.tenant.map(|tenant| ("tenant", tenant))).collect();
    let told = get(settings, &asked.answer, "/api/v1/timeline", &parameters).await?;
    show(&asked.answer, &told, &people::timeline(&told));
    Ok(())
}

pub(crate) async fn who(settings: &Settings, asked: WhoAt) -> Result<(), Failure> {
    let at = asked.at.map(|at| ("at", at));
    let told = get(settings, &asked.answer, &path(&asked.app, "/who"), at.as_slice()).await?;
    show(&asked.answer, &told, &people::who(&told));
    Ok(())
}

pub(crate) async fn leave(settings: &Settings, asked: Leave) -> Result<(), Failure> {
    let mut body = by(&asked.said);
    body.insert("who".to_string(), asked.who.into());
    let tenant = asked.tenant.map(|tenant| {
        let tenant: String = form_urlencoded::byte_serialize(tenant.as_bytes()).collect();
        format!("?tenant={tenant}")
    });
    let path = format!("/api/v1/leave{}", tenant.unwrap_or_default());
    let told = post(settings, &asked.answer, &path, body).await?;
    show(&asked.answer, &told, &people::leave(&told));
    Ok(())
}

/// Has something done to an app and shows how it is then.
async fn tell(
    settings: &Settings,
    answer: &Told,
    path: &str,
    body: Map<String, Value>,
) -> Result<(), Failure> {
    let told = post(settings, answer, path, body).await?;
    show(answer, &told, &app(&told));
    Ok(())
}

async fn post(
    settings: &Settings,
    answer: &Told,
    path: &str,
    body: Map<String, Value>,
) -> Result<Map<String, Value>, Failure> {
    Client::new(settings, &answer.admin)?.post_json(path, &Value::Object(body)).await
}

pub(crate) async fn get(
    settings: &Settings,
    answer: &Told,
    path: &str,
    parameters: &[(&str, String)],
) -> Result<Map<String, Value>, Failure> {
    Client::new(settings, &answer.admin)?.get(path, parameters).await
}

/// The path of an app; what cannot stand in a path is escaped.
pub(crate) fn path(app: &str, more: &str) -> String {
    let app: String = form_urlencoded::byte_serialize(app.as_bytes()).collect();
    format!("/api/v1/apps/{app}{more}")
}

fn by(said: &By) -> Map<String, Value> {
    let body = json!({"by": said.by, "why": said.why});
    body.as_object().cloned().unwrap_or_default()
}

/// As JSON, or as text for people.
pub(crate) fn show(answer: &Told, told: &Map<String, Value>, text: &str) {
    if answer.json {
        print(&Value::Object(told.clone()).to_string());
    } else {
        print(text);
    }
}

/// A text as it is, everything else as JSON; nothing for nothing.
pub(crate) fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

fn items<'a>(told: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Value> {
    told.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// Rows under their heads, each column as wide as it must be.
pub(crate) fn table(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let all: Vec<Vec<String>> =
        std::iter::once(heads.iter().map(|head| head.to_uppercase()).collect()).chain(rows).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        cells.join("  ").trim_end().to_string()
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// In a word, what an app does at the moment.
fn state(app: &Value) -> String {
    let tripped: Vec<&str> = app
        .get("tripped")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    if app.get("paused").is_some_and(|paused| !paused.is_null()) {
        "paused".to_string()
    } else if !tripped.is_empty() {
        format!("stopped: {}", tripped.join(", "))
    } else if app.get("rollout").and_then(|rollout| rollout.get("stopped")).is_some_and(Value::is_object) {
        "stopped: rollout".to_string()
    } else if let Some(why) = app.get("waitingFor").and_then(Value::as_str) {
        format!("waits: {why}")
    } else {
        "works".to_string()
    }
}

fn list(told: &Map<String, Value>) -> String {
    let row = |app: &Value| {
        let mut row: Vec<String> =
            ["name", "tenant", "linked", "due", "held"].iter().map(|name| cell(app.get(*name))).collect();
        row.push(state(app));
        row
    };
    table(&["app", "tenant", "linked", "due", "held", "state"], items(told, "apps").map(row).collect())
}

fn app(told: &Map<String, Value>) -> String {
    let say = |name: &str| cell(told.get(name));
    let mut lines = vec![
        format!("{} of tenant {}, at {}", say("name"), say("tenant"), say("url")),
        format!("{} linked, {} due, {} held; {}", say("linked"), say("due"), say("held"), {
            state(&Value::Object(told.clone()))
        }),
        format!("done up to sequence {}, configuration {}", say("watermark"), say("configurationHash")),
    ];
    if let Some(filling) = told.get("filling").filter(|filling| !filling.is_null()) {
        let say = |name: &str| cell(filling.get(name));
        lines.push(format!(
            "{} of {} planned since {}, until {}",
            say("done"),
            say("of"),
            say("since"),
            say("until")
        ));
    }
    if let Some(last) = told.get("reconciliation").and_then(reconcile::last) {
        lines.push(reconcile::summary(last));
    }
    lines.extend(told.get("rollout").map(rollout));
    if let Some(paused) = told.get("paused").filter(|paused| !paused.is_null()) {
        lines.push(format!("paused {}", said(paused)));
    }
    for (operation, tripped) in told.get("tripped").and_then(Value::as_object).into_iter().flatten() {
        lines.push(stopped(operation, tripped));
    }
    for (operation, released) in told.get("released").and_then(Value::as_object).into_iter().flatten() {
        let count = cell(released.get("allowance"));
        lines.push(format!("{operation}: {count} released {}", said(released)));
    }
    lines.join("\n")
}

/// How far a changed configuration is carried out.
fn rollout(told: &Value) -> String {
    let say = |name: &str| cell(told.get(name));
    let number = |name: &str| told.get(name).and_then(Value::as_u64).unwrap_or_default();
    let (stage, of, done) = (number("stage"), number("of"), number("done"));
    let stages = told.get("stages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let count = usize::try_from(stage).ok().and_then(|stage| stages.get(stage.checked_sub(1)?));
    let mut text = format!(
        "configuration {} is rolled out since {}: stage {stage} of {}, {} of {of} resources; {done} done, {} wait",
        say("configurationHash"),
        say("beganAt"),
        stages.len(),
        cell(count.and_then(|stage| stage.get("count"))),
        of.saturating_sub(done),
    );
    if let Some(stopped) = told.get("stopped").filter(|stopped| !stopped.is_null()) {
        let say = |name: &str| cell(stopped.get(name));
        text.push_str(&format!(
            "\n  stopped since {}: {} ({}); release it, or change the configuration again",
            say("at"),
            say("why"),
            say("id")
        ));
    } else if !say("settledAt").is_empty() {
        text.push_str(&format!("\n  this stage is done since {}, the next one waits", say("settledAt")));
    }
    if let Some(released) = told.get("released").filter(|released| !released.is_null()) {
        text.push_str(&format!("\n  let go on {}", said(released)));
    }
    text
}

/// What a guard rail holds, and how to go on.
fn stopped(operation: &str, tripped: &Value) -> String {
    let say = |name: &str| cell(tripped.get(name));
    let limit = tripped.get("limit");
    let part = |name: &str| limit.and_then(|limit| limit.get(name)).filter(|value| !value.is_null());
    let allowed = match (part("more_than"), part("percent")) {
        (Some(count), Some(percent)) => format!("{count} and {percent} %"),
        (Some(count), None) => count.to_string(),
        (None, Some(percent)) => format!("{percent} %"),
        (None, None) => "nothing".to_string(),
    };
    let foreseen = tripped.get("foreseen") == Some(&Value::Bool(true));
    let what = if foreseen { "the configuration would make" } else { "there were" };
    let mut text = format!(
        "{operation}: stopped since {}, {} wait; {what} {} of {} accounts, allowed are {allowed}",
        say("at"),
        say("waiting"),
        say("counted"),
        say("of"),
    );
    let listed = |name: &str| {
        let values = tripped.get(name).and_then(Value::as_array).into_iter().flatten();
        values.map(|value| cell(Some(value))).collect::<Vec<_>>().join(", ")
    };
    for (name, word) in [("authors", "caused by"), ("examples", "for example")] {
        if !listed(name).is_empty() {
            text.push_str(&format!("\n  {word} {}", listed(name)));
        }
    }
    text
}

fn said(said: &Value) -> String {
    let why = cell(said.get("why"));
    let why = if why.is_empty() { why } else { format!(": {why}") };
    format!("by {} at {}{why}", cell(said.get("by")), cell(said.get("at")))
}

fn held(told: &Map<String, Value>) -> String {
    let row = |item: &Value| {
        ["since", "resourceType", "id", "display", "operation", "reason"]
            .iter()
            .map(|name| cell(item.get(*name)))
            .collect()
    };
    let rows: Vec<Vec<String>> = items(told, "items").map(row).collect();
    let shown = rows.len();
    let mut text = table(&["since", "type", "id", "display", "operation", "reason"], rows);
    let total = told.get("total").and_then(Value::as_u64).unwrap_or_default();
    text.push_str(&format!("\n{shown} of {total} held"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn apps_are_a_table() {
        let told = json!({"apps": [
            {"name": "wiki", "tenant": "corp", "linked": 99, "due": 0, "held": 1, "paused": null, "tripped": {}},
            {"name": "chat", "tenant": "corp", "linked": 9, "due": 40, "held": 0, "tripped": {"delete": {}}},
        ]});
        let text = list(&object(told));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "APP   TENANT  LINKED  DUE  HELD  STATE");
        assert_eq!(lines[1], "wiki  corp    99      0    1     works");
        assert_eq!(lines[2], "chat  corp    9       40   0     stopped: delete");
    }

    #[test]
    fn an_app_says_what_is_stopped_and_by_whom() {
        let told = json!({
            "name": "wiki", "tenant": "corp", "url": "https://wiki.test/", "linked": 80, "due": 40, "held": 0,
            "watermark": 7, "configurationHash": "abc", "waitingFor": null,
            "paused": {"by": "ann", "at": "T", "why": "lunch"},
            "tripped": {"delete": {"at": "T", "counted": 21, "of": 99, "limit": {"more_than": null, "percent": 20},
                "waiting": 40, "examples": ["1", "2"], "authors": ["hr/k1"], "foreseen": false}},
            "released": {"create": {"by": "bob", "at": "T", "why": "", "allowance": 3}},
        });
        let text = app(&object(told));
        for part in [
            "80 linked, 40 due, 0 held; paused",
            "paused by ann at T: lunch",
            "delete: stopped since T, 40 wait; there were 21 of 99 accounts, allowed are 20 %",
            "caused by hr/k1",
            "for example 1, 2",
            "create: 3 released by bob at T",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn an_app_says_how_far_a_configuration_is_rolled_out() {
        let mut told = json!({
            "name": "wiki", "tenant": "corp",
            "rollout": {"configurationHash": "abc", "beganAt": "B", "stage": 2, "of": 300, "done": 7,
                "stages": [{"count": 1, "upTo": "0"}, {"count": 10, "upTo": "1"}, {"count": 300, "upTo": "f"}],
                "settledAt": null, "stopped": {"at": "T", "why": "400 (title)", "id": "01"},
                "released": {"by": "ann", "at": "R", "why": "known"}},
        });
        let text = app(&object(told.clone()));
        for part in [
            "stopped: rollout",
            "configuration abc is rolled out since B: stage 2 of 3, 10 of 300 resources; 7 done, 293 wait",
            "stopped since T: 400 (title) (01); release it, or change the configuration again",
            "let go on by ann at R: known",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        told["rollout"]["stopped"] = Value::Null;
        told["rollout"]["settledAt"] = "S".into();
        let text = app(&object(told));
        assert!(text.contains("this stage is done since S") && !text.contains("stopped"), "{text}");
    }

    #[test]
    fn names_are_escaped_in_paths() {
        assert_eq!(path("a/b", "/held"), "/api/v1/apps/a%2Fb/held");
    }
}
