//! What was done at the apps: about one resource, and who had an account at a moment.

use std::collections::{BTreeMap, VecDeque};

use futures::StreamExt;
use jiff::Timestamp;
use projector::Moment;
use proto::provisioning::{Details, Event, Kind};
use proto::{ResourceId, Tenant, subject};
use scim::Object;
use serde_json::{Value, json};

use super::belonging::{Belonging, Scope};
use super::{Unanswered, View};
use crate::link::Link;

/// Events of one resource that are told at most, in the directory and at the apps each: the last ones.
const EVENTS_MAX: usize = 10_000;
/// Identity events that are read at once.
const PAGE: usize = 1_000;

impl View {
    /// The last things that were done about a resource, at one app or at all, the oldest first; each with what the app held
    /// before and after, where that can still be read.
    pub(super) async fn done_about(
        &self,
        tenant: &Tenant,
        app: Option<&str>,
        id: ResourceId,
        count: usize,
    ) -> Result<Vec<Value>, Unanswered> {
        Ok(self.last_done_about(tenant, app, id, count).await?.0)
    }

    /// The same, and how many were before them.
    async fn last_done_about(
        &self,
        tenant: &Tenant,
        app: Option<&str>,
        id: ResourceId,
        count: usize,
    ) -> Result<(Vec<Value>, usize), Unanswered> {
        let mut last = Last::new(count);
        let mut before: BTreeMap<String, Before> = BTreeMap::new();
        for subject in self.subjects(tenant, app, id).await? {
            let mut from = 1;
            loop {
                let some = self.shared.broker.provisioning.some_on(&subject, from).await?;
                let Some(end) = some.last() else { break };
                from = end.sequence + 1;
                for message in some {
                    // Of what is left out only what it changed is needed.
                    if let Some(message) = last.push(message) {
                        let (event, details) = self.shared.links.read(message).await?;
                        before.entry(event.app.clone()).or_default().apply(&event, details.as_ref());
                    }
                }
            }
        }
        let mut told = Vec::with_capacity(last.items.len());
        for message in last.items {
            let (sequence, time) = (message.sequence, message.time);
            let (event, details) = self.shared.links.read(message).await?;
            told.push(done(sequence, time, &event, details.as_ref(), &mut before));
        }
        Ok((told, last.left_out))
    }

    /// Where events about a resource stand.
    async fn subjects(
        &self,
        tenant: &Tenant,
        app: Option<&str>,
        id: ResourceId,
    ) -> Result<Vec<String>, Unanswered> {
        let known = self.shared.projection.known_at(tenant, id, Moment::NOW);
        let types = match known {
            Some(known) => vec![known.resource_type],
            None => self.shared.registry.resource_types().iter().map(|kind| kind.name.clone()).collect(),
        };
        let subject = |name: &String| match app {
            Some(app) => subject::provisioning(tenant, app, name, id),
            None => subject::provisioning_of_resource(tenant, name, id),
        };
        Ok(types.iter().map(subject).collect())
    }

    /// Everything that happened to a resource, in the directory and at every app, in the order of time; and how many events
    /// were before that, where there are very many.
    pub async fn timeline(&self, tenant: &Tenant, id: ResourceId) -> Result<(Vec<Value>, usize), Unanswered> {
        self.caught_up().await?;
        let mut happened_to = Vec::new();
        let mut total = 0;
        let mut after = self.shared.projection.before_last(tenant, id, EVENTS_MAX);
        while let Some(history) = self.shared.projection.history(tenant, id, Moment::NOW, after, PAGE).await?
        {
            total = history.total;
            for happened in &history.events {
                let event = &happened.event;
                let (added, removed) = event.kind.members();
                let texts = |ids: &[ResourceId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
                let changes = if event.resource_id == id { happened.changes.as_slice() } else { &[] };
                let item = json!({
                    "time": shown(happened.time), "log": "IDENTITY", "sequence": happened.sequence,
                    "kind": event.kind.name(), "resourceType": event.resource_type,
                    "resourceId": event.resource_id.to_string(), "source": event.source, "actor": event.actor,
                    "why": event.reason, "changes": changes, "membersAdded": texts(added),
                    "membersRemoved": texts(removed), "erased": happened.is_erased,
                });
                happened_to.push((shown(happened.time), item));
            }
            after = history.next;
            if after.is_none() {
                break;
            }
        }
        let (done, before_them) = self.last_done_about(tenant, None, id, EVENTS_MAX).await?;
        let left_out = total.saturating_sub(happened_to.len()) + before_them;
        let mut items = happened_to;
        for item in done {
            let time = item.get("time").and_then(Value::as_str).unwrap_or_default().to_string();
            items.push((time, item));
        }
        items.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok((items.into_iter().map(|(_, item)| item).collect(), left_out))
    }

    /// Who had an account at an app at an instant, from what was written down. Reads all of PROVISIONING until then.
    pub async fn who(&self, name: &str, at: Timestamp) -> Result<Vec<Value>, Unanswered> {
        let config = self.config(name)?;
        let log = &self.shared.broker.provisioning;
        let last = log.last_sequence().await?;
        let mut links: BTreeMap<ResourceId, (Link, Timestamp, String)> = BTreeMap::new();
        let mut messages = log.follow(1);
        let prefix = subject::provisioning_of_app(&config.tenant, name);
        let prefix = prefix.trim_end_matches('>');
        let mut read = 0;
        while read < last
            && let Some(message) = messages.next().await.transpose()?
        {
            read = message.sequence;
            if message.time > at {
                break;
            }
            if !message.subject.starts_with(prefix) {
                continue;
            }
            let time = message.time;
            let (event, details) = self.shared.links.read(message).await?;
            let (mut link, since, _) = links.remove(&event.resource_id).unwrap_or_default();
            let had = link.remote_id.is_some();
            link.apply(&event, details.as_ref(), |_| None);
            let since = if had { since } else { time };
            links.insert(event.resource_id, (link, since, event.resource_type));
        }
        let moment = self.shared.projection.moment(&config.tenant, projector::When::Instant(at))?;
        let display = |id: ResourceId| {
            let known = self.shared.projection.known_at(&config.tenant, id, moment.unwrap_or(Moment::NOW));
            known.and_then(|known| known.display)
        };
        let account = |(id, (link, since, kind)): (ResourceId, (Link, Timestamp, String))| {
            let remote_id = link.remote_id?;
            Some(json!({
                "id": id.to_string(), "resourceType": kind, "display": display(id), "remoteId": remote_id,
                "since": shown(since), "isOff": link.is_off,
            }))
        };
        Ok(links.into_iter().filter_map(account).collect())
    }
}

fn shown(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The last of many.
struct Last<T> {
    items: VecDeque<T>,
    most: usize,
    /// How many came before them.
    left_out: usize,
}

impl<T> Last<T> {
    fn new(most: usize) -> Self {
        Self { items: VecDeque::new(), most, left_out: 0 }
    }

    /// Says which one is not among them any more.
    fn push(&mut self, item: T) -> Option<T> {
        let is_full = self.items.len() == self.most;
        self.items.push_back(item);
        if !is_full {
            return None;
        }
        self.left_out += 1;
        self.items.pop_front()
    }
}

/// What is known of one app before an event.
#[derive(Default)]
struct Before {
    /// What it was told to hold last.
    told: Object,
    belonging: Belonging,
}

impl Before {
    /// After an event; says whether the scope was entered or left with it, and what was told before where it tells something.
    fn apply(&mut self, event: &Event, details: Option<&Details>) -> (Option<Scope>, Option<Object>) {
        let intended = details.map(|details| &details.intended).filter(|intended| !intended.is_empty());
        let held = match &event.kind {
            Kind::Done { linked: false, .. } => {
                self.told = Object::new();
                None
            }
            Kind::Done { .. } | Kind::Decided { .. } => {
                intended.map(|intended| std::mem::replace(&mut self.told, intended.clone()))
            }
            Kind::Intended { .. }
            | Kind::Retrying { .. }
            | Kind::Refused { .. }
            | Kind::Held { .. }
            | Kind::Released { .. }
            | Kind::ScopeEntered
            | Kind::ScopeLeft
            | Kind::Verified
            | Kind::PassedOver => None,
        };
        (self.belonging.apply(event), held)
    }
}

/// An event of PROVISIONING, and what it changed.
fn done(
    sequence: u64,
    time: Timestamp,
    event: &Event,
    details: Option<&Details>,
    before: &mut BTreeMap<String, Before>,
) -> Value {
    let mut item = json!({
        "time": shown(time), "log": "PROVISIONING", "sequence": sequence, "app": event.app, "kind": event.kind.name(),
        "resourceType": event.resource_type, "resourceId": event.resource_id.to_string(), "why": event.why,
        "causedBy": event.caused_by, "configurationHash": event.configuration_hash,
        "erased": event.key_ref.is_some() && details.is_none(),
    });
    let mut say = |name: &str, value: Value| {
        if let Some(item) = item.as_object_mut() {
            item.insert(name.to_string(), value);
        }
    };
    let (scope, held) = before.entry(event.app.clone()).or_default().apply(event, details);
    if let Some(scope) = scope {
        say("scope", scope.name().into());
    }
    let texts = |ids: &[ResourceId]| Value::from(ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    match &event.kind {
        Kind::Intended { operation } => say("operation", operation.clone().into()),
        Kind::Done { operation, linked, remote_id, members_added, members_removed, status, .. } => {
            say("operation", operation.clone().into());
            say("linked", (*linked).into());
            say("remoteId", remote_id.clone().into());
            say("status", (*status).into());
            say("membersAdded", texts(members_added));
            say("membersRemoved", texts(members_removed));
            if let Some((held, details)) = held.zip(details) {
                say("changes", json!(scim::diff(&held, &details.intended)));
            }
        }
        Kind::Retrying { operation, attempt, after_ms, error } => {
            say("operation", operation.clone().into());
            say("attempt", (*attempt).into());
            say("afterMs", (*after_ms).into());
            say("error", error.clone().into());
        }
        Kind::Refused { operation, status, error } => {
            say("operation", operation.clone().into());
            say("status", (*status).into());
            say("error", error.clone().into());
        }
        Kind::Held { operation, reason } => {
            say("operation", operation.clone().into());
            say("reason", reason.clone().into());
        }
        Kind::Released { actor } => say("actor", actor.clone().into()),
        Kind::Decided { operation, attributes } => {
            say("operation", operation.clone().into());
            say("attributes", json!(attributes));
            if let Some(details) = details {
                let change = |(path, decided): (&String, &Value)| json!({"path": path, "before": decided.get("before"), "after": decided.get("after")});
                say("changes", details.decided.iter().map(change).collect());
            }
        }
        Kind::ScopeEntered | Kind::ScopeLeft | Kind::Verified | Kind::PassedOver => {}
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_the_last_are_told() {
        let mut last = Last::new(3);
        assert!((1..=3).all(|number| last.push(number).is_none()));
        assert_eq!((Vec::from(last.items.clone()), last.left_out), (vec![1, 2, 3], 0));
        assert!((4..=9).all(|number| last.push(number) == Some(number - 3)));
        assert_eq!((Vec::from(last.items), last.left_out), (vec![7, 8, 9], 6));
    }
}
