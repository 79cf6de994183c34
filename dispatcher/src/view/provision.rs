//! Working on one resource at once: whoever works for the app is told so, and what comes of it is waited for.

use std::time::Duration;

use projector::Moment;
use proto::ResourceId;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::redrive::WRITE_TIMEOUT;
use super::{Unanswered, View};
use crate::app::Foreseen;
use crate::config::AppConfig;
use crate::link::Link;
use crate::plan::Plan;
use crate::valve::{Refusal, Said, Valve};

/// How long the outcome is waited for when it is not said.
pub const PROVISION_SECONDS: u64 = 60;
/// The longest wait.
pub const PROVISION_SECONDS_MAX: u64 = 600;
/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long whoever works for the app has to take notice before what is stopped is told.
const NOTICE: Duration = Duration::from_secs(3);
/// How often it is asked for again because something else was written about the resource meanwhile.
const ATTEMPTS_MAX: u32 = 8;
/// Calls that are told.
const EVENTS_TOLD: usize = 200;

/// How working on one resource ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Provisioned {
    /// The app holds what it should.
    Settled,
    /// A person must look at it, because of what the app did.
    Held {
        /// Why.
        why: String,
    },
    /// Something is stopped, or the app cannot be used.
    Waits {
        /// What.
        why: String,
    },
}

impl View {
    /// Has one resource worked on before all others, as if an event had asked for it, and waits for the outcome. Guard
    /// rails and pauses hold it as they hold everybody.
    pub async fn provision(
        &self,
        name: &str,
        id: ResourceId,
        said: &Said,
        wait: Duration,
    ) -> Result<Value, Unanswered> {
        let config = self.config(name)?;
        if said.by.is_empty() {
            return Err(Refusal::Unnamed.into());
        }
        self.caught_up().await?;
        let from = self.shared.broker.provisioning.last_sequence().await?;
        let Some(foreseen) = self.performer(name, config)?.foresee(id).await? else {
            return Err(Refusal::Unknown.into());
        };
        let resource_type = foreseen.now.kind.name.clone();
        let mut ended = settled(&foreseen);
        if ended.is_none() {
            self.record(name, config, "provision", said, json!({"id": id.to_string()})).await?;
            self.ask_for(name, config, &resource_type, id, said).await?;
            ended = Some(self.until_done(name, config, id, wait).await?);
        }
        let ended = ended.unwrap_or(Provisioned::Settled);
        let link = self.shared.links.get(name, id);
        let known = self.shared.projection.known_at(&config.tenant, id, Moment::NOW);
        let mut calls = self.done_about(&config.tenant, Some(name), id, EVENTS_TOLD).await?;
        calls.retain(|event| event.get("sequence").and_then(Value::as_u64).is_some_and(|at| at > from));
        let (outcome, why) = match ended {
            Provisioned::Settled => ("settled", None),
            Provisioned::Held { why } => ("held", Some(why)),
            Provisioned::Waits { why } => ("waits", Some(why)),
        };
        Ok(json!({
            "app": name, "id": id.to_string(), "resourceType": resource_type,
            "display": known.and_then(|known| known.display), "outcome": outcome, "why": why,
            "remoteId": link.remote_id, "isOff": link.is_off, "events": calls,
        }))
    }

    /// Writes down that it is wanted now: whoever works for the app plans it afresh, before all others.
    async fn ask_for(
        &self,
        name: &str,
        config: &AppConfig,
        resource_type: &str,
        id: ResourceId,
        said: &Said,
    ) -> Result<(), Unanswered> {
        for _ in 0..ATTEMPTS_MAX {
            let link = self.shared.links.get(name, id);
            match self.want_now(name, config, resource_type, (id, link.last), said).await {
                Ok(sequence) => {
                    self.shared.links.wait_until(sequence, Instant::now() + WRITE_TIMEOUT).await;
                    return Ok(());
                }
                // It is worked on at this moment.
                Err(eventlog::Error::Conflict { .. }) => self.caught_up().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(eventlog::Error::Conflict { at: None }.into())
    }

    async fn until_done(
        &self,
        name: &str,
        config: &AppConfig,
        id: ResourceId,
        wait: Duration,
    ) -> Result<Provisioned, Unanswered> {
        let begun = Instant::now();
        let performer = self.performer(name, config)?;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.caught_up().await?;
            let Some(foreseen) = performer.foresee(id).await? else { return Ok(Provisioned::Settled) };
            if let Some(ended) = settled(&foreseen) {
                return Ok(ended);
            }
            if let Some(why) = foreseen.link.held.as_ref().map(|held| held.reason.clone()) {
                return Ok(Provisioned::Held { why });
            }
            let app = self.app(name).await?;
            let elapsed = begun.elapsed();
            if elapsed >= NOTICE
                && let Some(why) = stopped(config, &app.valve, &foreseen, id)
            {
                return Ok(Provisioned::Waits { why });
            }
            if elapsed >= wait {
                let again =
                    foreseen.link.next_due_at.map(|at| format!("the app failed; it is tried again at {at}"));
                let waits = again.or(app.status.waiting_for);
                let why = waits
                    .unwrap_or_else(|| format!("it is not done after {} s, and goes on", wait.as_secs()));
                return Ok(Provisioned::Waits { why });
            }
        }
    }
}

/// Whether nothing is left to do and nothing is doubted.
fn settled(foreseen: &Foreseen) -> Option<Provisioned> {
    match &foreseen.plan {
        Plan::Settled { .. } => is_believed(&foreseen.link).then_some(Provisioned::Settled),
        Plan::ReadBack | Plan::Call { .. } | Plan::Later { .. } | Plan::Held | Plan::Hold { .. } => None,
    }
}

fn is_believed(link: &Link) -> bool {
    link.held.is_none() && (link.trust.unverified.is_none() || link.trust.unreadable)
}

/// What a person or a guard rail has stopped that this would need.
fn stopped(config: &AppConfig, valve: &Valve, foreseen: &Foreseen, id: ResourceId) -> Option<String> {
    if config.read_only {
        return Some("nothing is called at this app (read_only)".to_string());
    }
    if valve.passes.contains_key(&id) {
        return None;
    }
    if let Some(paused) = &valve.paused {
        return Some(format!("the app is paused by {}", paused.by));
    }
    let operation = foreseen.asked_for(id)?.operation;
    valve.tripped.contains_key(&operation).then(|| {
        format!("a guard rail holds {operation}; `rollcall app show` says why, `rollcall app release` lets it go on")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_that_nobody_saw_end_is_not_done() {
        let mut link = Link::default();
        assert!(is_believed(&link));
        link.trust.unverified = Some(crate::trust::Unverified::default());
        assert!(!is_believed(&link));
        link.trust.unreadable = true;
        assert!(is_believed(&link), "nobody will ever see it");
        link.held = Some(crate::link::Held::default());
        assert!(!is_believed(&link));
    }
}
