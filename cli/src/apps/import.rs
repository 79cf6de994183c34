//! `rollcall app import`: what an app holds, and requests that make whoever is not in the directory; or both done.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{cell, path, table};
use crate::Failure;
use crate::args::Import;
use crate::audit::Client;
use crate::output::print;
use crate::progress::Progress;
use crate::settings::Settings;

/// Accounts that a person must look at and that are told to people; JSON tells all.
const TOLD_MAX: usize = 100;

/// Where requests go.
enum Requests {
    Printed,
    Written(PathBuf, BufWriter<File>),
}

pub(super) async fn run(settings: &Settings, asked: &Import) -> Result<(), Failure> {
    let mut requests = match &asked.out {
        None => Requests::Printed,
        Some(out) => {
            let file = File::create_new(out).map_err(|error| {
                Failure::of(
                    format_args!("writing {} (a file that exists is left alone)", out.display()),
                    &error,
                )
            })?;
            Requests::Written(out.clone(), BufWriter::new(file))
        }
    };
    let mut progress = Progress::start(asked.out.is_none() && std::io::stdout().is_terminal());
    let (mut listed, mut rows, mut counts) = (0_u64, Vec::new(), None);
    let mut body = json!({"keepIds": asked.keep_ids});
    if asked.apply {
        body = json!({
            "keepIds": asked.keep_ids, "apply": true, "only": asked.only, "most": asked.most, "yes": asked.yes,
            "by": asked.by, "why": asked.why,
        });
    }
    let client = Client::new(settings, &asked.answer.admin)?;
    client
        .post_lines(&path(&asked.app, "/import"), &body, |line| {
            if let Some(failed) = line.get("failed") {
                return Err(Failure::new(cell(Some(failed))));
            }
            if line.contains_key("counts") {
                counts = Some(line);
                return Ok(());
            }
            if let (Some(done), Some(of)) = (line.get("done"), line.get("of")) {
                progress.tell(|| format!("{done} of {of} done"));
            } else {
                listed += 1;
                progress.tell(|| format!("{listed} accounts"));
            }
            if asked.answer.json {
                print(&Value::Object(line.clone()).to_string());
            }
            if let Some(request) = line.get("request").filter(|_| !asked.apply) {
                requests.take(request, asked.answer.json)?;
            } else if rows.len() < TOLD_MAX {
                rows.extend(row(&line));
            }
            Ok(())
        })
        .await?;
    progress.end();
    requests.end()?;
    let Some(counts) = counts else {
        return Err(Failure::new("the answer broke off before its end: ask again"));
    };
    if asked.answer.json {
        print(&Value::Object(counts.clone()).to_string());
    }
    tell(&summary(&counts, rows));
    let broken = counts.get("broken").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if let Some(text) = counts.get("notApplied") {
        return Err(Failure::new(format!(
            "nothing was applied: {}; --most COUNT or --yes permits more, --only a part of it",
            cell(Some(text))
        )));
    }
    if let Some(applied) = counts.get("applied") {
        return came(applied);
    }
    match broken {
        [] => Ok(()),
        [first, ..] => Err(Failure::new(format!("not everything was listed: {}", cell(Some(first))))),
    }
}

impl Requests {
    /// A line for each, as an operation of a bulk request.
    fn take(&mut self, request: &Value, is_told: bool) -> Result<(), Failure> {
        match self {
            Self::Printed if is_told => {}
            Self::Printed => drop(print(&request.to_string())),
            Self::Written(path, file) => writeln!(file, "{request}")
                .map_err(|error| Failure::of(format_args!("writing {}", path.display()), &error))?,
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Printed => Ok(()),
            Self::Written(path, file) => {
                file.flush().map_err(|error| Failure::of(format_args!("writing {}", path.display()), &error))
            }
        }
    }
}

/// One that a person may want to look at.
fn row(line: &Map<String, Value>) -> Option<Vec<String>> {
    let say = |name: &str| cell(line.get(name));
    let proposal = say("proposal");
    // What was done is counted.
    if proposal == "linked"
        || matches!(line.get("outcome").and_then(Value::as_str), Some("linked" | "created"))
    {
        return None;
    }
    let ids = line.get("ids").and_then(Value::as_array).into_iter().flatten();
    let ids: Vec<String> = line.get("id").into_iter().chain(ids).map(|id| cell(Some(id))).collect();
    let found = if line.contains_key("why") { say("why") } else { say("by") };
    Some(vec![proposal, say("resourceType"), say("remoteId"), ids.join(", "), found])
}

/// What was found, for people; on the error output, because requests go to the other.
fn summary(counts: &Map<String, Value>, rows: Vec<Vec<String>>) -> String {
    let count = |name: &str| counts.get("counts").and_then(|counts| counts.get(name)?.as_u64()).unwrap_or(0);
    let mut text = String::new();
    if !rows.is_empty() {
        text = format!("{}\n", table(&["proposal", "type", "account", "ours", "by or why not"], rows));
    }
    text.push_str(&format!(
        "{} linked, {} would be linked, {} are nobody's (a request each), {} ambiguous, {} of somebody with another account, \
         {} of somebody out of scope",
        count("linked"),
        count("link"),
        count("create"),
        count("ambiguous"),
        count("other_account"),
        count("out_of_scope"),
    ));
    text
}

/// What was done, for people.
fn came(applied: &Value) -> Result<(), Failure> {
    let count = |name: &str| applied.get(name).and_then(Value::as_u64).unwrap_or(0);
    tell(&format!(
        "{} linked, {} of them made in the directory; the app's plan makes them equal",
        count("linked"),
        count("created")
    ));
    let undone = ["skipped", "refused", "left"].map(|name| (name, count(name)));
    if undone.iter().all(|(_, count)| *count == 0) {
        return Ok(());
    }
    let undone = undone.map(|(name, count)| format!("{count} {name}")).join(", ");
    Err(Failure::new(format!("not everything was applied: {undone}; import again, nothing is done twice")))
}

fn tell(text: &str) {
    // Whoever closed it does not want to know.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_must_be_looked_at_is_named() {
        let line = |value: Value| row(value.as_object().unwrap());
        assert_eq!(line(json!({"proposal": "linked", "remoteId": "r1", "id": "01"})), None);
        let rows = vec![
            line(
                json!({"proposal": "link", "resourceType": "User", "remoteId": "r1", "id": "01", "by": "userName"}),
            ),
            line(
                json!({"proposal": "ambiguous", "resourceType": "User", "remoteId": "r2", "ids": ["02", "03"], "by": "userName"}),
            ),
        ];
        let counts = json!({"counts": {"linked": 7, "link": 1, "ambiguous": 1, "create": 2}, "broken": []});
        let text = summary(counts.as_object().unwrap(), rows.into_iter().flatten().collect());
        for part in [
            "link       User  r1       01      userName",
            "ambiguous  User  r2       02, 03  userName",
            "7 linked, 1 would be linked, 2 are nobody's (a request each), 1 ambiguous, 0 of somebody with another",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
