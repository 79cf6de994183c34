//! The mission's main job: a SCIM request becomes an event, a directory entry and an account in a downstream app.

#![cfg(test)]

use serde_json::{Value, json};
use street::House;
use street::house::{eventually, group, user};

#[test]
fn a_user_is_readable_at_once_and_arrives_in_the_app() {
    let house = House::start();
    let (corp, app) = (house.corp(), house.app());

    let created = corp.post("/Users", &user("ada")).expect(201);
    let id = created.id();
    assert_eq!(created.header("location"), created.body["meta"]["location"].as_str());
    assert_eq!(created.header("etag"), created.body["meta"]["version"].as_str());
    assert_eq!(corp.get(&format!("/Users/{id}")).expect(200).body, created.body);

    let account = eventually("the account in the app", || app.find("/Users", "userName", "ada"));
    assert_eq!(account["displayName"], "Person ada");
    assert_eq!(account["active"], true);

    corp.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "active", "value": false}]))
        .expect(200);
    eventually("the account is deactivated", || {
        app.find("/Users", "userName", "ada").filter(|account| account["active"] == false)
    });

    let events = house.events("corp");
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(kinds, ["Created", "Updated"], "{events:?}");
    assert_eq!(events[1]["changes"][0]["path"], "active");
    assert_eq!(events[1]["changes"][0]["before"], true);
    assert_eq!(events[1]["changes"][0]["after"], false);

    corp.delete(&format!("/Users/{id}")).expect(204);
    eventually("the account is gone", || app.find("/Users", "userName", "ada").is_none().then_some(()));
}

#[test]
fn groups_and_their_members_arrive_in_the_app() {
    let house = House::start();
    let (corp, app) = (house.corp(), house.app());
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    let bob = corp.post("/Users", &user("bob")).expect(201).id();
    let team = corp.post("/Groups", &group("Team", &[&ada])).expect(201).id();

    let members = |name: &str| -> Vec<String> {
        let Some(group) = app.find("/Groups", "displayName", name) else { return Vec::new() };
        let mut names: Vec<String> = group["members"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|member| {
                let id = member["value"].as_str()?;
                app.get(&format!("/Users/{id}")).body["userName"].as_str().map(str::to_string)
            })
            .collect();
        names.sort();
        names
    };
    eventually("the group with its first member", || (members("Team") == ["ada"]).then_some(()));

    let path = format!("/Groups/{team}");
    corp.patch(&path, json!([{"op": "add", "path": "members", "value": [{"value": bob}]}])).expect(200);
    eventually("the second member", || (members("Team") == ["ada", "bob"]).then_some(()));
    corp.patch(&path, json!([{"op": "remove", "path": format!("members[value eq \"{ada}\"]")}])).expect(200);
    eventually("the first member is gone", || (members("Team") == ["bob"]).then_some(()));
    corp.patch(&path, json!([{"op": "replace", "path": "displayName", "value": "Crew"}])).expect(200);
    eventually("the new name", || (members("Crew") == ["bob"]).then_some(()));
    corp.delete(&path).expect(204);
    eventually("the group is gone", || app.find("/Groups", "displayName", "Crew").is_none().then_some(()));
}

#[test]
fn the_stream_holds_no_personal_data_in_the_clear() {
    let mut house = House::start();
    let corp = house.corp();
    let secret = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "zyxwvut.grepable",
        "externalId": "external-grepable-77",
        "displayName": "Zyx Grepable",
        "name": {"givenName": "Zyxgiven", "familyName": "Grepable"},
        "emails": [{"value": "zyx@grepable.test", "type": "work"}],
        "addresses": [{"streetAddress": "7 Grepable Lane", "type": "home"}],
        "password": "grepable-password",
    });
    let id = corp.post("/Users", &secret).expect(201).id();
    corp.patch(
        &format!("/Users/{id}"),
        json!([{"op": "replace", "path": "name.givenName", "value": "Grepable-Second"}]),
    )
    .expect(200);
    let app = house.app();
    eventually("the account in the app", || {
        app.find("/Users", "userName", "zyxwvut.grepable")
            .filter(|account| account["name"]["givenName"] == "Grepable-Second")
    });
    assert!(house.stop(), "{}", house.log());

    let mut files = 0;
    let mut folders = vec![house.data_dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            for word in ["repable", "zyxwvut", "Zyxgiven"] {
                assert!(
                    !bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes())),
                    "{word} stands in {}",
                    path.display()
                );
            }
        }
    }
    assert!(files > 5, "there was nothing to look at");
    assert!(!house.log().contains("repable"), "the log names a person:\n{}", house.log());
}

#[test]
fn health_and_metrics_answer() {
    let house = House::start();
    let admin = street::Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    admin.get("/livez").expect(200);
    admin.get("/readyz").expect(200);
    house.corp().post("/Users", &user("ada")).expect(201);
    let metrics = admin.get("/metrics").expect(200).text;
    assert!(metrics.lines().any(|line| line.starts_with("rollcall_")), "{metrics}");
    assert!(!metrics.contains("ada"), "{metrics}");
    let status: Value = admin.get("/api/v1/status").expect(200).body;
    assert!(status["projection"]["applied"].as_u64() > Some(0), "{status}");
    admin.with_token("wrong").get("/api/v1/status").expect(401);
}
