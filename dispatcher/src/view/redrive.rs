//! Trying again what is held, and letting one person pass everything that is stopped.

use std::time::Duration;

use eventlog::{Append, Guard, clock};
use proto::provisioning::{self, Event, Kind};
use proto::{ResourceId, Tenant, subject};
use serde_json::json;
use tokio::time::Instant;

use super::{Unanswered, View};
use crate::config::AppConfig;
use crate::link::Held;
use crate::valve::{self, Record, Refusal, Said, Valve};

/// How long writing may take.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Ids that are written down with one command.
const IDS_TOLD: usize = 100;

/// What is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Everything that is held.
    All,
    /// These.
    Ids(Vec<ResourceId>),
    /// Those whose reason has these words.
    Reason(String),
}

impl Which {
    fn is_meant(&self, id: ResourceId, held: &Held) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => ids.contains(&id),
            Self::Reason(words) => held.reason.to_lowercase().contains(&words.to_lowercase()),
        }
    }
}

impl View {
    /// Lets what is held be planned afresh, as everything is now, and tried again. Says whose.
    pub async fn redrive(
        &self,
        name: &str,
        which: &Which,
        said: &Said,
    ) -> Result<Vec<ResourceId>, Unanswered> {
        let config = self.config(name)?;
        if said.by.is_empty() {
            return Err(Refusal::Unnamed.into());
        }
        self.caught_up().await?;
        let held = self.shared.links.held_items(name).into_iter();
        let meant: Vec<ResourceId> =
            held.filter(|(id, held)| which.is_meant(*id, held)).map(|(id, _)| id).collect();
        if meant.is_empty() {
            return Err(Refusal::NotHeld.into());
        }
        let ids: Vec<String> = meant.iter().take(IDS_TOLD).map(ToString::to_string).collect();
        self.record(name, config, "redrive", said, json!({"count": meant.len(), "ids": ids})).await?;
        let mut redriven = Vec::new();
        for id in meant {
            if self.let_go(name, config, id, said).await? {
                redriven.push(id);
            }
        }
        tracing::info!(app = name, by = said.by, count = redriven.len(), "held resources are tried again");
        Ok(redriven)
    }

    /// Writes down that one is tried again; what was done about it meanwhile is as good.
    async fn let_go(
        &self,
        name: &str,
        config: &AppConfig,
        id: ResourceId,
        said: &Said,
    ) -> Result<bool, Unanswered> {
        let Some(resource_type) = self.type_at(name, config, id).await? else { return Ok(false) };
        let link = self.shared.links.get(name, id);
        if link.held.is_none() {
            return Ok(false);
        }
        match self.want_now(name, config, &resource_type, (id, link.last), said).await {
            Ok(_) => Ok(true),
            Err(eventlog::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes down that somebody wants it to be planned afresh, before all others, if nothing was written about it since
    /// this sequence.
    pub(super) async fn want_now(
        &self,
        name: &str,
        config: &AppConfig,
        resource_type: &str,
        (id, last): (ResourceId, u64),
        said: &Said,
    ) -> Result<u64, eventlog::Error> {
        let event = Event {
            id: clock::new_event_id(),
            tenant: config.tenant.clone(),
            app: name.to_string(),
            resource_type: resource_type.to_string(),
            resource_id: id,
            txn: clock::new_uuid().to_string(),
            occurred_at: clock::now(),
            key_ref: None,
            caused_by: self.shared.projection.applied(),
            configuration_hash: config.hash(),
            why: said.why.clone(),
            kind: Kind::Released { actor: said.by.clone() },
        };
        let append = Append {
            subject: subject::provisioning(&config.tenant, name, resource_type, id),
            guard: Guard::Last(last),
            id: event.id,
            payload: provisioning::encode(&event, None),
            headers: eventlog::Headers::default(),
        };
        self.shared.broker.provisioning.append(append, Instant::now() + WRITE_TIMEOUT).await
    }

    /// The type under which something was written about a resource.
    async fn type_at(
        &self,
        name: &str,
        config: &AppConfig,
        id: ResourceId,
    ) -> Result<Option<String>, Unanswered> {
        for kind in self.shared.registry.resource_types() {
            let subject = subject::provisioning(&config.tenant, name, &kind.name, id);
            if self.shared.broker.provisioning.last_on(&subject).await?.is_some() {
                return Ok(Some(kind.name.clone()));
            }
        }
        Ok(None)
    }

    /// Lets one person's work pass pauses and guard rails at every app that has an account of that person, but for the pause
    /// of an app at another address. Says at which, and where the directory still wants the account.
    pub async fn leave(
        &self,
        tenant: &Tenant,
        id: ResourceId,
        said: &Said,
    ) -> Result<Vec<(String, bool)>, Unanswered> {
        if said.by.is_empty() {
            return Err(Refusal::Unnamed.into());
        }
        self.caught_up().await?;
        let mut passed = Vec::new();
        for (name, config) in self.apps.iter().filter(|(_, config)| config.tenant == *tenant) {
            if self.shared.links.remote_id(name, id).is_none() {
                continue;
            }
            let is_wished = self.is_wished(name, config, id).await?;
            self.record(name, config, "leave", said, json!({"id": id.to_string()})).await?;
            let pass = |valve: &mut Valve| valve.pass(id, said.clone());
            valve::change(&*self.shared.broker.leases, name, pass).await??;
            passed.push((name.clone(), is_wished));
        }
        Ok(passed)
    }

    pub(super) async fn record(
        &self,
        name: &str,
        config: &AppConfig,
        operation: &str,
        said: &Said,
        detail: serde_json::Value,
    ) -> Result<(), Unanswered> {
        let (tenant, actor, why) = (&config.tenant, said.by.as_str(), said.why.as_str());
        let record = Record { tenant, app: name, actor, why, operation, detail };
        Ok(valve::record(&self.shared.broker, record).await?)
    }
}
