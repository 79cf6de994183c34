//! Doing what an import proposes: an account that fits exactly one of ours becomes that one's, and whoever is nobody's becomes
//! a resource of the directory first, under the directory's own rules. The app is not called.

use std::str::FromStr;

use async_trait::async_trait;
use eventlog::clock;
use proto::{ResourceId, Tenant};
use scim::{Object, ResourceType};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::import::{Import, request};
use super::{Unanswered, View};
use crate::app::Performer;
use crate::app::import::Given;
use crate::connector::Account;
use crate::valve::Said;

/// So many are done without a further word.
pub const IMPORT_MOST: usize = 100;
/// So many are done at once at most: they are remembered until all are listed.
pub const IMPORT_MOST_MAX: usize = 100_000;

/// What of the proposals is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Accounts that fit exactly one of ours.
    Links,
    /// Accounts that are nobody's.
    Creates,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "links" => Ok(Self::Links),
            "creates" => Ok(Self::Creates),
            other => Err(format!("{other:?} is neither \"links\" nor \"creates\"")),
        }
    }
}

/// That what is proposed is done.
#[derive(Clone, Debug)]
pub struct Apply {
    /// Only a part of it.
    pub only: Option<Part>,
    /// If there are more, nothing is done. Without it there may be any number, and the first 100,000 are done.
    pub most: Option<usize>,
    /// Who wants it, and why.
    pub said: Said,
}

/// A resource that is to be made in the directory.
#[derive(Clone, Debug)]
pub struct Making {
    /// Whose directory.
    pub tenant: Tenant,
    /// The type.
    pub resource_type: String,
    /// Its id, unless the rules find somebody who is there already.
    pub id: ResourceId,
    /// As in a POST.
    pub body: Value,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Nothing was made, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotMade {
    /// It cannot be made as it is.
    Refused {
        /// What a client would be answered.
        status: u16,
        /// Why; it can name somebody.
        detail: String,
    },
    /// It may have been made.
    Unknown {
        /// What failed.
        doing: String,
    },
}

/// Makes resources in the directory, under its rules. This crate does not decide anything about the directory, so it is given one.
#[async_trait]
pub trait Maker: Send + Sync {
    /// Makes one, and says whose it is.
    async fn make(&self, making: Making) -> Result<ResourceId, NotMade>;
}

/// What is to be done, in the order in which it was listed.
#[derive(Default)]
pub(super) struct Work {
    /// Nothing when nothing is done.
    wanted: Option<Wanted>,
    tasks: Vec<Task>,
    links: usize,
    creates: usize,
}

#[derive(Clone, Copy)]
struct Wanted {
    only: Option<Part>,
    most: usize,
}

struct Task {
    kind: ResourceType,
    what: What,
}

enum What {
    Link { id: ResourceId, remote_id: String, item: Object },
    Create { account: Account, unborn: Option<ResourceId> },
}

/// What came of it all.
#[derive(Debug, Default, Serialize)]
struct Came {
    linked: usize,
    created: usize,
    skipped: usize,
    refused: usize,
    /// What was not reached, because there is so much.
    left: usize,
}

/// What came of one.
enum Outcome {
    Linked { id: ResourceId },
    Created { id: ResourceId },
    Skipped { why: String },
    Refused { why: String },
}

impl Work {
    pub(super) fn of(asked: &Import) -> Self {
        let wanted = asked.apply.as_ref().map(|apply| Wanted {
            only: apply.only,
            most: apply.most.unwrap_or(IMPORT_MOST_MAX).min(IMPORT_MOST_MAX),
        });
        Self { wanted, ..Self::default() }
    }

    /// Remembers one, if it is to be done; says whether it is.
    fn remember(&mut self, part: Part, kind: &ResourceType, what: impl FnOnce() -> Option<What>) -> bool {
        let Some(wanted) = self.wanted.filter(|wanted| wanted.only.is_none_or(|only| only == part)) else {
            return false;
        };
        if self.tasks.len() < wanted.most
            && let Some(what) = what()
        {
            self.tasks.push(Task { kind: kind.clone(), what });
        }
        match part {
            Part::Links => self.links += 1,
            Part::Creates => self.creates += 1,
        }
        true
    }

    pub(super) fn link(&mut self, kind: &ResourceType, id: ResourceId, item: &Object) -> bool {
        self.remember(Part::Links, kind, || {
            let remote_id = item.get("remoteId")?.as_str()?.to_string();
            Some(What::Link { id, remote_id, item: item.clone() })
        })
    }

    /// `unborn` is whose the account is by an import that was interrupted before it made him.
    pub(super) fn create(
        &mut self,
        kind: &ResourceType,
        account: Account,
        unborn: Option<ResourceId>,
    ) -> bool {
        self.remember(Part::Creates, kind, || Some(What::Create { account, unborn }))
    }

    /// Why nothing is done.
    pub(super) fn refusal(&self, apply: &Apply, broken: &[String]) -> Option<String> {
        let Self { links, creates, .. } = self;
        if let Some(first) = broken.first() {
            return Some(format!(
                "not everything was listed ({first}), so nobody knows whether an account is the only one"
            ));
        }
        let most = apply.most.filter(|most| links + creates > *most)?;
        Some(format!(
            "{links} would be linked and {creates} made in the directory, more than {most} together"
        ))
    }
}

impl View {
    /// Does all of it, one after the other, and tells each.
    pub(super) async fn apply(
        &self,
        name: &str,
        asked: &Import,
        apply: &Apply,
        work: Work,
        maker: &dyn Maker,
        told: &mpsc::Sender<Value>,
    ) -> Result<Value, Unanswered> {
        let config = self.config(name)?;
        let Work { tasks, links, creates, .. } = work;
        let mut came = Came { left: links + creates - tasks.len(), ..Came::default() };
        if tasks.is_empty() {
            return Ok(json!(came));
        }
        let detail = json!({"links": links, "creates": creates});
        self.record(name, config, "import", &apply.said, detail).await?;
        tracing::info!(
            app = name,
            by = apply.said.by,
            links,
            creates,
            "accounts that are there are imported"
        );
        let performer = Performer { asked: true, ..self.performer(name, config)? };
        for (number, Task { kind, what }) in tasks.into_iter().enumerate() {
            let (item, outcome) = match what {
                What::Link { id, remote_id, item } => {
                    let given = performer.give(&kind, id, &remote_id).await?;
                    (item, outcome(given, id))
                }
                What::Create { account, unborn } => {
                    let id = unborn.unwrap_or_else(clock::new_resource_id);
                    self.make(&performer, &kind, (id, &account), (asked, apply), maker).await?
                }
            };
            let said: Value = match outcome {
                Outcome::Linked { id } => {
                    came.linked += 1;
                    json!({"outcome": "linked", "id": id.to_string()})
                }
                Outcome::Created { id } => {
                    (came.created, came.linked) = (came.created + 1, came.linked + 1);
                    json!({"outcome": "created", "id": id.to_string()})
                }
                Outcome::Skipped { why } => {
                    came.skipped += 1;
                    json!({"outcome": "skipped", "why": why})
                }
                Outcome::Refused { why } => {
                    came.refused += 1;
                    json!({"outcome": "refused", "why": why})
                }
            };
            let mut item = item;
            item.insert("done".to_string(), (number + 1).into());
            item.insert("of".to_string(), (links + creates).into());
            item.extend(said.as_object().cloned().unwrap_or_default());
            // Whoever listened is gone: what was asked for is done no further.
            if told.send(item.into()).await.is_err() {
                break;
            }
        }
        tracing::info!(app = name, ?came, "imported");
        Ok(json!(came))
    }

    /// Gives an account to somebody, and makes him.
    async fn make(
        &self,
        performer: &Performer,
        kind: &ResourceType,
        (id, account): (ResourceId, &Account),
        (asked, apply): (&Import, &Apply),
        maker: &dyn Maker,
    ) -> Result<(Object, Outcome), Unanswered> {
        let (name, tenant) = (&performer.name, &performer.config.tenant);
        let members = self.shared.links.members(name, &kind.name, &account.members);
        let is_there = |id: &ResourceId| self.shared.projection.type_of(tenant, *id).is_some();
        let member = |remote: &str| members.get(remote).copied().filter(is_there);
        let (data, left_out) = request(&self.shared.registry, kind, account, asked.keep_ids, member);
        let item = json!({"resourceType": kind.name, "remoteId": account.remote_id, "proposal": "create"});
        let item = item.as_object().cloned().unwrap_or_default();
        if left_out > 0 {
            // Once it is ours, whoever is not in it in the directory is taken out of it.
            let why = format!("{left_out} of its members are nobody's yet and would be taken out of it");
            return Ok((item, Outcome::Skipped { why }));
        }
        performer.give_unborn(kind, id, &account.remote_id).await?;
        let making = Making {
            tenant: tenant.clone(),
            resource_type: kind.name.clone(),
            id,
            body: data.into(),
            by: apply.said.by.clone(),
            reason: format!("imported from {name}"),
        };
        let outcome = match maker.make(making).await {
            Ok(made) if made == id => Outcome::Created { id },
            // The rules found somebody who is there already, or was.
            Ok(made) => {
                performer.let_go_of(kind, id).await?;
                outcome(performer.give(kind, made, &account.remote_id).await?, made)
            }
            Err(NotMade::Refused { status, detail }) => {
                performer.let_go_of(kind, id).await?;
                Outcome::Refused { why: format!("the directory refuses it ({status}): {detail}") }
            }
            Err(NotMade::Unknown { doing }) => {
                Outcome::Refused { why: format!("{doing} failed, and it may have been made: import again") }
            }
        };
        Ok((item, outcome))
    }
}

fn outcome(given: Given, id: ResourceId) -> Outcome {
    let skipped = |why: &str| Outcome::Skipped { why: format!("{id} {why}") };
    match given {
        Given::Linked => Outcome::Linked { id },
        Given::Elsewhere => skipped("has another account by now"),
        Given::Anothers => skipped("cannot have it: it is another's by now"),
        Given::Out => skipped("is in the directory and does not belong at the app"),
        Given::Busy => skipped("is worked on at this moment: import again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::IdCase;
    use scim::Registry;

    fn asked(only: Option<Part>, most: Option<usize>) -> (Import, Apply) {
        let apply = Apply { only, most, said: Said::now("ann", "") };
        (Import { keep_ids: false, apply: Some(apply.clone()) }, apply)
    }

    fn account(number: usize) -> Account {
        Account::of(&json!({"id": format!("r{number}"), "userName": "x"}), IdCase::Exact).unwrap()
    }

    #[test]
    fn too_many_are_counted_and_refused_and_a_broken_list_is() {
        let registry = Registry::built_in().unwrap();
        let kind = registry.by_name("User").unwrap();
        let (import, apply) = asked(None, Some(3));
        let mut work = Work::of(&import);
        for number in 0..3 {
            assert!(work.create(kind, account(number), None));
        }
        assert_eq!(work.refusal(&apply, &[]), None);
        assert!(
            work.refusal(&apply, &["403".to_string()]).unwrap().contains("not everything was listed (403)")
        );
        let item = json!({"remoteId": "r9"}).as_object().unwrap().clone();
        assert!(work.link(kind, clock::new_resource_id(), &item));
        let refusal = work.refusal(&apply, &[]).unwrap();
        assert!(refusal.contains("1 would be linked and 3 made in the directory, more than 3"), "{refusal}");
        assert_eq!(work.tasks.len(), 3, "what is not done is not remembered");
    }

    #[test]
    fn only_what_is_wanted_is_done() {
        let registry = Registry::built_in().unwrap();
        let kind = registry.by_name("User").unwrap();
        let mut dry = Work::of(&Import::default());
        assert!(!dry.create(kind, account(1), None), "nothing is done unless it is asked for");
        let (import, apply) = asked(Some("links".parse().unwrap()), None);
        let mut work = Work::of(&import);
        assert!(!work.create(kind, account(1), None));
        assert_eq!((work.tasks.len(), work.refusal(&apply, &[])), (0, None));
        assert!("both".parse::<Part>().unwrap_err().contains("neither"));
    }
}
