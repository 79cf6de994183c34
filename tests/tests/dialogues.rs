//! Every documented dialogue of a real client, played against a running house.

#![cfg(test)]

use std::path::{Path, PathBuf};

use street::dialogue::Dialogue;
use street::{Client, House};

fn files(client: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogues").join(client);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no dialogue", folder.display());
    files
}

/// Plays a client's dialogues with tokens of this dialect. Each dialogue gets a tenant of its own, so that its counts are its own.
fn play_all(client: &str, dialect: &str) {
    let house = House::start();
    for (index, file) in files(client).iter().enumerate() {
        let dialogue = Dialogue::read(file);
        assert_eq!(dialogue.client, client, "{}", file.display());
        let tenant = format!("{client}-{index}");
        let token = house.token_of(&tenant, client, dialect);
        let base = house.env("SCIM_URL").replace("/t/corp/", &format!("/t/{tenant}/"));
        dialogue.play(&Client::new(&base, &token));
    }
}

#[test]
fn okta_is_understood() {
    play_all("okta", "okta");
}

#[test]
fn entra_is_understood() {
    play_all("entra", "entra");
}

/// Whoever forgets to choose a dialect is understood in these exchanges all the same.
#[test]
fn a_token_without_a_dialect_understands_both() {
    play_all("okta", "rfc");
    play_all("entra", "rfc");
}
