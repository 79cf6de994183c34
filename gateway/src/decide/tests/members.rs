//! Who comes into a group and who goes.

use super::*;

#[test]
fn members_by_value_need_no_guard() {
    let given = given("Group").user(1, "ada", 1).user(2, "bob", 2).team(&[2]);
    let write = given.written(&patch(9, json!([
        {"op": "add", "path": "members", "value": [{"value": id(1).to_string()}, {"value": id(2).to_string()}]},
        {"op": "remove", "path": format!("members[value eq \"{}\"]", id(2))},
    ])));
    assert_eq!(write.guard, Guard::None);
    assert_eq!(write.kind, Kind::MembersChanged { added: vec![id(1)], removed: vec![id(2)] });
    let again = patch(9, json!([{"op": "add", "path": "members", "value": [{"value": id(2).to_string()}]}]));
    assert_eq!(given.when(&again).unwrap(), Decision::Nothing);
    let stranger = patch(9, json!([{"op": "add", "path": "members", "value": [{"value": "nobody"}]}]));
    assert_eq!(given.when(&stranger).unwrap_err(), Rejection::NoSuchMember { id: "nobody".to_string() });
}

/// A source that has not heard of a deletion takes somebody out all the same.
#[test]
fn whoever_is_gone_keeps_nobody_in_a_group() {
    let mut given = given("Group").user(1, "ada", 1).team(&[2, 4]);
    given.gone.insert(id(3));
    let named = |numbers: &[u8]| -> Value {
        numbers.iter().map(|number| json!({"value": id(*number).to_string()})).collect()
    };
    let put = |numbers: &[u8]| Command::Replace {
        id: id(9),
        expected: Expected::default(),
        body: json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Team", "members": named(numbers),
        }),
    };
    let add = |numbers: &[u8]| json!({"op": "add", "path": "members", "value": named(numbers)});
    let replace = |numbers: &[u8]| json!({"op": "replace", "path": "members", "value": named(numbers)});
    let title = json!({"op": "replace", "path": "displayName", "value": "New"});
    let remove = json!({"op": "remove", "path": format!("members[value eq \"{}\"]", id(4))});
    for (command, added, removed) in [
        (put(&[2, 3]), vec![], vec![4]),
        (put(&[3, 1]), vec![1], vec![2, 4]),
        (patch(9, json!([replace(&[3, 2])])), vec![], vec![4]),
        (patch(9, json!([remove, add(&[3])])), vec![], vec![4]),
        (patch(9, json!([add(&[3, 1]), remove, title])), vec![1], vec![4]),
    ] {
        let write = given.written(&command);
        let ids = |numbers: Vec<u8>| numbers.into_iter().map(id).collect::<Vec<_>>();
        let (Kind::MembersChanged { added: come, removed: go }
        | Kind::Updated { members_added: come, members_removed: go }) = write.kind
        else {
            panic!("{command:?}: {write:?}")
        };
        assert_eq!((come, go), (ids(added), ids(removed)), "{command:?}");
        // Somebody may have come back under his former id.
        assert!(write.beyond_guards, "{command:?}");
    }
    assert_eq!(given.when(&put(&[4, 3, 2])).unwrap(), Decision::Nothing);
    // Whoever only adds is told, and so is whoever names somebody who never was.
    let gone = Rejection::NoSuchMember { id: id(3).to_string() };
    assert_eq!(given.when(&patch(9, json!([add(&[1, 3])]))).unwrap_err(), gone);
    assert_eq!(given.when(&patch(9, json!([add(&[1, 3]), title]))).unwrap_err(), gone);
    let never = Rejection::NoSuchMember { id: id(200).to_string() };
    assert_eq!(given.when(&put(&[2, 200])).unwrap_err(), never);
    assert_eq!(given.when(&patch(9, json!([remove, add(&[200])]))).unwrap_err(), never);
}

/// Nothing guards what is left out since it is so already: that is said of the latest state only.
#[test]
fn members_that_are_left_out_need_the_latest_state() {
    let given = given("Group").user(1, "ada", 1).user(3, "cyd", 3).team(&[2, 4]);
    for (operations, added, removed, beyond_guards) in [
        (vec![("add", vec![1, 3])], vec![1, 3], vec![], false),
        (vec![("add", vec![3, 2, 1])], vec![3, 1], vec![], true),
        (vec![("remove", vec![4, 2])], vec![], vec![4, 2], false),
        (vec![("remove", vec![1, 2])], vec![], vec![2], true),
        (vec![("remove", vec![2]), ("add", vec![1])], vec![1], vec![2], false),
        // The last word about somebody holds.
        (vec![("remove", vec![1]), ("add", vec![1])], vec![1], vec![], false),
        (vec![("add", vec![1]), ("remove", vec![1, 2])], vec![], vec![2], true),
        (vec![("add", vec![1, 1]), ("remove", vec![2])], vec![1], vec![2], false),
        // Whoever is no resource at all is no member either, now and later.
        (vec![("remove", vec![2, 200])], vec![], vec![2], true),
    ] {
        let values = |numbers: &[u8]| -> Vec<Value> {
            numbers.iter().map(|number| json!({"value": id(*number).to_string()})).collect()
        };
        let ids = |numbers: Vec<u8>| numbers.into_iter().map(id).collect();
        let what = format!("{operations:?}");
        let operations: Vec<Value> = operations
            .iter()
            .map(|(op, numbers)| json!({"op": op, "path": "members", "value": values(numbers)}))
            .collect();
        let write = given.written(&patch(9, operations.into()));
        assert_eq!(write.kind, Kind::MembersChanged { added: ids(added), removed: ids(removed) }, "{what}");
        assert_eq!((write.guard, write.beyond_guards), (Guard::None, beyond_guards), "{what}");
    }
    let nobody = json!([{"op": "remove", "path": "members", "value": [{"value": "x"}, {"value": id(2)}]}]);
    assert!(!given.written(&patch(9, nobody)).beyond_guards);
}

#[test]
fn everything_else_about_members_is_guarded() {
    let given = given("Group").user(1, "ada", 1).team(&[2]);
    let write = given.written(&patch(
        9,
        json!([{"op": "replace", "path": "members", "value": [{"value": id(1).to_string()}]}]),
    ));
    assert_eq!(write.guard, Guard::Last(7));
    assert_eq!(write.kind, Kind::MembersChanged { added: vec![id(1)], removed: vec![id(2)] });
    let write = given.written(&patch(
        9,
        json!([
            {"op": "replace", "path": "displayName", "value": "Crew"},
            {"op": "add", "path": "members", "value": [{"value": id(1).to_string()}]},
        ]),
    ));
    assert_eq!(write.kind, Kind::Updated { members_added: vec![id(1)], members_removed: vec![] });
    assert_eq!(write.guard, Guard::Last(7));
}

/// RFC 7644 §3.5.2.2: the values that a filter selects go, and a filter sees a member as clients do.
#[test]
fn members_are_selected_by_what_is_shown_of_them() {
    let given = given("Group").team(&[1, 2, 7]);
    for (filter, removed, beyond_guards) in [
        ("type eq \"User\"".to_string(), vec![1, 2], true),
        ("type ne \"user\"".to_string(), vec![7], true),
        ("not (type eq \"Group\")".to_string(), vec![1, 2], true),
        ("display eq \"Number 2\"".to_string(), vec![2], true),
        ("display ne \"Number 2\"".to_string(), vec![1, 7], true),
        ("display sw \"num\"".to_string(), vec![1, 2, 7], true),
        ("type pr and display ew \"7\"".to_string(), vec![7], true),
        (format!("$ref eq \"https://x.test/Users/{}\"", id(1)), vec![1], true),
        ("not ($ref sw \"https://x.test/Users\")".to_string(), vec![7], true),
        (format!("value eq \"{}\" and type eq \"User\"", id(2)), vec![2], true),
        (format!("value ne \"{}\"", id(2)), vec![1, 7], false),
        (format!("value eq \"{}\" or value eq \"{}\"", id(1), id(7)), vec![1, 7], false),
        ("value pr".to_string(), vec![1, 2, 7], false),
    ] {
        let operations = json!([{"op": "remove", "path": format!("members[{filter}]")}]);
        let write = given.written(&patch(9, operations));
        let removed = removed.into_iter().map(id).collect();
        assert_eq!(write.kind, Kind::MembersChanged { added: vec![], removed }, "{filter}");
        assert_eq!((write.guard, write.beyond_guards), (Guard::Last(7), beyond_guards), "{filter}");
    }
    for filter in ["display pr and type eq \"Robot\"", "type ne \"user\" and type ne \"group\""] {
        let operations = json!([{"op": "remove", "path": format!("members[{filter}]")}]);
        assert_eq!(given.when(&patch(9, operations)).unwrap(), Decision::Nothing, "{filter}");
    }
    // Whom another operation names at the same time is the same one.
    let again = json!([
        {"op": "remove", "path": "members[type eq \"Group\"]"},
        {"op": "add", "path": "members", "value": [{"value": id(1).to_string()}]},
    ]);
    let kind = Kind::MembersChanged { added: vec![], removed: vec![id(7)] };
    assert_eq!(given.written(&patch(9, again)).kind, kind);
}

#[test]
fn nobody_is_a_member_of_itself() {
    let given = given("Group").user(1, "ada", 1).team(&[2]);
    let own = json!([{"value": id(1).to_string()}, {"value": id(9).to_string()}]);
    let body = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Team", "members": own});
    for command in [
        patch(9, json!([{"op": "add", "path": "members", "value": own}])),
        patch(9, json!([{"op": "replace", "path": "members", "value": own}])),
        patch(9, json!([{"op": "replace", "value": {"displayName": "Crew", "members": own}}])),
        Command::Replace { id: id(9), expected: Expected::default(), body },
    ] {
        let refused = given.when(&command).unwrap_err();
        assert!(
            matches!(&refused, Rejection::Invalid(error) if error.scim_type == Some(ScimType::InvalidValue)),
            "{command:?}: {refused:?}"
        );
    }
    let leaves = patch(9, json!([{"op": "remove", "path": "members", "value": own}]));
    assert_eq!(given.when(&leaves).unwrap(), Decision::Nothing);
}
