//! Snapshots of the projection, from the street.

#![cfg(test)]

use street::house::{group, user};
use street::{Client, House};

/// A process that has no rows begins with the newest snapshot, and answers what it did before.
#[test]
fn a_snapshot_is_taken_on_demand_and_begun_with() {
    let mut house = House::start();
    let corp = house.corp();
    let ids: Vec<String> = (0..30)
        .map(|number| corp.post("/Users", &user(&format!("snap-{number}"))).expect(201).id())
        .collect();
    let members: Vec<&str> = ids.iter().map(String::as_str).collect();
    corp.post("/Groups", &group("Snapped", &members)).expect(201);
    let said = house.rollcall(&["projector", "snapshot"]);
    assert!(said.starts_with("snapshot 0000") && said.contains(" events, "), "{said}");
    let digest = |house: &House| house.rollcall(&["audit", "digest", "--tenant", "corp", "--format", "json"]);
    let before = digest(&house);
    house.stop();
    std::fs::remove_dir_all(house.data_dir().join("projection")).unwrap();
    house.start_again();
    assert!(house.log().contains("the projection begins with a snapshot"), "{}", house.log());
    assert_eq!(digest(&house), before);
    house.corp().post("/Users", &user("after the snapshot")).expect(201);
    let refused =
        Client::new(house.env("ADMIN_URL"), "wrong").send("POST", "/api/v1/projection/snapshot", &[], None);
    assert_eq!(refused.status, 401);
}
