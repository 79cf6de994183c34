//! `rollcall record`: what a client says is written down without a word about people, and can be played again.

#![cfg(test)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;
use street::House;
use street::dialogue::Dialogue;
use street::house::{Client, Options, group, program, user};

#[test]
fn a_recorded_dialogue_names_nobody_and_plays_again() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recorded.json");
    let mut recorder = Command::new(program())
        .args([
            "record",
            "--listen",
            "127.0.0.1:0",
            "--client",
            "okta",
            "--upstream",
            house.env("SCIM_URL"),
            "--out",
        ])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(recorder.stdout.take().unwrap()).lines();
    let said = lines.next().unwrap().unwrap();
    let url = said.split_whitespace().find(|word| word.starts_with("http://127")).unwrap().to_string();

    let client = Client::new(&url, house.env("SCIM_TOKEN"));
    let mut ada = user("Zyxada");
    ada["externalId"] = json!("Zyx-17");
    ada["phoneNumbers"] = json!([{"value": "+49 170 998877", "type": "mobile"}]);
    let id = client.post("/Users", &ada).expect(201).id();
    assert!(client.find("/Users", "userName", "ZYXADA").is_some());
    let team = client.post("/Groups", &group("Zyx Club", &[&id])).expect(201).id();
    client
        .patch(
            &format!("/Groups/{team}"),
            json!([{"op": "remove", "path": format!("members[value eq \"{id}\"]")}]),
        )
        .expect(200);
    client.patch(
        &format!("/Users/{id}"),
        json!([{"op": "replace", "value": {"active": false, "title": "Zyx"}}]),
    );
    client.post("/Users", &ada).expect(409);
    client.get("/Users?startIndex=1&count=100").expect(200);
    client.delete(&format!("/Users/{id}")).expect(204);
    client.get(&format!("/Users/{id}")).expect(404);
    recorder.kill().unwrap();
    recorder.wait().unwrap();

    let text = std::fs::read_to_string(&file).unwrap();
    for word in ["zyx", "998877", &id, &team, house.env("SCIM_TOKEN"), "127.0.0.1"] {
        assert!(!text.to_lowercase().contains(&word.to_lowercase()), "{word}: {text}");
    }
    let again = house.env("SCIM_URL").replace("/t/corp/", "/t/again/");
    Dialogue::read(&file).play(&Client::new(&again, &house.token_of("again", "okta", "rfc")));
}
