//! Clients that are slow, or send what is no request: they are answered or let go, and hold nobody up.

#![cfg(test)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use street::House;
use street::house::{Client, Options, SOON, eventually, user};

/// Connects to where a URL of `dev.env` leads, and sends this.
fn send(url: &str, text: &str) -> TcpStream {
    let address = url.trim_start_matches("http://").split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Everything until the connection ends.
fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Ok(_) => {}
        // Whoever was not accepted yet is told so.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn who_is_slow_is_let_go_and_holds_nobody_up() {
    let mut house = House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some("[gateway.limits]\nhead_timeout_ms = 500\nbody_timeout_ms = 500\n".to_string()),
        ..Options::default()
    });
    let (scim, admin) = (house.env("SCIM_URL").to_string(), house.env("ADMIN_URL").to_string());
    for url in [&scim, &admin] {
        assert_eq!(rest(send(url, "GET / HTTP/1.1\r\nHost: x")), "");
    }
    let post = |more: &str| {
        let token = house.env("SCIM_TOKEN");
        format!(
            "POST /t/corp/scim/v2/Users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{more}"
        )
    };
    let slow = rest(send(&scim, &post("Content-Length: 100\r\n\r\n{\"schemas\"")));
    assert!(slow.starts_with("HTTP/1.1 408 ") && slow.contains("\"status\":\"408\""), "{slow}");
    let broken = rest(send(&scim, &post("Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")));
    assert!(broken.starts_with("HTTP/1.1 400 ") && broken.contains("invalidSyntax"), "{broken}");
    // It would stand in the link to each member of a group.
    let host = "x".repeat(60_000);
    let long = rest(send(
        &scim,
        &format!("GET /scim/v2/Schemas HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    ));
    assert!(long.starts_with("HTTP/1.1 400 ") && long.len() < 1_000, "{long:.300}");
    house.corp().post("/Users", &user("ada")).expect(201);
    let metrics = Client::new(&admin, "").get("/metrics").expect(200).text;
    for listener in ["scim", "admin"] {
        let counted = format!("rollcall_connections_ended_total{{listener=\"{listener}\",why=\"head\"}} 1");
        assert!(metrics.contains(&counted), "{metrics}");
        assert!(metrics.contains(&format!("rollcall_connections{{listener=\"{listener}\"}}")), "{metrics}");
    }
    assert!(house.stop());
}

/// Bodies that never end and answers that nobody reads: one tenant's take half of the room, and what is small needs none.
#[test]
fn one_clients_large_requests_leave_room_for_others() {
    let limits = "[gateway.limits]\nmemory_bytes_max = 15_000_000\nrequest_timeout_ms = 5000\n";
    let house = House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(limits.to_string()),
        ..Options::default()
    });
    let (scim, corp) = (house.env("SCIM_URL").to_string(), house.corp());
    let beta = Client::new(&scim.replace("/t/corp/", "/t/beta/"), &house.token_of("beta", "hr", "rfc"));
    let large = |name: &str| {
        let mut large = user(name);
        large["title"] = "x".repeat(500_000).into();
        large
    };
    let head = |method: &str, path: &str, more: &str| {
        let token = house.env("SCIM_TOKEN");
        format!(
            "{method} /t/corp/scim/v2{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        )
    };
    // What is made of a body is eight times as large: the second one would be more than half.
    for length in ["Content-Length: 700000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let begun =
            send(&scim, &format!("{}30000\r\n{}", head("POST", "/Users", length), " ".repeat(0x2_f000)));
        eventually("there is no room for a second one", || {
            let refused = corp.post("/Users", &large("eve"));
            (refused.status == 503 && refused.header("retry-after") == Some("1")).then_some(())
        });
        corp.post("/Users", &user(&format!("small{}", length.len()))).expect(201);
        if length.starts_with("Content") {
            beta.post("/Users", &large("bob")).expect(201);
        }
        drop(begun);
        // Of one that was given up nobody knows whether it was carried out, so each has a name of its own.
        let mut names = (0..).map(|number| format!("eve-{}-{number}", length.len()));
        let made = eventually("there is room again", || {
            let made = corp.post("/Users", &large(&names.next().unwrap_or_default()));
            (made.status == 201).then(|| made.id())
        });
        corp.delete(&format!("/Users/{made}")).expect(204);
    }
    let page: Vec<String> =
        (0..26).map(|number| corp.post("/Users", &large(&format!("p{number}"))).expect(201).id()).collect();
    // The room of a request is free a moment after its answer was read: who asks just then is refused, and asks again.
    let mut unread: Vec<TcpStream> = Vec::new();
    eventually("nobody takes what was asked for", || {
        unread.push(send(&scim, &head("GET", "/Users", "")));
        (corp.get("/Users").status == 503).then_some(())
    });
    corp.find("/Users", "userName", "small24").expect("what is small is found");
    beta.get("/Users").expect(200);
    drop(unread);
    eventually("all of it can be read again", || (corp.get("/Users").status == 200).then_some(()));
    for id in &page {
        corp.get(&format!("/Users/{id}")).expect(200);
    }
    let metrics = Client::new(house.env("ADMIN_URL"), "").get("/metrics").expect(200).text;
    for what in ["body", "answer"] {
        assert!(metrics.contains(&format!("rollcall_memory_full_total{{what=\"{what}\"}}")), "{metrics}");
    }
}

#[test]
fn half_a_request_does_not_hold_up_the_end() {
    let mut house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let half = ["SCIM_URL", "ADMIN_URL"].map(|name| send(house.env(name), "GET / HTTP/1.1\r\nHost: x"));
    assert!(house.stop());
    for stream in half {
        assert_eq!(rest(stream), "");
    }
}

/// A body that does not come is waited for at the end as well, but not by whoever says it twice.
#[test]
fn who_is_told_to_stop_again_ends_at_once() {
    let mut house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let token = house.env("SCIM_TOKEN");
    let half = format!(
        "POST /t/corp/scim/v2/Users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\n{{"
    );
    let half = send(house.env("SCIM_URL"), &half);
    house.corp().post("/Users", &user("ada")).expect(201);
    house.tell_to_stop();
    let begun = Instant::now();
    eventually("it is told that it stops", || house.log().contains("stopping").then_some(()));
    eventually("it ends", || {
        house.tell_to_stop();
        house.has_ended().then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}: it waited for the body", begun.elapsed());
    assert!(house.ended().contains("told to stop again"), "{}", house.log());
    assert_eq!(rest(half), "");
    house.start_again();
    assert!(house.corp().find("/Users", "userName", "ada").is_some());
}

/// RFC 9112 §3.2, RFC 6750 §3.1: of two of these, others between us and the client may have meant the other one.
#[test]
fn who_is_meant_and_who_asks_stands_there_once() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let scim = house.env("SCIM_URL").to_string();
    let token = format!("Authorization: Bearer {}\r\n", house.env("SCIM_TOKEN"));
    let check = |version: &str, headers: &str, status: &str| {
        for path in ["Users", "Schemas"] {
            let head =
                format!("GET /t/corp/scim/v2/{path} HTTP/{version}\r\nConnection: close\r\n{headers}\r\n");
            let answer = rest(send(&scim, &head));
            let got = answer.split(' ').nth(1).unwrap_or_default();
            // Who asks for a schema need be nobody.
            assert!(
                got == status || path == "Schemas" && headers.contains("other"),
                "{headers}: {answer:.300}"
            );
        }
    };
    check("1.1", &format!("Host: x\r\n{token}"), "200");
    check("1.0", &token, "200");
    check("1.1", &format!("Host: x\r\nHost: y\r\n{token}"), "400");
    check("1.1", &format!("Host: x\r\n{token}Authorization: Bearer other\r\n"), "400");
}

#[test]
fn a_long_filter_is_read_over_every_version_of_http() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    house.corp().post("/Users", &user("ada")).expect(201);
    // 8 KB that are 24 KB in a URL.
    let filter =
        format!("title eq %22{}%22 or userName eq %22ada%22", "%C3%A4".repeat(4_000)).replace(' ', "%20");
    let url = format!("{}/Users?filter={filter}", house.env("SCIM_URL"));
    let ask = |client: reqwest::blocking::ClientBuilder| {
        let answer = client.build().unwrap().get(&url).bearer_auth(house.env("SCIM_TOKEN")).send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap().contains("\"totalResults\":1,"))
    };
    assert_eq!(ask(reqwest::blocking::Client::builder().http1_only()), (200, true));
    assert_eq!(ask(reqwest::blocking::Client::builder().http2_prior_knowledge()), (200, true));
}

#[test]
fn the_admin_api_tells_every_mistake_in_one_way() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let large = Some(vec![b' '; 3 * 1024 * 1024]);
    for (method, path, body, status, error) in [
        ("GET", "/nothing", None, 404, "noEndpoint"),
        ("DELETE", "/api/v1/apps", None, 405, "noMethod"),
        ("POST", "/api/v1/apps/wiki/pause", large.clone(), 413, "tooLarge"),
        ("POST", "/api/v1/apps/wiki/pause", Some(b"{".to_vec()), 400, "invalidBody"),
    ] {
        let reply = admin.send(method, path, &[], body).expect(status);
        assert_eq!(reply.body["error"], error, "{}", reply.text);
    }
    let unread = rest(send(house.env("ADMIN_URL"), "GET /livez?\" HTTP/1.1\r\nHost: test\r\n\r\n"));
    assert!(unread.starts_with("HTTP/1.1 400 ") && unread.contains("\"error\":\"unreadable\""), "{unread}");
    let stranger = Client::new(house.env("ADMIN_URL"), "another");
    stranger.send("POST", "/api/v1/apps/wiki/pause", &[], large).expect(401);
}

#[test]
fn a_leaver_does_not_wait_for_those_who_look_at_the_past() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    house.corp().post("/Users", &user("ada")).expect(201);
    let (url, token) = (house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let admin = Client::new(url, token);
    let head = format!("Host: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 2\r\n\r\n");
    // All turns are taken by questions that are not wholly there.
    let asking = [(); 4].map(|()| send(url, &format!("POST /api/v1/apps/wiki/plan HTTP/1.1\r\n{head}")));
    let waiting = std::thread::spawn({
        let admin = admin.clone();
        let turned_away = move || Some(admin.get("/api/v1/apps")).filter(|reply| reply.status == 503);
        move || eventually("all turns are taken", turned_away)
    });
    let body = serde_json::json!({"who": "ada", "by": "grace"});
    admin.post("/api/v1/leave?tenant=corp", &body).expect(200);
    assert_eq!(waiting.join().unwrap().body["error"], "busy");
    drop(asking);
}
