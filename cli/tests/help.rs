//! The program says what it can do. (A test here also makes cargo build the program for the tests from the street.)

#![cfg(test)]

use std::process::Command;

fn rollcall(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rollcall")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn every_command_explains_itself() {
    for command in [
        &["up"][..],
        &["gateway"],
        &["projector"],
        &["projector", "rebuild"],
        &["dispatcher"],
        &["token", "create"],
        &["token", "list"],
        &["token", "revoke"],
        &["events", "tail"],
        &["audit", "history"],
        &["audit", "at"],
        &["audit", "members"],
        &["audit", "diff"],
        &["audit", "digest"],
        &["explain"],
        &["config", "reload"],
        &["feed", "list"],
        &["feed", "show"],
        &["feed", "held"],
        &["feed", "redrive"],
        &["feed", "skip"],
        &["feed", "replay"],
        &["feed", "snapshot"],
        &["feed", "resume"],
        &["app", "list"],
        &["app", "show"],
        &["app", "held"],
        &["app", "reconcile"],
        &["app", "pause"],
        &["app", "resume"],
        &["app", "release"],
        &["app", "redrive"],
        &["app", "plan"],
        &["app", "test"],
        &["app", "provision"],
        &["app", "import"],
        &["why"],
        &["timeline"],
        &["who"],
        &["leave"],
    ] {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let (success, text) = rollcall(&arguments);
        assert!(success && text.contains("Usage: rollcall"), "{text}");
    }
}

#[test]
fn a_command_without_a_broker_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (success, text) = rollcall(&["token", "list", "--data-dir", folder.path().to_str().unwrap()]);
    assert!(!success && text.contains("rollcall up") && text.contains("--nats"), "{text}");
}

#[test]
fn an_auditor_without_a_house_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let digest = ["audit", "digest", "--data-dir", folder.path().to_str().unwrap()];
    let (success, text) = rollcall(&digest);
    assert!(!success && text.contains("--data-dir") && text.contains("ADMIN_TOKEN"), "{text}");
    let elsewhere = ["--admin-url", "http://127.0.0.1:9", "--admin-token", "token"];
    let (success, text) = rollcall(&[&digest[..], &elsewhere].concat());
    assert!(!success && text.contains("http://127.0.0.1:9") && text.contains("rollcall up"), "{text}");
    let (success, text) = rollcall(&[&digest[..], &elsewhere, &["--at", "soon"]].concat());
    assert!(!success && text.contains("--at") && text.contains("2026-11-01"), "{text}");
    let (success, text) = rollcall(&["audit", "history", "--user", "ada", "--group", "Team"]);
    assert!(!success && text.contains("cannot be used with"), "{text}");
}

#[test]
fn all_mistakes_of_a_configuration_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollcall.toml");
    let text = "[gateway]\nlisten = \"nowhere\"\n[app.x]\ntenant = \"Corp\"\nurl = \"ftp://x.test\"\ntoken = \"t\"\n[colour]\nred = 1\n[projection]\nhot_mb = 17592186044416\n";
    std::fs::write(&file, text).unwrap();
    let (success, text) = rollcall(&[
        "up",
        "--config",
        file.to_str().unwrap(),
        "--data-dir",
        folder.path().join("var").to_str().unwrap(),
    ]);
    assert!(!success && text.contains("4 mistakes"), "{text}");
    for part in ["gateway.listen", "app.x.tenant", "colour", "projection.hot_mb: must be 0 to 1048576"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!folder.path().join("var").exists(), "nothing is started");
}
