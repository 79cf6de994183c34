//! How the dispatcher shows an app who it is, each way from the street: an app that lets in nobody else, a token endpoint
//! that wants proof, secrets that are replaced while everything runs.

#![cfg(test)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use street::doors::{CLIENT_ID, Door, Papers, Proof, Wants};
use street::house::{Options, eventually, user};
use street::{Client, House};

/// A house that keeps the app behind this door in step; `auth` are the lines of its section.
fn house(door: &Door, auth: &str, files: &[(&str, &str)]) -> House {
    let url = door.url("/scim");
    let configuration = format!("[app.wiki]\ntenant = \"corp\"\nurl = \"{url}\"\n[app.wiki.auth]\n{auth}");
    House::start_with(Options {
        flags: vec!["--no-demo".to_string()],
        configuration: Some(configuration),
        files: files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect(),
    })
}

fn oauth(door: &Door, more: &str) -> String {
    format!("kind = \"oauth2\"\ntoken_url = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n{more}", door.url("/token"))
}

fn joins(house: &House, door: &Door, name: &str) {
    house.corp().post("/Users", &user(name)).expect(201);
    eventually("an account", || door.names().iter().any(|known| known == name).then_some(()));
}

/// Why the app rests, as the status has it.
fn rests(house: &House, why: &str) {
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let mut said = String::new();
    let found = || {
        let status = admin.get("/api/v1/status").expect(200).body;
        said = status["apps"]["wiki"]["waiting_for"].as_str().unwrap_or_default().to_string();
        said.contains(why).then_some(())
    };
    eventually(&format!("the app rests: {why}"), found);
}

/// Nothing that must stay hidden stands in the log, the status or the metrics.
fn hides(house: &House, secrets: &[&str]) {
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let texts = [house.log(), admin.get("/api/v1/status").text, admin.get("/metrics").text];
    for (secret, text) in secrets.iter().flat_map(|secret| texts.iter().map(move |text| (secret, text))) {
        assert!(!text.contains(secret), "{secret} is shown");
    }
}

fn replaces(house: &House, name: &str, text: &str) {
    // Where `Options::files` stand.
    let folder = house.data_dir().parent().unwrap().to_path_buf();
    std::fs::write(folder.join(name), text).unwrap();
}

#[test]
fn a_token_is_replaced_while_everything_runs() {
    let door = Door::start(Wants::Header("Bearer first-token".to_string()), None, None);
    let house = house(&door, "kind = \"bearer\"\ntoken_file = \"token\"\n", &[("token", "first-token\n")]);
    joins(&house, &door, "ada");
    assert_eq!(door.refused(), 0);
    door.wants(Wants::Header("Bearer second-token".to_string()));
    house.corp().post("/Users", &user("bob")).expect(201);
    rests(&house, "401");
    replaces(&house, "token", "second-token\n");
    eventually("an account", || door.names().contains(&"bob".to_string()).then_some(()));
    hides(&house, &["first-token", "second-token"]);
}

#[test]
fn a_name_and_a_password_are_shown() {
    let wanted = format!("Basic {}", STANDARD.encode("rollcall:open sesame"));
    let door = Door::start(Wants::Header(wanted), None, None);
    let auth = "kind = \"basic\"\nusername = \"rollcall\"\npassword_file = \"password\"\n";
    let house = house(&door, auth, &[("password", "open barley")]);
    house.corp().post("/Users", &user("ada")).expect(201);
    rests(&house, "401");
    assert!(door.names().is_empty());
    replaces(&house, "password", "open sesame");
    eventually("an account", || door.names().contains(&"ada".to_string()).then_some(()));
    hides(&house, &["open barley", "open sesame", &STANDARD.encode("rollcall:open sesame")]);
}

#[test]
fn a_token_is_asked_for_once_and_again_when_it_was_taken_back() {
    let door = Door::start(Wants::Token, Some(Proof::Basic("s3:cr t".to_string())), None);
    let auth = oauth(&door, "client_secret_file = \"secret\"\n");
    let house = house(&door, &auth, &[("secret", "s3:cr t")]);
    let corp = house.corp();
    for number in 0..20 {
        corp.post("/Users", &user(&format!("u{number}"))).expect(201);
    }
    eventually("everybody has an account", || (door.names().len() == 20).then_some(()));
    assert_eq!((door.given(), door.refused()), (1, 0));
    let former = door.tokens();
    door.take_back();
    joins(&house, &door, "ada");
    assert_eq!(door.given(), 2);
    // A sick endpoint lets the app rest, and says so.
    door.take_back();
    door.sick(Some(503));
    corp.post("/Users", &user("bob")).expect(201);
    rests(&house, "the token endpoint answers 503");
    door.sick(None);
    eventually("an account", || door.names().contains(&"bob".to_string()).then_some(()));
    let tokens = [former, door.tokens()].concat();
    hides(&house, &tokens.iter().map(String::as_str).chain(["s3:cr t"]).collect::<Vec<_>>());
}

#[test]
fn wrong_credentials_are_said_and_replaced() {
    let door = Door::start(Wants::Token, Some(Proof::Post("right-secret".to_string())), None);
    let auth = oauth(&door, "method = \"client_secret_post\"\nclient_secret_file = \"secret\"\n");
    let house = house(&door, &auth, &[("secret", "wrong-secret")]);
    house.corp().post("/Users", &user("ada")).expect(201);
    rests(&house, "invalid_client");
    assert!(door.names().is_empty() && door.refused_tokens() > 0);
    assert_eq!(door.refused(), 0, "without a token nobody knocks");
    replaces(&house, "secret", "right-secret");
    eventually("an account", || door.names().contains(&"ada".to_string()).then_some(()));
    // The endpoint repeats the form in what it refuses with.
    hides(&house, &["wrong-secret", "right-secret"]);
}

#[test]
fn a_key_signs_for_us() {
    let key = rcgen::KeyPair::generate().unwrap();
    let door = Door::start(Wants::Token, Some(Proof::Key(key.public_key_raw().to_vec())), None);
    let pem = key.serialize_pem();
    let auth = oauth(&door, "method = \"private_key_jwt\"\nkey_file = \"key.pem\"\nscope = \"scim\"\n");
    let house = house(&door, &auth, &[("key.pem", &pem)]);
    joins(&house, &door, "ada");
    // The next token needs another assertion, and another key when the endpoint wants one.
    door.take_back();
    joins(&house, &door, "bob");
    let fresh = rcgen::KeyPair::generate().unwrap();
    door.wants_proof(Proof::Key(fresh.public_key_raw().to_vec()));
    door.take_back();
    house.corp().post("/Users", &user("eve")).expect(201);
    rests(&house, "invalid_client");
    replaces(&house, "key.pem", &fresh.serialize_pem());
    eventually("an account", || door.names().contains(&"eve".to_string()).then_some(()));
}

#[test]
fn a_certificate_is_shown_and_one_is_wanted() {
    let (papers, strangers) = (Papers::new(), Papers::new());
    let door = Door::start(Wants::Nothing, None, Some(&papers));
    let auth = |papers: &Papers, kind: &str| {
        let path = |name: &str| papers.path(name).display().to_string();
        let (chain, key, ca) = (path("client.pem"), path("client.key"), path("ca.pem"));
        format!("kind = \"{kind}\"\nclient_certificate = {chain:?}\nclient_key = {key:?}\nca = {ca:?}\n")
    };
    // Who trusts another authority does not speak to this app at all.
    let stranger = house(&door, &auth(&strangers, "mtls-only"), &[]);
    stranger.corp().post("/Users", &user("ada")).expect(201);
    rests(&stranger, "certificate");
    // Who has none is not let in.
    let ca = papers.path("ca.pem").display().to_string();
    let without = house(&door, &format!("kind = \"bearer\"\ntoken = \"t\"\nca = {ca:?}\n"), &[]);
    without.corp().post("/Users", &user("ada")).expect(201);
    rests(&without, "certificate");
    assert!(door.names().is_empty());
    let ours = house(&door, &auth(&papers, "mtls-only"), &[]);
    joins(&ours, &door, "ada");
    // A certificate that was replaced is used; one of a stranger is not taken.
    strangers.issue(&papers);
    eventually("the new one is noticed", || {
        ours.log().contains("certificates were replaced").then_some(()).or_else(|| {
            // It is looked for when something is to be sent.
            ours.corp().post("/Users", &user(&uuid::Uuid::new_v4().to_string())).expect(201);
            None
        })
    });
    ours.corp().post("/Users", &user("bob")).expect(201);
    rests(&ours, "certificate");
    papers.issue(&papers);
    eventually("an account", || door.names().contains(&"bob".to_string()).then_some(()));
}

#[test]
fn a_certificate_is_the_proof_at_the_token_endpoint() {
    let papers = Papers::new();
    let door = Door::start(Wants::Token, Some(Proof::Certificate), Some(&papers));
    let path = |name: &str| papers.path(name).display().to_string();
    let (chain, key, ca) = (path("client.pem"), path("client.key"), path("ca.pem"));
    let more = format!(
        "method = \"tls_client_auth\"\nclient_certificate = {chain:?}\nclient_key = {key:?}\nca = {ca:?}\n"
    );
    let house = house(&door, &oauth(&door, &more), &[]);
    joins(&house, &door, "ada");
    assert_eq!((door.given(), door.refused()), (1, 0));
}
