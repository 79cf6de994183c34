//! What can be asked of a running dispatcher, and said to it: how every app is, what waits for a person, and to stop and
//! go on. Every dispatcher can answer, whoever works for the app.

mod apply;
mod belonging;
mod import;
mod past;
mod plan;
mod provision;
mod redrive;
mod test;

pub use apply::{Apply, IMPORT_MOST, IMPORT_MOST_MAX, Maker, Making, NotMade, Part};
pub use import::Import;
pub use provision::{PROVISION_SECONDS, PROVISION_SECONDS_MAX};
pub use redrive::Which;
pub use test::{Check, Verdict};

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use proto::{ResourceId, Tenant};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::filling::Filling;
use crate::app::reconciled::Reconciliation;
use crate::config::AppConfig;
use crate::valve::{self, Record, Refusal, Said, Valve};
use crate::{Error, Shared, Status};

/// How long to wait for the links to show what stands in PROVISIONING.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// There is no such app.
    #[error("there is no app {name:?}; there are {known}")]
    NoApp {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// It cannot be, as things are.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// PROVISIONING is not read to its end yet.
    #[error("what was done at the apps is still being read; ask again")]
    Lagging,
    /// The log or the directory.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<eventlog::Error> for Unanswered {
    fn from(error: eventlog::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<projector::Error> for Unanswered {
    fn from(error: projector::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// How an app is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppView {
    /// Its name.
    pub name: String,
    /// Whose people.
    pub tenant: Tenant,
    /// Where it is.
    pub url: String,
    /// Of what is planned with.
    pub configuration_hash: String,
    /// Resources that have an account there.
    pub linked: usize,
    /// Resources that wait for a person, each because of what the app did.
    pub held: usize,
    /// As far as this process works for it.
    #[serde(flatten)]
    pub status: WorkView,
    /// When it was held against what it should hold, and what came of it.
    pub reconciliation: Reconciliation,
    /// What is stopped.
    #[serde(flatten)]
    pub valve: Valve,
}

/// How the work for an app is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkView {
    /// Up to where everything is done or held.
    pub watermark: u64,
    /// Resources that wait for their turn.
    pub due: usize,
    /// Why nothing goes on at the moment.
    pub waiting_for: Option<String>,
    /// How far everything is planned, while it is.
    pub filling: Option<Filling>,
}

/// A resource that waits for a person.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldView {
    /// Our id.
    pub id: ResourceId,
    /// Its type, as far as the directory knows it.
    pub resource_type: Option<String>,
    /// What it is called, or was.
    pub display: Option<String>,
    /// The call that failed.
    pub operation: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Asks and tells a dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct View {
    pub(crate) shared: Shared,
    pub(crate) apps: Arc<BTreeMap<String, AppConfig>>,
}

impl View {
    /// The configuration of an app.
    pub(crate) fn config(&self, name: &str) -> Result<&AppConfig, Unanswered> {
        self.apps.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.apps.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
            Unanswered::NoApp { name: name.to_string(), known }
        })
    }

    /// Whose people an app holds.
    pub fn tenant(&self, name: &str) -> Result<&Tenant, Unanswered> {
        Ok(&self.config(name)?.tenant)
    }

    pub(crate) async fn caught_up(&self) -> Result<(), Unanswered> {
        if self.shared.links.catch_up(CATCH_UP_TIMEOUT).await? { Ok(()) } else { Err(Unanswered::Lagging) }
    }

    /// How every app is.
    pub async fn apps(&self) -> Result<Vec<AppView>, Unanswered> {
        let mut views = Vec::new();
        for name in self.apps.keys() {
            views.push(self.app(name).await?);
        }
        Ok(views)
    }

    /// How one app is.
    pub async fn app(&self, name: &str) -> Result<AppView, Unanswered> {
        let config = self.config(name)?;
        let shared = &self.shared;
        let valve = valve::load(&*shared.broker.leases, name).await?;
        let status = shared.status.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let Status { watermark, due, waiting_for, filling, .. } = status.unwrap_or_default();
        Ok(AppView {
            name: name.to_string(),
            tenant: config.tenant.clone(),
            url: config.url.to_string(),
            configuration_hash: config.hash(),
            linked: shared.links.linked(name),
            held: shared.links.held(name),
            status: WorkView { watermark, due, waiting_for, filling },
            reconciliation: self.reconciliation(name).await?,
            valve,
        })
    }

    /// What an app's resources wait for, in the order of their ids; those whose reason has these words.
    pub async fn held(&self, name: &str, reason: Option<&str>) -> Result<Vec<HeldView>, Unanswered> {
        let config = self.config(name)?;
        self.caught_up().await?;
        let words = reason.map(str::to_lowercase);
        let wanted = |reason: &str| words.as_ref().is_none_or(|words| reason.to_lowercase().contains(words));
        let held = self.shared.links.held_items(name).into_iter().filter(|(_, held)| wanted(&held.reason));
        let view = |(id, held): (ResourceId, crate::link::Held)| {
            let known = self.shared.projection.known_at(&config.tenant, id, projector::Moment::NOW);
            let (resource_type, display) =
                known.map_or((None, None), |known| (Some(known.resource_type), known.display));
            HeldView {
                id,
                resource_type,
                display,
                operation: held.operation,
                reason: held.reason,
                since: held.since,
            }
        };
        Ok(held.map(view).collect())
    }

    /// Stops every call to an app.
    pub async fn pause(&self, name: &str, said: Said) -> Result<AppView, Unanswered> {
        let pause = |valve: &mut Valve| valve.pause(said.clone());
        self.operate(name, &said, "pause", pause, |()| Value::Null).await
    }

    /// Calls are made again.
    pub async fn resume(&self, name: &str, said: Said) -> Result<AppView, Unanswered> {
        let resume = |valve: &mut Valve| valve.resume(&said);
        let detail = |paused: &Said| json!({"pausedBy": paused.by, "pausedAt": paused.at.to_string()});
        self.operate(name, &said, "resume", resume, |paused| detail(&paused)).await
    }

    /// Lets go on what guard rails hold, of one operation or all.
    pub async fn release(
        &self,
        name: &str,
        operation: Option<crate::Operation>,
        said: Said,
    ) -> Result<AppView, Unanswered> {
        let release = |valve: &mut Valve| {
            let rolls_on = operation.is_none() && valve.roll_on(&said)?;
            match valve.release(operation, &said) {
                Err(Refusal::NotTripped) if rolls_on => Ok((BTreeMap::new(), true)),
                released => released.map(|released| (released, rolls_on)),
            }
        };
        let detail = |(released, rolls_on): (BTreeMap<crate::Operation, valve::Released>, bool)| {
            let counts =
                released.into_iter().map(|(operation, one)| (operation.to_string(), one.allowance.into()));
            let rollout = rolls_on.then(|| ("rollout".to_string(), true.into()));
            Value::Object(counts.chain(rollout).collect())
        };
        self.operate(name, &said, "release", release, detail).await
    }

    /// Writes down a change, and makes it. Nobody can change anything that is not written down; what is written down and
    /// then not made, because the process ended between the two, can be asked for again.
    pub(crate) async fn operate<T>(
        &self,
        name: &str,
        said: &Said,
        operation: &str,
        change: impl Fn(&mut Valve) -> Result<T, Refusal>,
        detail: impl FnOnce(T) -> Value,
    ) -> Result<AppView, Unanswered> {
        let config = self.config(name)?;
        let broker = &self.shared.broker;
        let mut valve = valve::load(&*broker.leases, name).await?;
        let told = detail(change(&mut valve)?);
        let record = Record {
            tenant: &config.tenant,
            app: name,
            actor: &said.by,
            why: &said.why,
            operation,
            detail: told,
        };
        valve::record(broker, record).await?;
        valve::change(&*broker.leases, name, change).await??;
        tracing::info!(app = name, by = said.by, operation, "an operator changed what is stopped");
        self.app(name).await
    }
}
