//! Where what is said cannot be written: a service goes on, and an answer that is not whole is no success.

#![cfg(test)]

use std::fs::File;
use std::process::{Command, Output};

use street::House;
use street::house::{Options, program, user};

/// A file of a disk without room.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn onto_a_full_disk(house: &House, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).arg("--data-dir").arg(house.data_dir());
    command.stdout(full()).output().unwrap()
}

#[test]
fn a_house_whose_log_cannot_be_written_works() {
    let mut house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    assert!(house.stop());
    let mut command = house.command();
    command.stdout(full()).stderr(full());
    house.begin_as(command);
    house.ready();
    house.corp().post("/Users", &user("ada")).expect(201);
    house.hang_up();
    house.corp().post("/Users", &user("bob")).expect(201);
    assert!(house.stop());
}

#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    let house = House::start_with(Options { flags: vec!["--no-demo".to_string()], ..Options::default() });
    house.corp().post("/Users", &user("ada")).expect(201);
    for arguments in [
        ["events", "tail", "--from", "1", "--no-follow"].as_slice(),
        &["token", "list"],
        &["audit", "digest", "--tenant", "corp"],
    ] {
        let output = onto_a_full_disk(&house, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains("writing the answer: No space left"), "{arguments:?}: {said}");
    }
    let output = onto_a_full_disk(&house, &["token", "create", "--tenant", "corp", "--source", "hr"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("token revoke"), "{said}");
}
