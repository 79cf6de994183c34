//! What an app holds, as proposals: whose each account is, whose it would become and by what, or a SCIM request that makes
//! its owner in the directory. Unless a person says so (`apply.rs`), nothing is changed, neither there nor here.

use std::collections::{BTreeMap, BTreeSet};

use proto::ResourceId;
use scim::{AttrPath, Attribute, Mutability, Object, Registry, ResourceType};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::apply::{Apply, Maker, Work};
use super::{Unanswered, View};
use crate::Error;
use crate::app::Pages;
use crate::connector::{Account, ScimApp};
use crate::drift::named;
use crate::matching::{OUR_ID, value};
use crate::valve::{self, Refusal};

/// Resources that are looked at before others may work.
const LOOKS: usize = 64;

/// By this, a value is remembered: a million of them are compared.
type Mark = u64;

fn mark(key: &str, value: &str) -> Mark {
    let digest = Sha256::digest(format!("{key} {}", value.to_lowercase()).as_bytes());
    digest.iter().take(8).fold(0, |mark, byte| (mark << 8) | Mark::from(*byte))
}

/// How a resource of ours stands to an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It should have an account, and none is known.
    Free,
    /// It has another account.
    Elsewhere,
    /// It should have none.
    Out,
}

/// What our resources of one type are found by: their id, then what they have to themselves.
#[derive(Default)]
struct Index {
    keys: Vec<AttrPath>,
    found: BTreeMap<Mark, Vec<(ResourceId, Standing)>>,
}

/// Whose an account is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    One(ResourceId, Standing, String),
    Several(Vec<ResourceId>, String),
    Nobody,
}

impl Index {
    fn add(&mut self, key: &str, value: &str, id: ResourceId, standing: Standing) {
        let found = self.found.entry(mark(key, value)).or_default();
        if found.iter().all(|(known, _)| *known != id) {
            found.push((id, standing));
        }
    }

    /// The first key that finds anybody decides.
    fn whose(&self, account: &Account) -> Whose {
        for key in &self.keys {
            let (key, found) = (key.to_string(), value(key, &account.attributes));
            let Some(found) = found else { continue };
            match self.found.get(&mark(&key, &found)).map(Vec::as_slice) {
                None | Some([]) => {}
                Some([(id, standing)]) => return Whose::One(*id, *standing, key),
                Some(several) => {
                    return Whose::Several(several.iter().map(|(id, _)| *id).collect(), key);
                }
            }
        }
        Whose::Nobody
    }
}

/// What is asked of an import.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Whether a request names the app's id as `externalId`.
    pub keep_ids: bool,
    /// Whether what is proposed is done, too.
    pub apply: Option<Apply>,
}

/// All that an app listed.
#[derive(Default)]
struct Listing {
    counts: BTreeMap<String, u64>,
    broken: Vec<String>,
    work: Work,
}

/// Says of an account what is proposed.
fn told_of(kind: &ResourceType, remote_id: &str, proposal: &str) -> Object {
    let item = [
        ("resourceType", kind.name.as_str().into()),
        ("remoteId", remote_id.into()),
        ("proposal", proposal.into()),
    ];
    item.into_iter().map(|(name, value): (&str, Value)| (name.to_string(), value)).collect()
}

fn say(mut item: Object, more: &[(&str, Value)]) -> Object {
    item.extend(more.iter().map(|(name, value)| (name.to_string(), value.clone())));
    item
}

impl View {
    /// Lists everything that an app holds, and says of each account whose it is; with `apply`, does what is proposed. What
    /// it says goes to `told`, line by line; the last line counts.
    pub async fn import(
        &self,
        name: &str,
        asked: &Import,
        maker: &dyn Maker,
        told: &mpsc::Sender<Value>,
    ) -> Result<(), Unanswered> {
        let config = self.config(name)?;
        if asked.apply.as_ref().is_some_and(|apply| apply.said.by.is_empty()) {
            return Err(Refusal::Unnamed.into());
        }
        if asked.apply.is_some() {
            valve::load(&*self.shared.broker.leases, name).await?.is_settled()?;
        }
        self.caught_up().await?;
        let purse = self.shared.purses.of_app(name, config);
        let app = ScimApp::new(config, purse, None)
            .map_err(|reason| Error::App { app: name.to_string(), reason })?;
        let mut listing = Listing { work: Work::of(asked), ..Listing::default() };
        for kind in self.shared.registry.resource_types() {
            if config.scope.of(&kind.name).is_some()
                && !self.list(name, &app, kind, asked, &mut listing, told).await?
            {
                // Whoever listened is gone.
                return Ok(());
            }
        }
        let Listing { counts, broken, work } = listing;
        let mut last = json!({"app": name, "counts": counts, "broken": broken});
        if let Some(apply) = &asked.apply {
            let refusal = work.refusal(apply, &broken);
            let (word, came) = match refusal {
                Some(refusal) => ("notApplied", refusal.into()),
                None => ("applied", self.apply(name, asked, apply, work, maker, told).await?),
            };
            if let Some(last) = last.as_object_mut() {
                last.insert(word.to_string(), came);
            }
        }
        let _ = told.send(last).await;
        Ok(())
    }

    /// Lists one type. Says whether anybody listens.
    async fn list(
        &self,
        name: &str,
        app: &ScimApp,
        kind: &ResourceType,
        asked: &Import,
        listing: &mut Listing,
        told: &mpsc::Sender<Value>,
    ) -> Result<bool, Unanswered> {
        let tenant = &self.config(name)?.tenant;
        let mut owners: BTreeMap<String, ResourceId> =
            self.shared.links.remote_ids(name, &kind.name).into_iter().collect();
        let performer = self.performer(name, self.config(name)?)?;
        let is_unborn = |id: ResourceId| performer.is_unborn(id, &self.shared.links.get(name, id));
        let unborn: BTreeMap<String, ResourceId> = owners.extract_if(.., |_, id| is_unborn(*id)).collect();
        let index = self.index(name, kind).await?;
        let mut links: BTreeMap<ResourceId, Vec<(String, String)>> = BTreeMap::new();
        let mut pages = Pages::new(app, kind);
        let mut seen = BTreeSet::new();
        loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(reason) => {
                    listing.broken.push(reason);
                    break;
                }
            };
            let known = seen.len();
            for account in page.accounts {
                if !seen.insert(mark("", &account.remote_id)) {
                    continue;
                }
                let whose = match owners.get(&account.remote_id) {
                    Some(owner) => Err(*owner),
                    None => Ok(index.whose(&account)),
                };
                if let Ok(Whose::One(id, Standing::Free, key)) = &whose {
                    // Whether it is the only one is known at the end.
                    links.entry(*id).or_default().push((account.remote_id, key.clone()));
                    continue;
                }
                let members = self.shared.links.members(name, &kind.name, &account.members);
                let is_there = |id: &ResourceId| self.shared.projection.type_of(tenant, *id).is_some();
                let member = |remote: &str| members.get(remote).copied().filter(is_there);
                let item =
                    self.proposal(kind, &account, whose.as_ref().map_err(|owner| *owner), asked, member);
                listing.count(&item);
                let unborn = unborn.get(&account.remote_id).copied();
                let is_kept =
                    matches!(whose, Ok(Whose::Nobody)) && listing.work.create(kind, account, unborn);
                if !is_kept && told.send(item.into()).await.is_err() {
                    return Ok(false);
                }
            }
            if seen.len() == known {
                break;
            }
        }
        for (id, accounts) in links {
            for item in joined(kind, id, &accounts) {
                listing.count(&item);
                let is_kept = accounts.len() == 1 && listing.work.link(kind, id, &item);
                if !is_kept && told.send(item.into()).await.is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Our resources of a type, by what an account of theirs would show.
    async fn index(&self, name: &str, kind: &ResourceType) -> Result<Index, Unanswered> {
        let config = self.config(name)?;
        let performer = self.performer(name, config)?;
        let keys = config.matching.keys(&self.shared.registry, kind, &config.mapping);
        let mut index = Index { keys: keys.clone(), ..Index::default() };
        for (number, id) in self.shared.projection.ids(&config.tenant, &kind.name).into_iter().enumerate() {
            if number % LOOKS == 0 {
                tokio::task::yield_now().await;
            }
            let Some(foreseen) = performer.foresee(id).await? else { continue };
            let standing = match (&foreseen.link.remote_id, &foreseen.now.desired) {
                (Some(_), _) => Standing::Elsewhere,
                (None, Ok(_)) => Standing::Free,
                (None, Err(_)) => Standing::Out,
            };
            let wished = foreseen.now.desired.as_ref().ok().map(|desired| desired.attributes.clone());
            let document = match wished {
                Some(wished) => Some(wished),
                None => {
                    let stored = self.shared.projection.resource(&config.tenant, &kind.name, id).await?;
                    stored.map(|stored| Object::clone(&stored.document))
                }
            };
            for key in &keys {
                let name = key.to_string();
                if name == OUR_ID {
                    index.add(OUR_ID, &id.to_string(), id, standing);
                } else if let Some(value) = document.as_ref().and_then(|document| value(key, document)) {
                    index.add(&name, &value, id, standing);
                }
            }
        }
        Ok(index)
    }

    fn proposal(
        &self,
        kind: &ResourceType,
        account: &Account,
        whose: Result<&Whose, ResourceId>,
        asked: &Import,
        member: impl Fn(&str) -> Option<ResourceId>,
    ) -> Object {
        let told = |proposal: &str| told_of(kind, &account.remote_id, proposal);
        match whose {
            Err(owner) => say(told("linked"), &[("id", owner.to_string().into())]),
            Ok(Whose::One(id, standing, key)) => {
                let proposal = match standing {
                    Standing::Free => "link",
                    Standing::Elsewhere => "other_account",
                    Standing::Out => "out_of_scope",
                };
                say(told(proposal), &[("id", id.to_string().into()), ("by", key.clone().into())])
            }
            Ok(Whose::Several(ids, key)) => {
                let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>();
                say(told("ambiguous"), &[("ids", ids.into()), ("by", key.clone().into())])
            }
            Ok(Whose::Nobody) => {
                let (data, left_out) = request(&self.shared.registry, kind, account, asked.keep_ids, member);
                let request = json!({"method": "POST", "path": kind.endpoint, "data": data});
                let item = say(told("create"), &[("request", request)]);
                if left_out > 0 { say(item, &[("membersLeftOut", left_out.into())]) } else { item }
            }
        }
    }
}

impl Listing {
    fn count(&mut self, item: &Object) {
        let proposal = item.get("proposal").and_then(Value::as_str).unwrap_or_default();
        *self.counts.entry(proposal.to_string()).or_default() += 1;
    }
}

/// What is proposed of the accounts that fit one resource, each with the key that found it: more than one is a person's matter.
fn joined(kind: &ResourceType, id: ResourceId, accounts: &[(String, String)]) -> Vec<Object> {
    let item = |(remote_id, key): &(String, String)| match accounts.len() {
        1 => say(
            told_of(kind, remote_id, "link"),
            &[("id", id.to_string().into()), ("by", key.clone().into())],
        ),
        count => say(
            told_of(kind, remote_id, "ambiguous"),
            &[("ids", vec![id.to_string()].into()), ("by", key.clone().into()), ("accounts", count.into())],
        ),
    };
    accounts.iter().map(item).collect()
}

/// What makes the owner of an account in the directory, and how many members it has that the directory does not.
pub(super) fn request(
    registry: &Registry,
    kind: &ResourceType,
    account: &Account,
    keep_ids: bool,
    member: impl Fn(&str) -> Option<ResourceId>,
) -> (Object, usize) {
    let mut schemas = vec![Value::String(kind.schema.clone())];
    let mut data = writable(registry.core(kind), &account.attributes);
    for schema in registry.extensions(kind) {
        let shown = named(&account.attributes, &schema.id).and_then(Value::as_object);
        let extension = shown.map(|shown| writable(&schema.attributes, shown)).unwrap_or_default();
        if !extension.is_empty() {
            schemas.push(schema.id.clone().into());
            data.insert(schema.id.clone(), extension.into());
        }
    }
    // Whose id it says that it has is the app's matter.
    data.remove("externalId");
    if keep_ids {
        data.insert("externalId".to_string(), account.remote_id.clone().into());
    }
    let mut left_out = 0;
    if data.remove("members").is_some() {
        let known: Vec<Value> =
            account.members.iter().filter_map(|id| member(id)).map(|id| json!({"value": id})).collect();
        left_out = account.members.len() - known.len();
        if !known.is_empty() {
            data.insert("members".to_string(), known.into());
        }
    }
    data.insert("schemas".to_string(), schemas.into());
    (data, left_out)
}

/// The attributes that somebody who makes a resource may say, by their names in the schema. Whom they name is known by the
/// app's ids only, so that is left out.
fn writable(schema: &[Attribute], shown: &Object) -> Object {
    let may = |attribute: &&Attribute| {
        attribute.mutability != Mutability::ReadOnly
            && !attribute.names_resource()
            && attribute.name != "password"
    };
    let is_said = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(parts) => !parts.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    let value = |attribute: &Attribute| {
        let value = named(shown, &attribute.name)?.clone();
        is_said(&value).then(|| (attribute.name.clone(), value))
    };
    schema.iter().filter(may).filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::IdCase;

    fn id(number: u8) -> ResourceId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    fn account(mut value: Value) -> Account {
        value["id"] = json!("r1");
        Account::of(&value, IdCase::Exact).unwrap()
    }

    #[test]
    fn the_first_key_that_finds_anybody_decides() {
        let keys = vec![AttrPath::of("externalId"), AttrPath::of("userName")];
        let mut index = Index { keys, ..Index::default() };
        index.add("externalId", &id(1).to_string(), id(1), Standing::Free);
        index.add("userName", "ada", id(1), Standing::Free);
        index.add("userName", "Bob", id(2), Standing::Out);
        index.add("userName", "eve", id(3), Standing::Elsewhere);
        index.add("userName", "eve", id(4), Standing::Free);
        let whose = |value: Value| index.whose(&account(value));
        let one =
            |number: u8, standing: Standing, key: &str| Whose::One(id(number), standing, key.to_string());
        assert_eq!(
            whose(json!({"externalId": id(1).to_string(), "userName": "eve"})),
            one(1, Standing::Free, "externalId")
        );
        assert_eq!(whose(json!({"externalId": "x", "userName": "ADA"})), one(1, Standing::Free, "userName"));
        assert_eq!(whose(json!({"userName": "bob"})), one(2, Standing::Out, "userName"));
        assert_eq!(
            whose(json!({"userName": "eve"})),
            Whose::Several(vec![id(3), id(4)], "userName".to_string())
        );
        assert_eq!(whose(json!({"userName": "zoe"})), Whose::Nobody);
        assert_eq!(whose(json!({"displayName": "ada"})), Whose::Nobody);
    }

    #[test]
    fn a_request_says_what_may_be_said_and_nothing_else() {
        let registry = Registry::built_in().unwrap();
        let enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        let shown = account(json!({
            "schemas": ["x"], "meta": {"version": "1"}, "externalId": "theirs", "UserName": "zoe", "active": false,
            "displayName": "", "emails": [], "title": null, "password": "secret", "colour": "red",
            "name": {"familyName": "Zee"}, "groups": [{"value": "g"}],
            enterprise: {"department": "Sales", "manager": {"value": "r2"}},
        }));
        let kind = registry.by_name("User").unwrap();
        let (data, _) = request(&registry, kind, &shown, false, |_| None);
        let expected = json!({
            "schemas": [kind.schema, enterprise], "userName": "zoe", "active": false, "name": {"familyName": "Zee"},
            enterprise: {"department": "Sales"},
        });
        assert_eq!(Value::Object(data), expected);
        let (data, _) = request(&registry, kind, &shown, true, |_| None);
        assert_eq!(data["externalId"], "r1");
    }

    #[test]
    fn two_accounts_that_fit_one_are_a_persons_matter() {
        let registry = Registry::built_in().unwrap();
        let kind = registry.by_name("User").unwrap();
        let account = |remote_id: &str, key: &str| (remote_id.to_string(), key.to_string());
        let said = |accounts: &[(String, String)]| {
            let items = joined(kind, id(1), accounts);
            items.iter().map(|item| (item["proposal"].clone(), item["remoteId"].clone())).collect::<Vec<_>>()
        };
        let one = account("r1", "userName");
        assert_eq!(said(std::slice::from_ref(&one)), [("link".into(), "r1".into())]);
        let both = said(&[one, account("r2", "emails.value")]);
        assert_eq!(both, [("ambiguous".into(), "r1".into()), ("ambiguous".into(), "r2".into())]);
    }

    #[test]
    fn members_are_named_by_our_ids() {
        let registry = Registry::built_in().unwrap();
        let kind = registry.by_name("Group").unwrap();
        let shown = account(json!({"displayName": "Team", "members": [{"value": "a"}, {"value": "b"}]}));
        let (data, left_out) =
            request(&registry, kind, &shown, false, |remote| (remote == "a").then(|| id(1)));
        assert_eq!((&data["members"], left_out), (&json!([{"value": id(1).to_string()}]), 1));
        let (data, left_out) = request(&registry, kind, &shown, false, |_| None);
        assert_eq!((data.get("members"), left_out), (None, 2));
    }
}
