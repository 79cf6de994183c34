//! A webhook feed, heard by a real HTTP server that sometimes refuses.

#![cfg(test)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use street::House;
use street::house::{Options, eventually, group, user};

type Heard = Arc<Mutex<Vec<(Vec<(String, String)>, Value)>>>;

/// Answers 503 to the first deliveries, then 204, and remembers what it took.
fn subscriber(refuse: usize) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Heard::default();
    let remembered = heard.clone();
    let left = Arc::new(AtomicUsize::new(refuse));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (remembered, left) = (remembered.clone(), left.clone());
            std::thread::spawn(move || answer(stream, &left, &remembered));
        }
    });
    (address, heard)
}

fn answer(stream: TcpStream, left: &AtomicUsize, heard: &Heard) {
    let mut reader = BufReader::new(stream);
    while let Some((headers, body)) = request(&mut reader) {
        let refused = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if !refused {
            heard.lock().unwrap().push((headers, body));
        }
        let status = if refused { "503 Service Unavailable" } else { "204 No Content" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<(Vec<(String, String)>, Value)> {
    let mut headers = Vec::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_string()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((headers, serde_json::from_slice(&body).ok()?))
}

#[test]
fn a_subscriber_hears_everything_once_taken_in_order_and_only_what_is_allowed() {
    let (address, heard) = subscriber(2);
    let configuration = format!(
        "[feed.audit]\ntenant = \"corp\"\nurl = \"http://{address}/hook\"\nsecret = \"whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=\"\nattributes = [\"userName\", \"active\", \"displayName\"]\nfrom_start = true\n"
    );
    let mut house = House::start_with(Options { configuration: Some(configuration), ..Options::default() });
    let corp = house.corp();
    let ada = corp.post("/Users", &user("ada")).expect(201).id();
    let team = corp.post("/Groups", &group("Team", &[&ada])).expect(201).id();
    corp.patch(&format!("/Users/{ada}"), json!([{"op": "replace", "path": "active", "value": false}]))
        .expect(200);
    corp.patch(
        &format!("/Groups/{team}"),
        json!([{"op": "remove", "path": format!("members[value eq \"{ada}\"]")}]),
    )
    .expect(200);
    corp.delete(&format!("/Users/{ada}")).expect(204);
    let wanted = [
        "user.created",
        "group.created",
        "group.member_added",
        "user.deactivated",
        "group.member_removed",
        "user.deleted",
    ];
    let types = || -> Vec<String> {
        heard.lock().unwrap().iter().map(|(_, body)| body["type"].as_str().unwrap().to_string()).collect()
    };
    eventually("every event", || (types().len() >= wanted.len()).then_some(()));
    assert_eq!(types(), wanted);
    let (headers, body) = heard.lock().unwrap()[0].clone();
    let header =
        |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap();
    assert_eq!(header("content-type"), "application/cloudevents+json");
    assert_eq!(header("webhook-id"), body["id"].as_str().unwrap());
    assert!(header("webhook-signature").starts_with("v1,"));
    assert_eq!(body["data"]["attributes"]["userName"], "ada");
    assert!(!body.to_string().contains("corp.test"), "e-mail is not allowed: {body}");

    // After a clean stop it goes on where it was.
    assert!(house.stop());
    house.start_again();
    house.corp().post("/Users", &user("bob")).expect(201);
    eventually("the next event", || (types().len() > wanted.len()).then_some(()));
    assert_eq!(types()[wanted.len()..], ["user.created"]);
}
