//! `rollcall feed …`: feeds as a running process tells of them, and what operators have done to them.

use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::args::{Ask, Feed};
use crate::audit::Client;
use crate::output::print;
use crate::settings::Settings;
use crate::{Failure, at};

pub(crate) async fn run(settings: &Settings, command: Feed) -> Result<(), Failure> {
    match command {
        Feed::List(ask) => {
            let body = get(settings, &ask, "").await?;
            show_all(&ask, &body, "feeds", HEAD, line);
        }
        Feed::Show(named) => {
            let body = get(settings, &named.ask, &format!("/{}", in_path(&named.name))).await?;
            if named.ask.json {
                print(&Value::Object(body).to_string());
            } else {
                print(HEAD);
                print(&line(&Value::Object(body)));
            }
        }
        Feed::Held(named) => {
            let body = get(settings, &named.ask, &format!("/{}/held", in_path(&named.name))).await?;
            show_all(&named.ask, &body, "held", HELD_HEAD, held_line);
        }
        Feed::Redrive(asked) => {
            let ids = asked.ids.join(",");
            let all = asked.all.to_string();
            order(
                settings,
                &asked.ask,
                &asked.name,
                "redrive",
                &[("id", &ids), ("all", &all), ("by", &asked.by)],
            )
            .await?;
        }
        Feed::Skip(asked) => {
            order(settings, &asked.ask, &asked.name, "skip", &[("id", &asked.id), ("by", &asked.by)]).await?;
        }
        Feed::Replay(asked) => {
            let to = asked.to.unwrap_or_default();
            for (name, text) in
                [("from", &asked.from), ("to", &to)].iter().filter(|(_, text)| !text.is_empty())
            {
                at::parse(text).map_err(|reason| Failure::new(format!("--{name}: {reason}")))?;
            }
            let parameters = [("from", asked.from.as_str()), ("to", &to), ("by", &asked.by)];
            order(settings, &asked.ask, &asked.name, "replay", &parameters).await?;
        }
        Feed::Snapshot(asked) => {
            order(settings, &asked.ask, &asked.name, "snapshot", &[("by", &asked.by)]).await?;
        }
        Feed::Resume(asked) => {
            order(settings, &asked.ask, &asked.name, "resume", &[("by", &asked.by)]).await?;
        }
    }
    Ok(())
}

async fn get(settings: &Settings, ask: &Ask, path: &str) -> Result<Map<String, Value>, Failure> {
    Client::new(settings, &ask.admin)?.get(&format!("/api/v1/feeds{path}"), &[]).await
}

/// A name as a part of a path, whatever stands in it.
fn in_path(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

/// Has something done, and says what came of it.
async fn order(
    settings: &Settings,
    ask: &Ask,
    name: &str,
    what: &str,
    parameters: &[(&str, &str)],
) -> Result<(), Failure> {
    let given = parameters.iter().filter(|(_, value)| !value.is_empty());
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
    let path = format!("/api/v1/feeds/{}/{what}?{query}", in_path(name));
    let body = Client::new(settings, &ask.admin)?.post(&path).await?;
    if ask.json {
        print(&Value::Object(body).to_string());
    } else {
        print(body.get("outcome").and_then(Value::as_str).unwrap_or_default());
    }
    Ok(())
}

fn show_all(ask: &Ask, body: &Map<String, Value>, name: &str, head: &str, line: fn(&Value) -> String) {
    let items = body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !ask.json {
        print(head);
    }
    for item in items {
        if !print(&if ask.json { item.to_string() } else { line(item) }) {
            break;
        }
    }
}

const HEAD: &str = "NAME                 TENANT           SEQUENCE     BEHIND  HELD  STATE";

fn line(feed: &Value) -> String {
    let number = |name: &str| feed[name].as_u64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let state = match (&feed["stopped"], &feed["work"], &feed["resting"]) {
        (Value::Object(stopped), _, _) => {
            format!("stopped: {}", stopped.get("why").map(text).unwrap_or_default())
        }
        (_, Value::Object(work), resting) => {
            let of = |name: &str| work.get(name).map(Value::to_string).unwrap_or_default();
            let kind = work.get("kind").map(text).unwrap_or_default();
            let to = if work.contains_key("to") { format!(" of {}", of("to")) } else { String::new() };
            let rests = resting.as_str().map(|why| format!(", rests: {why}")).unwrap_or_default();
            format!("{kind}, at {}{to}{rests}", of("done"))
        }
        (_, _, Value::String(why)) => format!("rests: {why}"),
        (_, _, _) => "follows".to_string(),
    };
    format!(
        "{:<20} {:<16} {:<12} {:<7} {:<5} {state}",
        text(&feed["name"]),
        text(&feed["tenant"]),
        number("sequence"),
        number("behind"),
        number("held")
    )
}

const HELD_HEAD: &str = "RESOURCE                                     EVENT                                       TYPE                   WAITING SINCE                    WHY";

fn held_line(held: &Value) -> String {
    let text = |name: &str| held[name].as_str().unwrap_or_default().to_string();
    let waiting = held["waiting"].as_array().map_or(0, Vec::len);
    let again = if held["redriving"] == true { " (being tried again)" } else { "" };
    format!(
        "{:<44} {:<43} {:<22} {waiting:<7} {:<24} {}, {} times{again}",
        format!("{}/{}", text("resourceType"), text("resourceId")),
        text("event"),
        text("type"),
        text("since"),
        text("reason"),
        held["attempts"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_what_is_the_matter() {
        let mut feed = json!({"name": "audit", "tenant": "corp", "sequence": 7, "behind": 2, "held": 0,
            "work": null, "stopped": null, "resting": null});
        assert!(line(&feed).ends_with("follows"));
        feed["resting"] = "the subscriber answers 503".into();
        assert!(line(&feed).ends_with("rests: the subscriber answers 503"));
        feed["work"] = json!({"kind": "replay", "done": 4, "to": 9});
        assert!(line(&feed).ends_with("replay, at 4 of 9, rests: the subscriber answers 503"));
        feed["stopped"] = json!({"why": "it is gone"});
        assert!(line(&feed).ends_with("stopped: it is gone"));
    }
}
