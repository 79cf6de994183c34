//! What is said to an app and what is made of its answers, at apps that behave oddly.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use scim::{AttrPath, Registry, ResourceType};
use serde_json::{Value, json};

use super::{Account, Found, NoAnswer, Outcome, Page, ScimApp, Transport, search};
use crate::budget::Purses;
use crate::config::AppConfig;
use crate::profile::IdCase;

/// An app that answers everything alike.
struct Answering {
    status: u16,
    body: Bytes,
    asked: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Transport for Answering {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NoAnswer> {
        self.asked.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        Ok(Response::builder().status(self.status).body(self.body.clone()).unwrap())
    }
}

fn user() -> ResourceType {
    Registry::built_in().unwrap().by_name("User").unwrap().clone()
}

fn answering(status: u16, body: impl Into<Bytes>) -> (ScimApp, Arc<Answering>) {
    let transport = Arc::new(Answering { status, body: body.into(), asked: Mutex::default() });
    let config = AppConfig::example();
    let purse = Purses::new(8).of_app("wiki", &config);
    (ScimApp::new(&config, purse, Some(transport.clone())).unwrap(), transport)
}

/// What a search for the user name "ada" makes of an answer.
async fn found(status: u16, body: &Value) -> Found {
    answering(status, body.to_string()).0.find(&user(), &AttrPath::of("userName"), "ada", |_, _| false).await
}

#[tokio::test]
async fn a_search_is_read_as_a_list_is() {
    let one = || Found::One("a".to_string());
    let ada = json!({"id": "a", "userName": "Ada"});
    assert_eq!(found(200, &json!({"totalResults": 1, "Resources": [ada]})).await, one());
    assert_eq!(found(200, &json!({"resources": [ada]})).await, one());
    assert_eq!(found(200, &json!({"totalResults": 0})).await, Found::None);
    assert_eq!(found(404, &Value::Null).await, Found::None);
    let number = json!({"id": 7, "userName": "ada"});
    assert_eq!(found(200, &json!({"Resources": [number]})).await, Found::One("7".to_string()));
    // What is no list says nothing about anybody.
    for body in [json!({}), json!({"error": "busy"}), json!({"totalResults": 1}), json!([])] {
        assert_ne!(found(200, &body).await, Found::None, "{body}");
    }
}

#[tokio::test]
async fn who_is_not_there_is_gone_unless_the_app_does_not_know_its_own_list_either() {
    let outcome = async |status: u16, body: &'static str| answering(status, body).0.nobody(&user()).await;
    assert_eq!(outcome(200, r#"{"totalResults": 0}"#).await, Found::None);
    for status in [400, 403] {
        assert_eq!(outcome(status, "").await, Found::None, "it does not show its list: {status}");
    }
    for status in [404, 410, 502] {
        assert!(matches!(outcome(status, "").await, Found::Unavailable { .. }), "{status}");
    }
    let deleted = answering(404, "default backend - 404").0.delete(&user(), "r").await;
    let error = "the app answers 404 to everything".to_string();
    assert_eq!(deleted, Outcome::Unavailable { after: None, error, unheard: false });
}

/// An app that says what it can do, and of everything else that it is not there.
struct Empty;

#[async_trait::async_trait]
impl Transport for Empty {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NoAnswer> {
        let (status, urn) = match request.uri().path().ends_with("/ServiceProviderConfig") {
            true => (200, "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"),
            false => (404, "urn:ietf:params:scim:api:messages:2.0:Error"),
        };
        let body = json!({"schemas": [urn], "status": status.to_string()});
        Ok(Response::builder().status(status).body(Bytes::from(body.to_string())).unwrap())
    }
}

/// Some have no word for an empty list. They are not believed, and need not rest.
#[tokio::test]
async fn an_app_that_answers_and_has_no_list_is_a_matter_for_a_person() {
    let config = AppConfig::example();
    let purse = Purses::new(8).of_app("wiki", &config);
    let app = ScimApp::new(&config, purse, Some(Arc::new(Empty))).unwrap();
    assert_eq!(app.nobody(&user()).await, Found::Failed { status: 404 });
    assert_eq!(app.delete(&user(), "r").await, Outcome::Retry { status: 404 });
    // Errors alone say nothing: they are as well of an app that another address was meant for.
    let body = r#"{"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"]}"#;
    assert!(matches!(answering(404, body).0.nobody(&user()).await, Found::Unavailable { .. }));
}

#[tokio::test]
async fn whom_nobody_asked_for_is_not_found() {
    let other = json!({"id": "b", "userName": "admin"});
    let ada = json!({"id": "a", "userName": "ADA"});
    // It does not know the filter, and shows others.
    assert_eq!(found(200, &json!({"totalResults": 1, "Resources": [other]})).await, Found::Unsearchable);
    assert_eq!(
        found(200, &json!({"totalResults": 2, "Resources": [other, ada]})).await,
        Found::One("a".to_string())
    );
}

/// An app that has these accounts, and shows as many as it is asked for.
struct Listing(Vec<Value>);

#[async_trait::async_trait]
impl Transport for Listing {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NoAnswer> {
        let query = request.uri().query().unwrap_or_default();
        let count = query.rsplit("count=").next().and_then(|count| count.parse().ok()).unwrap_or(0);
        let shown: Vec<&Value> = self.0.iter().take(count).collect();
        let body = json!({"totalResults": self.0.len(), "Resources": shown});
        Ok(Response::new(Bytes::from(body.to_string())))
    }
}

#[tokio::test]
async fn whoever_stands_behind_those_of_others_is_found() {
    let found = async |ids: &[&str]| {
        let accounts = ids.iter().map(|id| json!({"id": id, "userName": "ada"})).collect();
        let config = AppConfig::example();
        let purse = Purses::new(8).of_app("wiki", &config);
        let app = ScimApp::new(&config, purse, Some(Arc::new(Listing(accounts)))).unwrap();
        app.find(&user(), &AttrPath::of("userName"), "ada", |id, _| id.starts_with("other")).await
    };
    let one = || Found::One("free".to_string());
    assert_eq!(found(&["other1", "other2", "other3"]).await, Found::None);
    assert_eq!(found(&["other1", "other2", "other3", "free"]).await, one());
    assert_eq!(found(&["free", "other1", "other2"]).await, one());
    assert_eq!(found(&["free1", "other1", "free2"]).await, Found::Many(2));
    assert_eq!(found(&["free1", "free2", "free3"]).await, Found::Many(3));
}

#[tokio::test]
async fn only_an_account_that_shows_our_id_is_found_by_it() {
    let found = async |account: Value| {
        let body = json!({"Resources": [account]}).to_string();
        answering(200, body).0.find(&user(), &AttrPath::of("externalId"), "e", |_, _| false).await
    };
    assert_eq!(found(json!({"id": "a", "externalId": "e"})).await, Found::One("a".to_string()));
    assert_eq!(found(json!({"id": "a", "userName": "admin"})).await, Found::Unsearchable);
    // Not every list shows all that an app searches by.
    let ada = json!({"totalResults": 1, "Resources": [{"id": "a"}]});
    assert_eq!(super::tests::found(200, &ada).await, Found::One("a".to_string()));
}

#[test]
fn values_of_lists_and_extensions_are_looked_at() {
    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
    let path = |schema: Option<&str>, name: &str, sub: Option<&str>| AttrPath {
        schema: schema.map(str::to_string),
        name: Some(name.to_string()),
        sub: sub.map(str::to_string),
    };
    let shown = json!({"id": "a", "Emails": [{"value": "x@x.test"}, {"value": "Ada@x.test"}], ENTERPRISE: {"employeeNumber": "7"}});
    for (path, value, expected) in [
        (path(None, "emails", Some("value")), "ada@x.test", Found::One("a".to_string())),
        (path(None, "emails", Some("value")), "bob@x.test", Found::Unsearchable),
        (path(Some(ENTERPRISE), "employeeNumber", None), "7", Found::One("a".to_string())),
        (path(Some(ENTERPRISE), "employeeNumber", None), "8", Found::Unsearchable),
    ] {
        let accounts = vec![Account::of(&shown, IdCase::Exact).unwrap()];
        let page = Page { accounts, shown: 1, total: Some(1), next: None };
        assert_eq!(search::judged(&page, 2, &path, value, |_, _| false), expected, "{path} {value}");
    }
}

#[tokio::test]
async fn an_id_is_one_step_of_a_path() {
    for (id, step) in [
        ("a/b", "a%2Fb"),
        ("a?b", "a%3Fb"),
        ("a#b", "a%23b"),
        ("a b", "a%20b"),
        ("50%", "50%25"),
        ("\u{e4}", "%C3%A4"),
        ("a@b.c:d", "a@b.c:d"),
    ] {
        let (app, transport) = answering(204, "");
        assert_eq!(app.delete(&user(), id).await, Outcome::Done { remote_id: None, status: 204 });
        let asked = transport.asked.lock().unwrap().clone();
        assert_eq!(asked, [format!("DELETE http://wiki.test/scim/v2/Users/{step}")]);
    }
}
