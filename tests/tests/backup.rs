//! The restore drill: write, back up while it runs, write more, lose the broker's store, restore, go on.

#![cfg(test)]

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use street::house::{Options, eventually, group, program, user};
use street::{Client, House};

fn without_demo() -> Options {
    Options { flags: vec!["--no-demo".to_string()], ..Options::default() }
}

/// A house with an app that is another house, which no restore touches, and a feed whose subscriber is away.
fn feeding(app: &House) -> House {
    let configuration = format!(
        "[app.wiki]\ntenant = \"corp\"\nurl = \"{}\"\ntoken = \"{}\"\n\
         [feed.audit]\ntenant = \"corp\"\nurl = \"http://127.0.0.1:9/hook\"\nsecret = \"whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=\"\n",
        app.env("SCIM_URL"),
        app.env("SCIM_TOKEN")
    );
    House::start_with(Options { configuration: Some(configuration), ..Options::default() })
}

/// Everything that SCIM says about everybody; only the port is another after each start.
fn answers(house: &House) -> (String, String) {
    let say = |path: &str| house.corp().get(path).expect(200).text.replace(house.env("SCIM_URL"), "");
    (say("/Users"), say("/Groups"))
}

/// The names of a group's members at the app.
fn members(accounts: &Client, external_id: &str) -> Option<BTreeSet<String>> {
    let group = accounts.find("/Groups", "externalId", external_id)?;
    let members = group["members"].as_array().cloned().unwrap_or_default();
    let name = |member: &Value| {
        let account = accounts.get(&format!("/Users/{}", member["value"].as_str()?));
        account.body["userName"].as_str().map(str::to_string)
    };
    Some(members.iter().filter_map(name).collect())
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Runs `rollcall` as an operator would, for a data folder of its own.
fn rollcall(arguments: &[&str], data_dir: &std::path::Path) -> Output {
    let output = Command::new(program()).args(arguments).arg("--data-dir").arg(data_dir).output();
    output.expect("rollcall can be started")
}

#[track_caller]
fn says(output: &Output, words: &[&str]) {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(words.iter().all(|word| text.contains(word)), "lacks one of {words:?}: {text}");
}

#[test]
fn what_was_backed_up_is_there_again_and_everything_follows() {
    let app = House::start_with(without_demo());
    let accounts = app.corp();
    let mut house = feeding(&app);
    let corp = house.corp();
    let titled = |name: &str, title: &str| {
        let mut body = user(name);
        body["title"] = json!(title);
        body
    };
    let ada = corp.post("/Users", &titled("ada", "Old")).expect(201).id();
    let bob = corp.post("/Users", &titled("bob", "Old")).expect(201).id();
    let team = corp.post("/Groups", &group("Team", &[&ada, &bob])).expect(201).id();
    eventually("the app has the team", || {
        members(&accounts, &team).filter(|found| *found == names(&["ada", "bob"]))
    });

    // While it runs.
    let folder = house.data_dir().with_file_name("backup");
    let path = folder.to_str().unwrap().to_string();
    let said = house.rollcall(&["backup", "--to", &path]);
    assert!(said.contains("master key is NOT in it") && said.contains("opens this backup"), "{said}");
    let at_backup = answers(&house);

    // What is written afterwards never happened once it is restored, but the app was told.
    let eve = corp.post("/Users", &user("eve")).expect(201).id();
    corp.patch(&format!("/Users/{bob}"), json!([{"op": "replace", "path": "title", "value": "New"}]))
        .expect(200);
    corp.patch(
        &format!("/Groups/{team}"),
        json!([{"op": "add", "path": "members", "value": [{"value": eve}]},
               {"op": "remove", "path": format!("members[value eq \"{bob}\"]")}]),
    )
    .expect(200);
    corp.delete(&format!("/Users/{ada}")).expect(204);
    let later = corp.post("/Groups", &group("Later", &[&eve])).expect(201).id();
    eventually("the app was told", || {
        let told = accounts.find("/Users", "userName", "bob")?["title"] == "New"
            && accounts.find("/Users", "userName", "ada").is_none()
            && members(&accounts, &team)? == names(&["eve"])
            && members(&accounts, &later)? == names(&["eve"]);
        told.then_some(())
    });

    // The projection is written with all of that, then the store is lost.
    assert!(house.stop());
    house.start_again();
    house.kill();
    let stopped = folder.with_file_name("stopped");
    let said = rollcall(&["backup", "--to", stopped.to_str().unwrap()], &house.data_dir());
    assert!(said.status.success(), "a stopped installation can be backed up: {said:?}");
    says(&rollcall(&["backup", "verify", &path], &house.data_dir()), &["is whole", "IDENTITY"]);
    let refused = rollcall(&["restore", "--from", &path], &house.data_dir());
    assert!(!refused.status.success());
    says(&refused, &["IDENTITY", "nothing is overwritten"]);
    std::fs::rename(house.data_dir().join("nats"), house.data_dir().join("lost")).unwrap();
    let restored = rollcall(&["restore", "--from", &path], &house.data_dir());
    assert!(restored.status.success(), "{restored:?}");
    says(&restored, &["are those of the backup", "IDENTITY"]);

    house.start_again();
    assert!(house.log().contains("the projection cannot be trusted"), "the projection did not notice");
    assert!(!house.log().contains("no restore took them away"), "the restore did");
    let corp = house.corp();
    assert_eq!(answers(&house), at_backup);
    // Names that were taken are taken, names of afterwards are free, once.
    corp.post("/Users", &user("ADA")).expect(409);
    corp.post("/Users", &user("bob")).expect(409);
    corp.get(&format!("/Users/{eve}")).expect(404);

    // The app holds what the directory holds. Whoever nobody knows any more stays there: it is not ours to remove.
    eventually("the app follows", || {
        let follows = accounts.find("/Users", "userName", "bob")?["title"] == "Old"
            && accounts.find("/Users", "userName", "ada")?["title"] == "Old"
            && members(&accounts, &team)? == names(&["ada", "bob"]);
        follows.then_some(())
    });
    let stranger = accounts.find("/Users", "userName", "eve").expect("the account stays")["id"].clone();
    assert!(accounts.find("/Groups", "externalId", &later).is_some(), "the group stays");

    // Writing goes on, under its guards; a name of afterwards finds its account again.
    let version = corp.get(&format!("/Users/{bob}")).expect(200).header("etag").unwrap().to_string();
    let bob_path = format!("/Users/{bob}");
    let put = |title: &str| {
        let body = titled("bob", title).to_string().into_bytes();
        corp.send("PUT", &bob_path, &[("If-Match", version.as_str())], Some(body))
    };
    put("Newer").expect(200);
    put("Newest").expect(412);
    let statuses: BTreeSet<u16> = std::thread::scope(|scope| {
        let racing: Vec<_> =
            (0..2).map(|_| scope.spawn(|| corp.post("/Users", &user("eve")).status)).collect();
        racing.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses, [201, 409].into());
    eventually("the app goes on", || {
        let new = corp.find("/Users", "userName", "eve")?["id"].clone();
        let account = accounts.find("/Users", "userName", "eve")?;
        let goes_on = accounts.find("/Users", "userName", "bob")?["title"] == "Newer"
            && account["id"] == stranger
            && account["externalId"] == new;
        goes_on.then_some(())
    });
    assert_eq!(accounts.get("/Users").expect(200).body["totalResults"], 3, "nobody is there twice");
    assert_eq!(accounts.get("/Groups").expect(200).body["totalResults"], 2);

    // The feed does not go on as if nothing had happened.
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    eventually("the feed says why it is stopped", || {
        let status = admin.get("/api/v1/status").expect(200).text;
        status.contains("restored from a backup").then_some(())
    });

    // A second life is noticed only once.
    house.kill();
    house.start_again();
    assert_eq!(house.log().matches("the projection cannot be trusted").count(), 1);
}

#[test]
fn without_the_right_master_key_nothing_is_touched() {
    let house = House::start_with(without_demo());
    house.corp().post("/Users", &user("ada")).expect(201);
    let folder = house.data_dir().with_file_name("backup");
    let path = folder.to_str().unwrap().to_string();
    house.rollcall(&["backup", "--to", &path]);

    let elsewhere = tempfile::tempdir().unwrap();
    let missing = rollcall(&["restore", "--from", &path], elsewhere.path());
    assert!(!missing.status.success());
    says(&missing, &["the master key is missing", "master.key"]);
    assert!(!elsewhere.path().join("master.key").exists(), "a key was made that opens nothing");

    std::fs::write(elsewhere.path().join("master.key"), "ab".repeat(32)).unwrap();
    let wrong = rollcall(&["restore", "--from", &path], elsewhere.path());
    assert!(!wrong.status.success());
    says(&wrong, &["another master key"]);
    assert!(!elsewhere.path().join("nats").exists(), "a broker was started for nothing");

    std::fs::copy(house.data_dir().join("master.key"), elsewhere.path().join("master.key")).unwrap();
    let right = rollcall(&["restore", "--from", &path], elsewhere.path());
    assert!(right.status.success(), "{right:?}");

    let nothing = rollcall(&["backup", "--to", "nothing"], &elsewhere.path().join("empty"));
    assert!(!nothing.status.success());
    says(&nothing, &["nothing to back up", "--data-dir"]);
}

/// A broker that says nothing, as one that is busy with a large stream.
#[test]
fn a_restore_that_is_stopped_says_what_is_left_and_what_to_do() {
    let house = House::start_with(without_demo());
    house.corp().post("/Users", &user("ada")).expect(201);
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    let backup = backup.to_str().expect("a plain name");
    says(&house.attempt(&["backup", "--to", backup]), &["is in"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let child = Command::new(program())
        .args(["restore", "--from", backup, "--nats", &url, "--data-dir"])
        .arg(house.data_dir())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = silent.accept().unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    says(&output, &["stopped by SIGTERM", "not finished", "same command again"]);
    assert_eq!(output.status.code(), Some(1));
    drop(asked);
}
