//! Every documented dialogue of a real client, played against a running house.

#![cfg(test)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use street::dialogue::Dialogue;
use street::house::eventually;
use street::{Client, House};

fn files(client: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogues").join(client);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no dialogue", folder.display());
    files
}

/// The quirks that were counted for a tenant.
fn counted(house: &House, tenant: &str) -> BTreeSet<String> {
    let admin = Client::new(house.env("ADMIN_URL"), house.env("ADMIN_TOKEN"));
    let metrics = admin.get("/metrics").expect(200).text;
    let lines = metrics.lines().filter(|line| {
        line.starts_with("rollcall_quirks_total{") && line.contains(&format!("tenant=\"{tenant}\""))
    });
    lines.filter_map(|line| Some(line.split_once("quirk=\"")?.1.split_once('"')?.0.to_string())).collect()
}

/// Plays a client's dialogues with tokens of this dialect. Each dialogue gets a tenant of its own, so that its counts are
/// its own.
fn play_all(house: &House, client: &str, dialect: &str) {
    for (index, file) in files(client).iter().enumerate() {
        let dialogue = Dialogue::read(file);
        assert_eq!(dialogue.client, client, "{}", file.display());
        let tenant = format!("{client}-{index}");
        let token = house.token_of(&tenant, client, dialect);
        let base = house.env("SCIM_URL").replace("/t/corp/", &format!("/t/{tenant}/"));
        dialogue.play(&Client::new(&base, &token));
        // A request is counted once its answer has gone.
        eventually(&format!("{}: counted {:?}", file.display(), counted(house, &tenant)), || {
            (counted(house, &tenant) == dialogue.quirks).then_some(())
        });
    }
}

#[test]
fn okta_is_understood() {
    play_all(&House::start(), "okta", "okta");
}

#[test]
fn entra_is_understood() {
    play_all(&House::start(), "entra", "entra");
}

#[test]
fn the_others_are_understood() {
    let house = House::start();
    for client in ["google", "onelogin", "jumpcloud", "ping", "auth0", "sailpoint", "scripts"] {
        play_all(&house, client, "lenient");
    }
}

/// Whoever forgets to choose a dialect is understood in the exchanges that every setup begins with.
#[test]
fn a_token_without_a_dialect_understands_the_first_steps() {
    let house = House::start();
    for (client, count) in [("okta", 5), ("entra", 3)] {
        for (index, file) in files(client).iter().take(count).enumerate() {
            let tenant = format!("{client}-{index}");
            let token = house.token_of(&tenant, client, "rfc");
            let base = house.env("SCIM_URL").replace("/t/corp/", &format!("/t/{tenant}/"));
            Dialogue::read(file).play(&Client::new(&base, &token));
        }
    }
}

/// Each habit of the table is shown by a dialogue and explained to whoever looks for it.
#[test]
fn every_quirk_has_a_dialogue_and_a_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let clients = std::fs::read_dir(root.join("dialogues")).unwrap();
    let clients: Vec<String> =
        clients.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let shown: BTreeSet<String> = clients
        .iter()
        .flat_map(|client| files(client))
        .flat_map(|file| Dialogue::read(&file).quirks)
        .collect();
    let known: BTreeSet<String> =
        scim::Quirk::ALL.iter().map(|quirk| quirk.about().name.to_string()).collect();
    assert_eq!(shown, known);
    let page = std::fs::read_to_string(root.join("../docs/quirks.md")).unwrap();
    for quirk in scim::Quirk::ALL {
        let about = quirk.about();
        let dialects: Vec<&str> = about.dialects.iter().map(|dialect| dialect.as_str()).collect();
        let line = format!("| `{}` | {} | {} |", about.name, dialects.join(", "), about.what);
        assert!(page.contains(&line), "docs/quirks.md lacks:\n{line}");
    }
}
