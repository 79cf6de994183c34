//! Another configuration of apps and feeds for a process that runs: read and checked as a whole, shown, written down,
//! applied. What cannot be changed in a running process is named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use dispatcher::{AppConfig, Became, Change, Steward};
use eventlog::{Append, Broker, Guard, Log, clock};
use proto::control::{self, Kind};
use proto::subject;
use scim::Registry;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use toml::Table;

use crate::Failure;
use crate::args::{Cli, ConfigReload};
use crate::audit::Client;
use crate::failure::causes;
use crate::output::print;
use crate::settings::Settings;

/// How long writing down what is applied may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Has the apps and feeds of this process changed.
pub(crate) struct Reload {
    steward: Steward,
    broker: Broker,
    /// What filters are read with; it cannot change while the process runs.
    registry: Arc<Registry>,
    /// What else the file said when the process started.
    sections: Table,
    /// Apps that no file names.
    fixed: BTreeMap<String, AppConfig>,
    /// One at a time.
    turn: Mutex<()>,
}

/// What a reload did, or would do.
pub(crate) struct Outcome {
    pub(crate) applied: bool,
    pub(crate) changes: Vec<Change>,
    /// Sections that say something else than at the start, and count only after the next one.
    pub(crate) restart: Vec<String>,
}

impl Reload {
    pub(crate) fn new(
        steward: Steward,
        broker: Broker,
        registry: Arc<Registry>,
        sections: Table,
        fixed: BTreeMap<String, AppConfig>,
    ) -> Self {
        Self { steward, broker, registry, sections, fixed, turn: Mutex::new(()) }
    }

    /// Reads the configuration again. A wrong one is refused as a whole, and the old one goes on.
    pub(crate) async fn reload(&self, by: &str, is_dry_run: bool) -> Result<Outcome, Failure> {
        let _turn = self.turn.lock().await;
        // The command line and the environment of a process never change.
        let cli = Cli::try_parse().map_err(|error| Failure::of("reading the command line again", &error))?;
        let settings = Settings::read(&cli)?;
        if !same(&settings.registry, &self.registry) {
            return Err(Failure::new(
                "scim: schemas or resource types are others than when this process started, and apps and feeds are read with \
                 them; start it again",
            ));
        }
        let mut config = settings.dispatcher;
        for (name, app) in &self.fixed {
            config.apps.entry(name.clone()).or_insert_with(|| app.clone());
        }
        let changes = self.steward.changes(&config);
        self.steward.check(&config).map_err(|error| Failure::of("checking the configuration", &error))?;
        let restart = differing(&self.sections, &settings.sections);
        if is_dry_run || changes.is_empty() {
            return Ok(Outcome { applied: false, changes, restart });
        }
        // Written first: nothing is ever in force that is not written down.
        let written = write_down(&*self.broker.control, &changes, by, Instant::now() + WRITE_TIMEOUT).await;
        written.map_err(|error| {
            Failure::new(format!(
                "what is to be applied cannot be written down ({}), so nothing is applied; try again",
                causes(&error)
            ))
        })?;
        let applied = self.steward.apply(config).await;
        let applied = applied.map_err(|error| Failure::of("applying the configuration", &error))?;
        if applied.is_none() {
            return Err(Failure::new("the dispatcher of this process has ended"));
        }
        for change in &changes {
            tracing::info!(
                subject = change.subject,
                became = became(change.became),
                by,
                "the configuration is applied"
            );
        }
        Ok(Outcome { applied: true, changes, restart })
    }

    /// The same because of a signal, told in the log alone.
    pub(crate) async fn hang_up(&self) {
        match self.reload("SIGHUP", false).await {
            Ok(outcome) => {
                if outcome.changes.is_empty() {
                    tracing::info!("the configuration is as it was");
                }
                if !outcome.restart.is_empty() {
                    tracing::warn!(
                        sections = outcome.restart.join(", "),
                        "these sections have changed too; they count after the next start"
                    );
                }
            }
            Err(failure) => {
                tracing::error!(%failure, "the configuration is refused as a whole; the old one goes on");
            }
        }
    }
}

/// All of it or nothing: what is not in force shall not be said to be. Every change of a reload belongs to one request.
async fn write_down(
    control: &dyn Log,
    changes: &[Change],
    by: &str,
    deadline: Instant,
) -> Result<(), eventlog::Error> {
    let txn = clock::new_uuid().to_string();
    let event = |change: &Change| control::Event {
        id: clock::new_event_id(),
        tenant: change.tenant.clone(),
        actor: by.to_string(),
        txn: txn.clone(),
        occurred_at: clock::now(),
        reason: became(change.became).to_string(),
        ticket: String::new(),
        kind: Kind::ConfigurationApplied {
            subject: change.subject.clone(),
            hash: change.after.clone().unwrap_or_default(),
        },
    };
    let append = |event: control::Event| Append {
        subject: subject::control(&event.tenant, event.kind.name()),
        guard: Guard::None,
        id: event.id,
        payload: control::encode(&event),
        headers: eventlog::Headers::default(),
    };
    let mut appends: Vec<Append> = changes.iter().map(event).map(append).collect();
    loop {
        let Some(first) = appends.first_mut() else { return Ok(()) };
        let last = control.last_on(&first.subject).await?;
        first.guard = Guard::Last(last.map_or(0, |message| message.sequence));
        match control.append_atomic(appends.clone(), deadline).await {
            // Another process has written down its own.
            Err(eventlog::Error::Conflict { .. }) if Instant::now() < deadline => {}
            written => return written.map(|_| ()),
        }
    }
}

impl Outcome {
    /// As the admin API shows it.
    pub(crate) fn shown(&self) -> Value {
        json!({"applied": self.applied, "changes": self.changes, "needRestart": self.restart})
    }
}

fn became(became: Became) -> &'static str {
    match became {
        Became::Added => "added",
        Became::Removed => "removed",
        Became::Changed => "changed",
        Became::Adjusted => "adjusted",
    }
}

fn same(left: &Registry, right: &Registry) -> bool {
    let text = |registry: &Registry| {
        json!({"schemas": registry.schemas(), "types": registry.resource_types()}).to_string()
    };
    text(left) == text(right)
}

/// Sections that say something else.
fn differing(old: &Table, new: &Table) -> Vec<String> {
    let mut names: Vec<&String> =
        old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).collect();
    names.sort();
    names.dedup();
    names.into_iter().cloned().collect()
}

/// `rollcall config reload`.
pub(crate) async fn run(settings: &Settings, asked: ConfigReload) -> Result<(), Failure> {
    let parameters = [("by", asked.by), ("dryRun", asked.dry_run.to_string())];
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let body = Client::new(settings, &asked.admin)?.post(&format!("/api/v1/config/reload?{query}")).await?;
    if asked.json {
        print(&Value::Object(body).to_string());
    } else {
        print(&told(&body, asked.dry_run));
    }
    Ok(())
}

/// The answer for a person.
fn told(body: &Map<String, Value>, is_dry_run: bool) -> String {
    let list = |name: &str| body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or("-").to_string();
    let mut lines: Vec<String> = list("changes")
        .iter()
        .map(|change| {
            format!(
                "{:<24} {:<9} {:<16} -> {}",
                text(change, "subject"),
                text(change, "became"),
                text(change, "before"),
                text(change, "after")
            )
        })
        .collect();
    let restart: Vec<&str> = list("needRestart").iter().filter_map(Value::as_str).collect();
    if !restart.is_empty() {
        lines.push(format!("These sections count after the next start: {}", restart.join(", ")));
    }
    lines.push(
        match (list("changes").is_empty(), is_dry_run) {
            (true, _) => "No app and no feed changes.",
            (false, true) => "Nothing was done yet.",
            (false, false) => "Applied.",
        }
        .to_string(),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventlog::memory::{Cluster, Line, Weather};

    #[tokio::test]
    async fn what_is_applied_is_written_down_as_a_whole_or_not_at_all() {
        let change = |name: &str| Change {
            subject: format!("app/{name}"),
            tenant: name.parse().unwrap(),
            became: Became::Added,
            before: None,
            after: Some("hash".to_string()),
        };
        let changes = ["corp", "other", "third"].map(change);
        let mut ends = [0; 4];
        for seed in 1..100 {
            let attempt_timeout = Duration::from_millis(1);
            let weather =
                Weather { lost_requests: 500, lost_answers: 200, attempt_timeout, ..Weather::default() };
            let line = Arc::new(Line::new(seed, weather));
            let control = Cluster::default().connect(&line).control;
            let deadline = Instant::now() + attempt_timeout;
            let written = write_down(&*control, &changes, "ann", deadline).await;
            line.calm();
            let count = usize::try_from(control.last_sequence().await.unwrap()).unwrap();
            assert!(matches!((&written, count), (Ok(()), 3) | (Err(_), 0 | 3)), "seed {seed}: {count}");
            ends[count] += 1;
        }
        assert!(ends[0] > 0 && ends[3] > 0, "{ends:?}");
    }

    #[test]
    fn sections_that_need_a_start_are_named() {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let old = table("data_dir = \"var\"\n[gateway]\nlisten = \"a\"\n[nats]\nport = 1");
        let new = table("[gateway]\nlisten = \"b\"\n[nats]\nport = 1\n[tenant.corp]\n");
        assert_eq!(differing(&old, &new), ["data_dir", "gateway", "tenant"]);
        assert_eq!(differing(&old, &old), Vec::<String>::new());
    }

    #[test]
    fn a_person_reads_what_changes() {
        let change = json!({"subject": "feed/audit", "became": "changed", "before": "aa", "after": "bb"});
        let body = json!({"changes": [change], "needRestart": ["gateway"], "applied": false});
        let told = told(body.as_object().unwrap(), true);
        assert!(told.contains("feed/audit") && told.contains("-> bb"), "{told}");
        assert!(told.contains("next start: gateway\nNothing was done yet."), "{told}");
    }
}
