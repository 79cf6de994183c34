//! What would be done at an app, and why: of one resource or of the whole directory, as it is configured or as it might be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::ResourceId;
use serde_json::{Value, json};

use super::{Unanswered, View};
use crate::app::{EVERYTHING, Foreseen, Performer, Railing, Turn, wanted};
use crate::budget::Purses;
use crate::config::AppConfig;
use crate::connector::ScimApp;
use crate::plan::{Away, Call, Plan};
use crate::scope::By;
use crate::{Error, Operation};

/// The last events that an explanation tells.
const EVENTS_TOLD: usize = 20;

impl View {
    /// Plans as a worker would, and calls nothing.
    pub(super) fn performer(&self, name: &str, config: &AppConfig) -> Result<Performer, Unanswered> {
        // Nothing is called, so nothing is paid for.
        let purse = Purses::default().of_app(name, config);
        let app = ScimApp::new(config, purse, None)
            .map_err(|reason| Error::App { app: name.to_string(), reason })?;
        Ok(Performer {
            name: name.to_string(),
            config: Arc::new(config.clone()),
            hash: config.hash(),
            shared: self.shared.clone(),
            app,
            railing: Arc::new(Railing::new(name, config, &self.shared)),
            asked: false,
            checks: crate::app::checks::Checks::default(),
        })
    }

    /// The configuration that is asked about.
    fn configuration<'a>(
        &'a self,
        name: &str,
        with: Option<&'a AppConfig>,
    ) -> Result<&'a AppConfig, Unanswered> {
        match with {
            Some(config) => Ok(config),
            None => self.config(name),
        }
    }

    /// What would be done about one resource.
    pub async fn plan_one(
        &self,
        name: &str,
        with: Option<&AppConfig>,
        id: ResourceId,
    ) -> Result<Value, Unanswered> {
        let config = self.configuration(name, with)?;
        self.caught_up().await?;
        let foreseen = self.performer(name, config)?.foresee(id).await?;
        let step = foreseen.map(|foreseen| self.step(config, id, &foreseen, true));
        Ok(
            json!({"app": name, "configurationHash": config.hash(), "items": step.into_iter().collect::<Vec<_>>()}),
        )
    }

    /// What would be done about everybody, first steps only: a group whose members have no account yet gets them later.
    pub async fn plan(
        &self,
        name: &str,
        with: Option<&AppConfig>,
        count: usize,
    ) -> Result<Value, Unanswered> {
        let config = self.configuration(name, with)?;
        self.caught_up().await?;
        let performer = self.performer(name, config)?;
        let mut all: BTreeSet<ResourceId> = self.shared.links.of_app(name).into_iter().collect();
        for kind in self.shared.registry.resource_types() {
            all.extend(self.shared.projection.ids(&config.tenant, &kind.name));
        }
        let (mut calls, mut items, mut would_be) = (BTreeMap::<&str, usize>::new(), Vec::new(), Vec::new());
        let mut looked_at = 0;
        for id in all {
            let Some(foreseen) = performer.foresee(id).await? else { continue };
            looked_at += 1;
            *calls.entry(what(&foreseen.plan)).or_default() += 1;
            would_be.extend(foreseen.wanted(id));
            if items.len() < count && !matches!(foreseen.plan, Plan::Settled { .. }) {
                items.push(self.step(config, id, &foreseen, false));
            }
        }
        let held: BTreeMap<Operation, _> = performer.railing.too_much(&would_be);
        Ok(json!({
            "app": name,
            "configurationHash": config.hash(),
            "lookedAt": looked_at,
            "calls": calls,
            "wouldBeHeld": held,
            "items": items,
        }))
    }

    /// What is planned for one resource. Whole attributes are told only of one that is asked about.
    fn step(&self, config: &AppConfig, id: ResourceId, foreseen: &Foreseen, is_whole: bool) -> Value {
        let known = self.shared.projection.known_at(&config.tenant, id, projector::Moment::NOW);
        let mut step = json!({
            "id": id.to_string(),
            "resourceType": foreseen.now.kind.name,
            "display": known.and_then(|known| known.display),
            "does": what(&foreseen.plan),
        });
        let mut say = |name: &str, value: Value| {
            if let Some(step) = step.as_object_mut() {
                step.insert(name.to_string(), value);
            }
        };
        match &foreseen.plan {
            Plan::Settled { .. } | Plan::ReadBack => {}
            Plan::Hold { why } => say("why", (*why).into()),
            Plan::Later { due_at } => say("dueAt", due_at.to_string().into()),
            Plan::Held => say("why", foreseen.link.held.as_ref().map(|held| held.reason.clone()).into()),
            Plan::Call { call, why } => {
                say("why", why.to_string().into());
                let turn = Turn { id, until: EVERYTHING, asked: false };
                say(
                    "operation",
                    wanted(turn, &foreseen.link, call).map(|wanted| wanted.operation.name()).into(),
                );
                match call {
                    Call::Create { attributes, .. } | Call::Update { attributes, .. } if is_whole => {
                        say("attributes", attributes.clone().into());
                    }
                    Call::ChangeMembers { added, removed, .. } => {
                        say("membersAdded", texts(added));
                        say("membersRemoved", texts(removed));
                    }
                    Call::Create { .. }
                    | Call::Update { .. }
                    | Call::Deactivate { .. }
                    | Call::Delete { .. } => {}
                }
            }
        }
        step
    }

    /// What somebody is in scope by.
    fn told_by(&self, config: &AppConfig, by: By) -> Value {
        let group = by.group.map(|group| {
            let known = self.shared.projection.known_at(&config.tenant, group, projector::Moment::NOW);
            json!({"id": group.to_string(), "display": known.and_then(|known| known.display)})
        });
        json!({"filter": by.filter, "group": group})
    }

    /// Whether the directory still wants somebody to have an account that is switched on.
    pub(super) async fn is_wished(
        &self,
        name: &str,
        config: &AppConfig,
        id: ResourceId,
    ) -> Result<bool, Unanswered> {
        let foreseen = self.performer(name, config)?.foresee(id).await?;
        let desired = foreseen.and_then(|foreseen| foreseen.now.desired.ok());
        Ok(desired.is_some_and(|desired| !crate::link::is_off(&desired.attributes)))
    }

    /// Why an app holds of a resource what it holds: scope, wish, link, plan, what stops it, and what was done.
    pub async fn why(&self, name: &str, id: ResourceId) -> Result<Value, Unanswered> {
        let config = self.config(name)?;
        self.caught_up().await?;
        let Some(foreseen) = self.performer(name, config)?.foresee(id).await? else {
            let events = self.done_about(&config.tenant, Some(name), id, EVENTS_TOLD).await?;
            let detail = "the app holds nothing of it, and the directory has no such resource";
            return Ok(json!({"app": name, "id": id.to_string(), "detail": detail, "events": events}));
        };
        let (link, now) = (&foreseen.link, &foreseen.now);
        let valve = self.app(name).await?.valve;
        Ok(json!({
            "app": name,
            "id": id.to_string(),
            "resourceType": now.kind.name,
            "scope": scope(config, &now.kind.name),
            "inScope": now.desired.is_ok(),
            "inScopeBy": now.by.filter(|_| now.desired.is_ok()).map(|by| self.told_by(config, by)),
            "wish": match &now.desired {
                Ok(desired) => json!({"attributes": desired.attributes, "members": desired.members.len()}),
                Err(leaving) => json!({"leave": away(leaving.away), "why": leaving.why}),
            },
            "link": {
                "remoteId": link.remote_id,
                "members": link.members.len(),
                "isOff": link.is_off,
                "outcomeUnknown": link.intent_open,
                "attempts": link.attempts,
                "nextDueAt": link.next_due_at.map(|due_at| due_at.to_string()),
                "held": link.held.as_ref().map(|held| json!({
                    "operation": held.operation, "reason": held.reason, "since": held.since.to_string(),
                })),
            },
            "plan": self.step(config, id, &foreseen, true),
            "paused": valve.paused,
            "tripped": valve.tripped,
            "rollout": valve.rollout.map(|rollout| json!({
                "stage": rollout.stage, "stages": rollout.stages.len(), "letThrough": rollout.reaches(id),
            })),
            "events": self.done_about(&config.tenant, Some(name), id, EVENTS_TOLD).await?,
        }))
    }
}

/// Who of a type belongs at the app, as it is configured.
fn scope(config: &AppConfig, kind: &str) -> Option<String> {
    config.scope.of(kind)?;
    let scope = config.scope.to_string();
    let of_type = scope.split(';').find_map(|part| part.strip_prefix(kind)?.strip_prefix(':'));
    Some(of_type.filter(|text| !text.is_empty()).unwrap_or("all").to_string())
}

fn away(away: Away) -> &'static str {
    match away {
        Away::Deactivate => "deactivate",
        Away::Delete => "delete",
        Away::Unclear => "unclear",
    }
}

fn what(plan: &Plan) -> &'static str {
    match plan {
        Plan::Settled { .. } => "nothing",
        Plan::ReadBack => "read_back",
        Plan::Call { call, .. } => call.name(),
        Plan::Later { .. } => "later",
        Plan::Held | Plan::Hold { .. } => "held",
    }
}

fn texts(ids: &BTreeSet<ResourceId>) -> Value {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().into()
}
