//! A tenant that was dropped takes everything along and nothing of another, and tenants never see each other.

#![cfg(test)]

#[expect(clippy::allow_attributes, reason = "which parts are used differs between the tests that include it")]
#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::path::Path;
use std::sync::Arc;

use common::answers::{answers, found, same};
use common::history::{Draft, History, tenants};
use common::{Running, body, config, deadline, key_of, registry, store};
use projector::{Moment, Projection, When};
use proto::{Kind, Tenant, subject};
use serde_json::json;

async fn of_all(projection: &Projection, whens: &[When]) -> Vec<String> {
    let mut all = Vec::new();
    for tenant in tenants() {
        all.push(answers(projection, &tenant, &registry(), whens).await);
    }
    all
}

/// The rows of a tenant on disk, by sequence.
async fn rows(folder: &Path, tenant: &Tenant) -> Vec<u64> {
    let rows = store(folder).await;
    let tree = rows.open_tree(format!("tenant/{tenant}")).unwrap();
    tree.iter().keys().map(|key| u64::from_be_bytes(key.unwrap().as_ref().try_into().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_dropped_takes_everything_along_and_nobody_else() {
    let (mut history, registry) = (History::new(4, 0), registry());
    let [corp, acme, _] = &tenants();
    let folder = tempfile::tempdir().unwrap();
    let open = async |history: &History| {
        let (config, log) = (config(folder.path(), &["title"]), Arc::new(history.book.clone()));
        Running::open(config, log, &history.keyring, &registry).await
    };
    for _ in 0..1_100 {
        for tenant in &tenants() {
            history.step(tenant).await;
        }
    }
    history.book.tell(history.book.len());
    open(&history).await.stop().await;
    let image = folder.path().join("projection/images").join(corp.as_str());
    let former_image = std::fs::read(&image).unwrap();
    let running = open(&history).await;
    let whens = [When::Sequence(history.book.len() / 2), When::Sequence(history.book.len() - 9)];
    let before = of_all(&running.projection, &whens).await;
    let keys: Vec<_> = history.models[corp].keys.keys().cloned().collect();
    let ids = history.models[corp].ids.clone();
    let dropped = history.drop_tenant(corp).await;
    history.book.tell(dropped);
    running.projection.catch_up(deadline()).await.unwrap();
    assert!(!image.exists());
    let gone = async |projection: &Projection, what: &str| {
        let after = of_all(projection, &whens).await;
        assert_eq!(after[0].lines().filter(|line| !line.ends_with("nothing")).count(), 0, "{what}");
        assert_eq!(projection.moment(corp, When::Now).unwrap(), None, "{what}");
        for (one, other) in before.iter().zip(&after).skip(1) {
            same(one, other, what);
        }
        for (kind, key) in &keys {
            let state = projection.key(corp, kind, key);
            assert_eq!((state.last, state.holder), (0, None), "{what}");
            assert!(projection.former(corp, kind, key).await.unwrap().is_none(), "{what}");
        }
        for id in &ids {
            assert_eq!(projection.type_of(corp, *id), None, "{what}");
            for kind in ["User", "Group"] {
                let found = projection.resource_at(corp, kind, *id, Moment::NOW).await.unwrap();
                assert!(found.is_none(), "{what}");
            }
            assert!(projection.groups_of(corp, *id).is_empty() && projection.members(corp, *id).is_empty());
        }
        for (kind, question) in
            [("User", "userName pr"), ("User", "not (title eq \"x\")"), ("Group", "displayName pr")]
        {
            assert!(
                found(projection, corp, &registry, (kind, question), Moment::NOW).await.is_empty(),
                "{what}"
            );
        }
        assert!(projection.counts()[corp].values().all(|count| *count == 0), "{what}");
    };
    gone(&running.projection, "at once").await;
    running.stop().await;
    assert_eq!(rows(folder.path(), corp).await, [dropped]);
    assert!(!image.exists() && rows(folder.path(), acme).await.len() > 1_000);
    // Whoever was killed before it had removed everything.
    std::fs::write(&image, former_image).unwrap();
    let left = store(folder.path()).await;
    left.open_tree("tenant/corp").unwrap().insert(7_u64.to_be_bytes(), b"left").unwrap();
    drop(left);
    let running = open(&history).await;
    gone(&running.projection, "after a new start").await;
    assert!(!image.exists());
    // It begins anew, and grows beyond what it was.
    for _ in 0..1_300 {
        history.step(corp).await;
    }
    history.book.tell(history.book.len());
    running.projection.catch_up(deadline()).await.unwrap();
    let whens =
        [When::Sequence(dropped), When::Sequence(dropped - 1), When::Sequence(history.book.len() - 700)];
    let grown = of_all(&running.projection, &whens).await;
    running.stop().await;
    assert!(rows(folder.path(), corp).await[0] == dropped && image.is_file());
    for what in ["from an image", "from rows"] {
        let running = open(&history).await;
        for (one, other) in grown.iter().zip(of_all(&running.projection, &whens).await) {
            same(one, &other, what);
        }
        running.stop().await;
        std::fs::remove_file(&image).unwrap();
    }
}

/// A writer whose clock is ahead may be the last to speak; times do not go back after it, whoever reads.
#[tokio::test]
async fn time_does_not_go_back_after_a_drop_and_a_new_start() {
    let mut history = History::new(5, 0);
    let tenant = &tenants()[0];
    let folder = tempfile::tempdir().unwrap();
    let open = async |history: &History| {
        let (config, log) = (config(folder.path(), &[]), Arc::new(history.book.clone()));
        Running::open(config, log, &history.keyring, &registry()).await
    };
    for round in 0..12 {
        history.drop_tenant(tenant).await;
        history.book.tell(history.book.len());
        open(&history).await.stop().await;
        history.step(tenant).await;
        history.book.tell(history.book.len());
        let running = open(&history).await;
        let expected = history.models[tenant].snapshots.last().unwrap().time;
        let stands = running.projection.stands_at(tenant, Moment::NOW).unwrap();
        assert_eq!(stands, (history.book.len(), expected), "round {round}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_with_the_same_names_never_see_each_other() {
    let mut history = History::new(6, 0);
    let [corp, acme, _] = &tenants();
    let mut ids = Vec::new();
    for (tenant, title) in [(corp, "of corp"), (acme, "of acme")] {
        let [user, group] = [0; 2].map(|_| eventlog::clock::new_resource_id());
        let document = json!({"userName": "ada", "displayName": "Ada", "title": title, "emails": [{"value": "ada@x.test"}]});
        let body_of_user = body(&document, Some("E1".to_string()));
        let (kind, key) = (Kind::Created { members_added: vec![] }, key_of(tenant, "ada"));
        history
            .write(Draft {
                tenant,
                resource_type: "User",
                id: user,
                key,
                kind,
                body: body_of_user,
                continued: false,
            })
            .await;
        // The members of the other tenant are strangers.
        let members_added = [user].into_iter().chain(ids.iter().map(|(user, _)| *user)).collect();
        let (kind, key) = (Kind::Created { members_added }, subject::key_of_id(group));
        let body = body(&json!({"displayName": "Team"}), None);
        history
            .write(Draft { tenant, resource_type: "Group", id: group, key, kind, body, continued: false })
            .await;
        ids.push((user, group));
    }
    history.book.tell(history.book.len());
    let folder = tempfile::tempdir().unwrap();
    for start in ["first", "second"] {
        let (config, log) = (config(folder.path(), &["title"]), Arc::new(history.book.clone()));
        let running = Running::open(config, log, &history.keyring, &registry()).await;
        let projection = &running.projection;
        for (tenant, own, other) in [(corp, ids[0], ids[1]), (acme, ids[1], ids[0])] {
            let title = format!("of {tenant}");
            for question in [
                "userName eq \"ADA\"".to_string(),
                "displayName sw \"a\"".to_string(),
                "emails.value eq \"ada@x.test\"".to_string(),
                "externalId eq \"E1\"".to_string(),
                format!("title eq \"{title}\""),
                "title sw \"of\"".to_string(),
                format!("groups eq \"{}\"", own.1),
            ] {
                let found = found(projection, tenant, &registry(), ("User", &question), Moment::NOW).await;
                let found: Vec<_> = found.iter().map(|one| (one.id, one.document["title"].clone())).collect();
                assert_eq!(found, [(own.0, json!(title))], "{start}: {question}");
            }
            for question in [format!("id eq \"{}\"", other.0), format!("groups eq \"{}\"", other.1)] {
                let found = found(projection, tenant, &registry(), ("User", &question), Moment::NOW).await;
                assert!(found.is_empty(), "{start}: {question}");
            }
            assert_eq!(projection.members(tenant, own.1), [own.0]);
            assert!(projection.resource(tenant, "User", other.0).await.unwrap().is_none());
            assert_eq!(projection.key(tenant, "User", &key_of(tenant, "ada")).holder, Some(own.0));
            let stranger = if tenant == corp { acme } else { corp };
            assert_eq!(projection.key(tenant, "User", &key_of(stranger, "ada")).holder, None);
        }
        running.stop().await;
    }
}
