//! Operations carried out in their order, those that others refer to first: RFC 7644 §3.7. Neighbours that come to the same
//! in any order are carried out at once (`company.rs`), so that they share a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use futures::future::join_all;
use proto::ResourceId;
use scim::bulk::{self, Operation, Request};
use scim::{Error, Object, ResourceType};
use serde_json::Value;

use crate::Gateway;
use crate::command::{Caller, Command, Expected};
use crate::company::Company;
use crate::execute::Outcome;
use crate::http::Problem;

/// A list of operations and who asks for them.
pub(crate) struct Batch {
    pub(crate) caller: Caller,
    pub(crate) txn: String,
    /// An ordinary request, whose transaction is the whole batch's.
    pub(crate) single: bool,
    pub(crate) request: Request,
    /// What was done already, by place.
    pub(crate) done: BTreeMap<usize, Done>,
}

/// What came of a list of operations.
pub(crate) struct Carried {
    /// By place; nothing for those that were not reached.
    pub(crate) results: Vec<Option<Value>>,
    /// The log could not be asked, or not in time: whoever comes again may be served, and what was done by then stands.
    pub(crate) interrupted: bool,
}

impl Batch {
    /// Carries everything out, until the log does not serve.
    pub(crate) async fn carry_out(&self, gateway: &Gateway) -> Carried {
        let operations = &self.request.operations;
        let run = Run {
            gateway,
            batch: self,
            known: operations.iter().filter_map(|operation| operation.bulk_id.clone()).collect(),
            changed: self
                .done
                .iter()
                .filter_map(|(place, done)| Some((id_of(&done.path)?, *place)))
                .collect(),
            request: &self.request,
            ids: BTreeMap::new(),
            failed: BTreeSet::new(),
            withheld: Vec::new(),
            results: operations.iter().map(|_| None).collect(),
            errors: 0,
            interrupted: false,
        };
        run.all().await
    }

    /// RFC 9967 §2.5.1.2: each operation is a transaction of its own, named by its place.
    pub(crate) fn txn_of(&self, index: usize) -> String {
        if self.single { self.txn.clone() } else { format!("{}:{index}", self.txn) }
    }
}

/// One request being carried out.
struct Run<'a> {
    gateway: &'a Gateway,
    batch: &'a Batch,
    request: &'a Request,
    /// Every bulkId of the request.
    known: BTreeSet<String>,
    /// By resource: the last operation that was done to it before.
    changed: BTreeMap<ResourceId, usize>,
    /// The resources that were made, by bulkId.
    ids: BTreeMap<String, String>,
    /// The bulkIds that came to nothing.
    failed: BTreeSet<String>,
    /// What is to be added once a circle is closed: the operation, its resource's path, the values.
    withheld: Vec<(usize, String, Object)>,
    results: Vec<Option<Value>>,
    errors: usize,
    interrupted: bool,
}

/// An operation that can be carried out now.
struct Prepared<'a> {
    index: usize,
    operation: Operation,
    /// What is asked for; otherwise what came of it, which is known without asking anybody.
    command: Result<(&'a ResourceType, Command), Result<Done, Error>>,
}

/// Whether an operation can be carried out now.
enum Turn {
    Ready,
    Waiting,
    Impossible(Error),
}

impl<'a> Run<'a> {
    async fn all(mut self) -> Carried {
        let mut pending: Vec<usize> = (0..self.request.operations.len()).collect();
        while !pending.is_empty() && self.goes_on() {
            let before = pending.len();
            let mut waiting = Vec::new();
            let mut rest = pending.into_iter().peekable();
            while let Some(index) = rest.next() {
                if !self.goes_on() {
                    break;
                }
                let Some(operation) = self.request.operations.get(index) else { continue };
                if self.had_its_turn(index, operation) {
                    self.tell_its_turn(index, operation);
                    continue;
                }
                match self.state(operation) {
                    Turn::Waiting => waiting.push(index),
                    Turn::Impossible(error) => self.refuse(index, operation, None, &error),
                    Turn::Ready => {
                        let first = self.prepared(index, operation.resolved(&self.ids));
                        let all = self.with_company(first, &mut rest);
                        self.carry_out(all).await;
                    }
                }
            }
            pending = waiting;
            if pending.len() == before {
                self.break_circle(&mut pending).await;
            }
        }
        // However many errors there were: these operations were begun.
        for (index, path, later) in std::mem::take(&mut self.withheld) {
            if !self.interrupted {
                self.add_withheld(index, path, &later).await;
            } else if let Some(operation) = self.request.operations.get(index) {
                // It stands, but is not what was asked for.
                let error = Error::status(503, "it was made, but without the references of its circle");
                self.refuse(index, operation, Some(&self.location(&path)), &error);
            }
        }
        self.pass_over_the_rest();
        Carried { results: self.results, interrupted: self.interrupted }
    }

    fn goes_on(&self) -> bool {
        !self.interrupted && self.errors < self.request.errors_max
    }

    /// Where the log did not serve one operation, each of the others would wait as long in vain.
    fn pass_over_the_rest(&mut self) {
        if !self.interrupted {
            return;
        }
        let error =
            Error::status(503, "it was not tried: an operation before it could not be finished in time");
        for (index, operation) in self.request.operations.iter().enumerate() {
            let is_reached = self.results.get(index).is_some_and(Option::is_some);
            if !is_reached && self.errors < self.request.errors_max {
                self.refuse(index, operation, None, &error);
            }
        }
    }

    fn state(&self, operation: &Operation) -> Turn {
        if let Some(fault) = &operation.fault {
            return Turn::Impossible(fault.clone());
        }
        // Outside of Bulk nothing refers to anything: a text that looks so is a text.
        if self.batch.single {
            return Turn::Ready;
        }
        // Before it is made: a resource that cannot be as it is asked for must not be left behind.
        if is_own_member(operation) {
            return Turn::Impossible(Error::value("members: nobody is a member of itself"));
        }
        let references = operation.references();
        let lost = |id: &&&str| self.failed.contains(**id) || !self.known.contains(**id);
        if let Some(lost) = references.iter().find(lost) {
            return Turn::Impossible(Error::status(
                409,
                format!("bulkId {lost:?} names no operation that made a resource"),
            ));
        }
        if references.iter().all(|id| self.ids.contains_key(*id)) { Turn::Ready } else { Turn::Waiting }
    }

    /// RFC 7644 §3.7.1: one resource of the circle is made without its references, which are added at the end.
    async fn break_circle(&mut self, pending: &mut Vec<usize>) {
        let operations = &self.request.operations;
        let is_post = |index: &usize| operations.get(*index).is_some_and(|found| found.method == "POST");
        let place = pending.iter().position(is_post).unwrap_or(0);
        let index = pending.remove(place);
        let Some(operation) = operations.get(index) else { return };
        let unresolved = operation.references().into_iter().filter(|id| !self.ids.contains_key(*id));
        let unresolved: BTreeSet<String> = unresolved.map(str::to_string).collect();
        let (kept, later) = operation.without(&unresolved);
        let mut first = operation.resolved(&self.ids);
        first.data = kept;
        let first = self.prepared(index, first.resolved(&self.ids));
        if let Some(path) = self.carry_out(vec![first]).await.pop() {
            self.withheld.push((index, path, later));
        }
    }

    async fn add_withheld(&mut self, index: usize, path: String, later: &Object) {
        let Some(operation) = self.request.operations.get(index) else { return };
        let patch = Operation {
            method: "PATCH".to_string(),
            path,
            version: None,
            data: bulk::addition(later, &self.ids),
            ..operation.clone()
        };
        let lost = later.values().any(|value| value.to_string().contains("\"bulkId:"))
            && patch.data.to_string().contains("\"bulkId:");
        let location = self.location(&patch.path);
        let outcome = if lost {
            Err(Error::status(409, "the circle of references could not be closed"))
        } else {
            self.execute(&self.asked(index, patch.clone())).await
        };
        match outcome {
            Ok(done) => {
                let result = bulk::result(operation, Some(&location), Ok((201, done.version)));
                self.set(index, result);
            }
            Err(error) => self.refuse(index, operation, Some(&location), &error),
        }
    }

    /// An operation that can be carried out now, read as far as its body says.
    fn prepared(&self, index: usize, operation: Operation) -> Prepared<'a> {
        match self.batch.done.get(&index) {
            Some(done) => Prepared { index, operation, command: Err(Ok(done.clone())) },
            None => self.asked(index, operation),
        }
    }

    /// Whether an operation that wrote nothing was carried out before: one behind it changed the same resource, and those on
    /// one resource keep their order. Done again it would undo the other. Who had to wait for others has no such order.
    fn had_its_turn(&self, index: usize, operation: &Operation) -> bool {
        let last = id_of(&operation.path).and_then(|id| self.changed.get(&id));
        last.is_some_and(|last| *last > index)
            && !self.batch.done.contains_key(&index)
            && operation.references().is_empty()
    }

    /// What came of it is not known any more. It may have been well, so it is no error that ends the request.
    fn tell_its_turn(&mut self, index: usize, operation: &Operation) {
        let detail =
            "it had its turn before this request was interrupted: it changed nothing, or was refused";
        let (location, error) = (self.location(&operation.path), Error::status(409, detail));
        self.set(index, bulk::result(operation, Some(&location), Err(&error)));
    }

    /// The same, whatever was done before.
    fn asked(&self, index: usize, operation: Operation) -> Prepared<'a> {
        let command = self.command(&operation).map_err(Err);
        Prepared { index, operation, command }
    }

    /// An operation, and those behind it that can be carried out at the same time. Where errors may end the request, none.
    fn with_company(
        &self,
        first: Prepared<'a>,
        rest: &mut Peekable<impl Iterator<Item = usize>>,
    ) -> Vec<Prepared<'a>> {
        let mut company = Company::new(self.gateway, &self.batch.caller);
        let mut all = vec![first];
        let fits = |one: &Prepared<'_>, company: &mut Company<'_>| match &one.command {
            Ok((kind, command)) => company.admits(kind, command),
            Err(_) => false,
        };
        let mut goes_on = self.request.errors_max == usize::MAX
            && all.first().is_some_and(|first| fits(first, &mut company));
        while goes_on && all.len() < self.gateway.inner.limits.bulk_parallel_max {
            let next = rest.peek().and_then(|index| {
                let operation = self.request.operations.get(*index)?;
                (matches!(self.state(operation), Turn::Ready) && !self.had_its_turn(*index, operation))
                    .then(|| self.prepared(*index, operation.resolved(&self.ids)))
            });
            match next.filter(|next| fits(next, &mut company)) {
                Some(next) => {
                    rest.next();
                    all.push(next);
                }
                None => goes_on = false,
            }
        }
        all
    }

    /// Carries operations out at once and keeps their results; the paths of the resources that stand.
    async fn carry_out(&mut self, all: Vec<Prepared<'_>>) -> Vec<String> {
        metrics::histogram!("rollcall_bulk_at_once").record(all.len() as f64);
        let outcomes = join_all(all.iter().map(|one| self.execute(one))).await;
        let done = all.into_iter().zip(outcomes).map(|(one, outcome)| (one.index, one.operation, outcome));
        let done: Vec<_> = done.collect();
        done.into_iter()
            .filter_map(|(index, operation, outcome)| self.settle(index, &operation, outcome))
            .collect()
    }

    /// Keeps the result of an operation; the path of the resource, if it stands.
    fn settle(
        &mut self,
        index: usize,
        operation: &Operation,
        outcome: Result<Done, Error>,
    ) -> Option<String> {
        let named = (operation.method != "POST").then(|| self.location(&operation.path));
        match outcome {
            Ok(done) => {
                if let (Some(bulk_id), Some(id)) = (&operation.bulk_id, done.path.rsplit('/').next()) {
                    self.ids.insert(bulk_id.clone(), id.to_string());
                }
                let location = self.location(&done.path);
                let result = bulk::result(operation, Some(&location), Ok((done.status, done.version)));
                self.set(index, result);
                Some(done.path)
            }
            Err(error) => {
                self.refuse(index, operation, named.as_deref(), &error);
                None
            }
        }
    }

    fn refuse(&mut self, index: usize, operation: &Operation, location: Option<&str>, error: &Error) {
        self.errors += 1;
        self.interrupted |= error.status == 503;
        self.failed.extend(operation.bulk_id.clone());
        self.set(index, bulk::result(operation, location, Err(error)));
    }

    fn set(&mut self, index: usize, result: Value) {
        if let Some(place) = self.results.get_mut(index) {
            *place = Some(result);
        }
    }

    fn location(&self, path: &str) -> String {
        format!("{}{path}", self.batch.caller.base_url)
    }

    /// What an operation asks for.
    fn command(&self, operation: &Operation) -> Result<(&'a ResourceType, Command), Error> {
        let (kind, id) = self.target(&operation.path)?;
        let body = operation.data.clone();
        let expected = Expected { one_of: operation.version.clone(), none_of: None };
        let no_such = || Error::status(404, format!("there is no such {}", kind.name));
        let existing = || id.ok_or_else(no_such)?.parse().map_err(|_| no_such());
        let command = match (operation.method.as_str(), id) {
            ("POST", None) => self.gateway.creation(&self.batch.caller, kind, body)?,
            ("POST", Some(_)) => {
                return Err(Error::status(405, "a POST goes to an endpoint, not to a resource"));
            }
            ("PUT", _) => Command::Replace { id: existing()?, expected, body },
            ("PATCH", _) => Command::Patch { id: existing()?, expected, body },
            (_, _) => Command::Delete { id: existing()?, expected },
        };
        Ok((kind, command))
    }

    async fn execute(&self, one: &Prepared<'_>) -> Result<Done, Error> {
        let (kind, command) = match &one.command {
            Ok(asked) => asked,
            Err(known) => return known.clone(),
        };
        let txn = self.batch.txn_of(one.index);
        let outcome = self.gateway.execute(&self.batch.caller, kind, command, &txn).await;
        let outcome = outcome.map_err(|failure| Problem::from(failure).into_error())?;
        Ok(match outcome {
            Outcome::Deleted => Done { status: 204, version: None, path: one.operation.path.clone() },
            Outcome::Resource(stored) | Outcome::Told(stored) => Done {
                status: if one.operation.method == "POST" { 201 } else { 200 },
                version: Some(stored.version.to_string()),
                path: format!("{}/{}", kind.endpoint, stored.id),
            },
        })
    }

    /// The type and the id that a path names.
    fn target<'b>(&self, path: &'b str) -> Result<(&'a ResourceType, Option<&'b str>), Error> {
        let inner = path.trim_start_matches('/');
        let (endpoint, id) = match inner.split_once('/') {
            Some((endpoint, id)) => (endpoint, Some(id).filter(|id| !id.is_empty())),
            None => (inner, None),
        };
        let gateway: &'a Gateway = self.gateway;
        let kind = gateway.inner.registry.by_endpoint(endpoint);
        let kind = kind.ok_or_else(|| Error::status(404, format!("there is no endpoint {endpoint:?}")))?;
        Ok((kind, id))
    }
}

/// The resource that a path names.
fn id_of(path: &str) -> Option<ResourceId> {
    path.rsplit('/').next()?.parse().ok()
}

/// Whether an operation makes a resource and names it as a member of itself.
fn is_own_member(operation: &Operation) -> bool {
    let Some(bulk_id) = operation.bulk_id.as_deref().filter(|_| operation.method == "POST") else {
        return false;
    };
    let names = |member: &Value| {
        let value = member.get("value").and_then(Value::as_str);
        value.and_then(|value| value.strip_prefix("bulkId:")) == Some(bulk_id)
    };
    operation.data.as_object().into_iter().flatten().any(|(name, value)| {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        name.eq_ignore_ascii_case("members") && values.iter().any(names)
    })
}

/// What an operation did.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) status: u16,
    pub(crate) version: Option<String>,
    /// `/Users/{id}`.
    pub(crate) path: String,
}
