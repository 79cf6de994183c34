//! After the storm: everybody lives, nothing goes wrong any more, and all must come to agree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use projector::{Lens, MemoryStore, Part, Projection, Query, Window};
use proto::Resource;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::app::Account;
use super::check::plain;
use super::history::{History, State, text, version};
use super::process::{Place, Running, World, projection_config};

/// Until then whatever was on its way has arrived.
const ARRIVED: Duration = Duration::from_secs(10);
/// How long agreement may take.
const AGREED_MAX: Duration = Duration::from_secs(900);

/// Lets everything settle and says what does not.
pub async fn converge(world: &World, places: &Arc<Vec<(Place, AtomicU64)>>, seed: u64) -> Vec<String> {
    world.app.calm();
    for (number, (place, _)) in places.iter().enumerate() {
        match place.running() {
            Some(running) => running.calm(),
            None => {
                place.give_up_starting();
                place.start(world, seed ^ number as u64, false).await;
            }
        }
    }
    tokio::time::sleep(ARRIVED).await;
    let history = History::read(&world.cluster.identity, &world.calm.1).await;
    let last = world.cluster.identity.last_sequence();
    let mut wrong = Vec::new();
    let expected = fold(history.end());
    let processes: Vec<Arc<Running>> = places.iter().filter_map(|(place, _)| place.running()).collect();
    for (number, running) in processes.iter().enumerate() {
        if let Err(lagging) = running.projection.wait_until(last, Instant::now() + AGREED_MAX).await {
            wrong.push(format!("process {number} does not catch up: {lagging}"));
        }
        compare(
            &mut wrong,
            &format!("the projection of process {number}"),
            &expected,
            &answers(world, &running.projection).await,
        );
    }
    let rebuilt = open(world, &MemoryStore::default(), last).await;
    compare(&mut wrong, "a projection built from nothing", &expected, &answers(world, &rebuilt).await);
    let guards: Vec<String> = guards(world, &rebuilt).await;
    for (number, (place, _)) in places.iter().enumerate() {
        if let Some(running) = place.running()
            && self::guards(world, &running.projection).await != guards
        {
            wrong.push(format!(
                "the guards of process {number} are not those of a projection built from nothing"
            ));
        }
        // What is in the store must do for a start.
        let stored = open(world, &place.store().copy(), last).await;
        compare(
            &mut wrong,
            &format!("what process {number} stored"),
            &expected,
            &answers(world, &stored).await,
        );
    }
    wrong.extend(apps(world, &history, &processes).await);
    wrong
}

/// A projection of a store, caught up.
async fn open(world: &World, store: &MemoryStore, last: u64) -> Projection {
    let (broker, keyring) = world.calm.clone();
    let projection =
        Projection::open(projection_config(store), broker.identity.clone(), keyring, world.registry.clone())
            .await;
    let projection = projection.expect("a projection");
    let running = projection.clone();
    let task = tokio::spawn(async move { running.run(CancellationToken::new()).await });
    let caught_up = projection.wait_until(last, Instant::now() + AGREED_MAX).await;
    task.abort();
    if caught_up.is_err() {
        world.fail("a new projection does not catch up".to_string());
    }
    projection
}

/// Id, version, document, members.
type Answers = BTreeMap<String, String>;

fn shown(version: &str, document: &Value, members: Vec<String>) -> String {
    format!("{version} {document} {members:?}")
}

fn fold(state: &State) -> Answers {
    let show = |resource: &Resource| {
        let members = resource.members.iter().map(ToString::to_string).collect();
        shown(
            &version(resource).to_string(),
            &Value::Object(scim::Object::clone(&resource.document)),
            members,
        )
    };
    state.iter().map(|(id, resource)| (id.to_string(), show(resource))).collect()
}

async fn each(world: &World, projection: &Projection) -> Vec<(projector::Stored, Value)> {
    let lens = Lens { source: "hr".to_string(), members: true, groups: true, ..Lens::default() };
    let mut all = Vec::new();
    for kind in world.registry.resource_types() {
        let parts = [Part { kind, filter: None, sort: None }];
        let window = Window::From(1);
        let query = Query { parts: &parts, lens: &lens, window: &window, count: 1000, scan_rows_max: 1000 };
        let page = projection.query(&world.tenant(), query).await.expect("a page");
        for stored in page.resources {
            let object = projection.represent(&world.tenant(), &stored, kind, &lens);
            all.push((stored, Value::Object(object)));
        }
    }
    all
}

async fn answers(world: &World, projection: &Projection) -> Answers {
    let all = each(world, projection).await.into_iter().map(|(stored, body)| {
        let members = body["members"].as_array().into_iter().flatten();
        let mut members: Vec<String> =
            members.filter_map(|member| member["value"].as_str().map(str::to_string)).collect();
        members.sort();
        (stored.id.to_string(), shown(&stored.version.to_string(), &plain(&body), members))
    });
    all.collect()
}

async fn guards(world: &World, projection: &Projection) -> Vec<String> {
    let all = each(world, projection).await;
    all.into_iter().map(|(stored, body)| format!("{} {:?} {body}", stored.guard, stored.claims)).collect()
}

fn compare(wrong: &mut Vec<String>, what: &str, expected: &Answers, found: &Answers) {
    for (id, wanted) in expected {
        match found.get(id) {
            None => wrong.push(format!("{what} lacks {id}")),
            Some(shown) if shown != wanted => {
                wrong.push(format!("{what} shows {id} as {shown}, the log says {wanted}"))
            }
            Some(_) => {}
        }
    }
    let strangers = found.keys().filter(|id| !expected.contains_key(*id));
    wrong.extend(strangers.map(|id| format!("{what} has {id}, the log has not")));
}

/// Waits until the app holds what it should and nothing waits for a person.
async fn apps(world: &World, history: &History, processes: &[Arc<Running>]) -> Vec<String> {
    let expected = desired(world, history.end());
    let deadline = Instant::now() + AGREED_MAX;
    loop {
        let found = held(world);
        let working = processes.iter().filter_map(|running| (running.statuses)().remove("app"));
        let statuses: Vec<dispatcher::Status> = working.collect();
        let busy = statuses.iter().any(|status| status.due > 0 || status.held > 0);
        if found == expected && !busy {
            return Vec::new();
        }
        if Instant::now() > deadline && wait_for_each_other(&expected, &found) {
            return Vec::new();
        }
        if Instant::now() > deadline {
            let mut wrong = vec![format!("the app does not come to agree; {statuses:?}")];
            compare(&mut wrong, "the app", &expected, &found);
            wrong.extend(world.app.calls().into_iter().rev().take(12).rev());
            return wrong;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Whether all that differs are accounts that changed names among themselves: each waits for a name that another one has, no
/// order of calls resolves it, so it is a person's matter and held.
fn wait_for_each_other(expected: &Answers, found: &Answers) -> bool {
    let name = |shown: &String| scim::fold(shown.split(' ').next().unwrap_or_default());
    let differ: Vec<&String> = expected.keys().filter(|id| expected.get(*id) != found.get(*id)).collect();
    expected.len() == found.len()
        && differ.len() > 1
        && differ.iter().all(|id| {
            let wanted = expected.get(*id).map(name).filter(|name| !name.is_empty());
            let others = differ.iter().filter(|other| *other != id);
            wanted.is_some()
                && others.filter_map(|other| found.get(*other)).any(|other| Some(name(other)) == wanted)
        })
}

/// What the app should hold, by our ids.
fn desired(world: &World, state: &State) -> Answers {
    let scoped = |resource: &&Resource| {
        resource.resource_type == "Group"
            || world.scope.is_none()
            || resource.document.get("active") == Some(&Value::Bool(true))
    };
    let chosen: BTreeMap<String, &Resource> = state
        .iter()
        .map(|(id, resource)| (id.to_string(), &**resource))
        .filter(|(_, it)| scoped(it))
        .collect();
    let show = |resource: &Resource| {
        let members = resource.members.iter().map(ToString::to_string);
        let members = members.filter(|id| chosen.contains_key(id)).collect();
        shown(
            text(resource, "userName").unwrap_or_default(),
            &Value::Object(scim::Object::clone(&resource.document)),
            members,
        )
    };
    chosen.iter().map(|(id, resource)| (id.clone(), show(resource))).collect()
}

fn held(world: &World) -> Answers {
    let accounts = world.app.accounts();
    let ours =
        |account: &Account| account.get("externalId").and_then(Value::as_str).unwrap_or("?").to_string();
    let users = accounts.get("Users");
    let by_theirs: BTreeMap<String, String> =
        users.into_iter().flatten().map(|(theirs, account)| (theirs.clone(), ours(account))).collect();
    let mut found = Answers::new();
    for (theirs, account) in accounts.values().flatten() {
        let members = account.get("members").and_then(Value::as_array).into_iter().flatten();
        let mut members: Vec<String> =
            members.filter_map(|member| by_theirs.get(member["value"].as_str()?).cloned()).collect();
        members.sort();
        let name = account.get("userName").and_then(Value::as_str).unwrap_or_default();
        let text = shown(name, &plain(&json!(account)), members);
        if found.insert(ours(account), text).is_some() {
            found.insert(format!("{theirs}, a second account of {}", ours(account)), String::new());
        }
    }
    found
}
