//! What came of it: the history against the log, and the final answers of every gateway against the fold of the log.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;

use crate::Client;
use crate::fold::{Fold, LogEvent, Version};
use crate::history::{Operation, Seen, check};
use crate::house::eventually;
use crate::site::{GATEWAYS, Site};

use super::{REQUEST_TIMEOUT, Record};

/// How much longer than its own limit a gateway may take to answer: a machine is slow, keys are read too.
const LATE_MAX: Duration = Duration::from_secs(20);
/// See [`check`]: on one broker a message is agreed on when it is written; among several it may take an election.
const SLACK: [SignedDuration; 2] = [SignedDuration::from_secs(1), SignedDuration::from_secs(15)];

pub(super) fn judge(site: &mut Site, history: &[Operation], record: &mut Record) {
    let events = site.events();
    record.events = events.len() as u64;
    let slack = SLACK[usize::from(record.brokers > 1)];
    record.violations.extend(check(history, &events, slack));
    for operation in history {
        let took = operation.ended.duration_since(operation.begun);
        let took = Duration::try_from(took).unwrap_or_default();
        if took > record.slowest {
            record.slowest = took;
            record.slowest_text = format!("{operation:?}");
        }
        if took > REQUEST_TIMEOUT + LATE_MAX {
            record.breaches.push(format!("answered after {took:?}: {operation:?}"));
        }
    }
    let rebuilt = site.rebuilt();
    let names = (0..GATEWAYS).map(|number| (format!("gateway {number}"), number));
    let mut first: Option<BTreeMap<String, Value>> = None;
    for (name, number) in names.chain([("a projection built from nothing".to_string(), rebuilt)]) {
        let shown = everything(&site.client(number));
        record.resources = shown.len() as u64;
        record.breaches.extend(against_log(&name, &shown, &events));
        match &first {
            None => first = Some(shown),
            Some(first) if *first == shown => {}
            Some(first) => {
                let differing: Vec<&String> = first
                    .keys()
                    .chain(shown.keys())
                    .filter(|id| first.get(*id) != shown.get(*id))
                    .take(5)
                    .collect();
                record.breaches.push(format!("{name} answers otherwise than gateway 0 about {differing:?}"));
            }
        }
    }
}

/// Nobody has this id. Whoever asks for it is told so only from a state that is as new as the log.
const NOBODY: &str = "/Users/00000000-0000-7000-8000-000000000000";

/// Every resource that a gateway shows, by id, once it has heard of everything: after faults that may take it a while, and
/// until then it may show what was.
pub fn everything(client: &Client) -> BTreeMap<String, Value> {
    eventually("a gateway is as new as the log", || {
        client.try_send("GET", NOBODY, &[], None).ok().filter(|reply| reply.status == 404)
    });
    let mut shown = BTreeMap::new();
    for endpoint in ["Users", "Groups"] {
        for page in 0.. {
            let start = page * 200 + 1;
            let reply = client.get(&format!("/{endpoint}?startIndex={start}&count=200")).expect(200);
            let resources = reply.body["Resources"].as_array().cloned().unwrap_or_default();
            if resources.is_empty() {
                break;
            }
            for resource in resources {
                let id = resource["id"].as_str().unwrap_or_default().to_string();
                assert!(shown.insert(id.clone(), resource).is_none(), "{id} is listed twice");
            }
        }
    }
    shown
}

/// How what is shown differs from what follows from the log.
pub fn against_log(name: &str, shown: &BTreeMap<String, Value>, events: &[LogEvent]) -> Vec<String> {
    let mut fold = Fold::default();
    for event in events {
        fold.apply(event);
    }
    let mut differences = Vec::new();
    for (id, resource) in &fold.resources {
        let Some(body) = shown.get(id) else {
            differences.push(format!("{name} does not show {id}: {resource:?}"));
            continue;
        };
        let version = body["meta"]["version"].as_str().and_then(Version::read);
        let same = Seen::read(body).is_some_and(|seen| {
            seen.name == resource.name && seen.mark == resource.mark && seen.members == resource.members
        });
        if !same || version.as_ref() != Some(&resource.version) {
            differences.push(format!("{name} shows {body}, the log has {resource:?}"));
        }
    }
    for id in shown.keys().filter(|id| !fold.resources.contains_key(*id)) {
        differences.push(format!("{name} shows {id}, which the log does not have"));
    }
    differences
}
