//! What mappings say, and which of their mistakes are found at the start.

use super::*;
use serde_json::json;

fn mapping(rules: Value) -> Result<Mapping, Vec<String>> {
    let registry = Registry::built_in().unwrap();
    let kind = registry.by_name("User").unwrap();
    let rule = |value: &Value| match value.as_str() {
        Some(text) => MapRule { value: Some(text.to_string()), ..MapRule::default() },
        None => serde_json::from_value(value.clone()).unwrap(),
    };
    let rules = rules.as_object().unwrap().iter().map(|(name, value)| (name.clone(), rule(value)));
    let mut mapping = Mapping::default();
    mapping.choose(&registry, kind, &rules.collect()).map(|()| mapping)
}

fn mapped(rules: Value) -> Result<Mapped, String> {
    let user = json!({
        "userName": "Ada@Example.test", "title": "Dr", "name": {"givenName": "Ada", "familyName": "Lovelace"},
        "emails": [{"value": "home@x.test", "type": "home"}, {"value": "ada@x.test", "type": "work"}],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "R&D"},
    });
    let user = user.as_object().unwrap().clone();
    let person = Person { resource: &user, groups: &["VPN".to_string()], app: "wiki" };
    mapping(rules).unwrap().of("User").unwrap().map(&person)
}

#[track_caller]
fn check(rule: Value, expected: Value) {
    let found = mapped(json!({"userName": "user.userName", "nickName": rule})).unwrap();
    assert_eq!(found.attributes.get("nickName").cloned().unwrap_or_default(), expected);
}

#[test]
fn expressions_constants_and_defaults() {
    check(json!("user.userName.lowerAscii()"), json!("ada@example.test"));
    check(json!("user.emails.filter(e, e.type == 'work')[0].value"), json!("ada@x.test"));
    check(
        json!("user['urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'].department"),
        json!("R&D"),
    );
    check(json!("'VPN' in groups ? 'in' : 'out'"), json!("in"));
    check(
        json!("has(user.displayName) ? user.displayName : user.name.givenName + ' ' + user.name.familyName"),
        json!("Ada Lovelace"),
    );
    check(json!("app.name + '/' + string(size(user.emails))"), json!("wiki/2"));
    check(json!("user.userName.split('@')[0].matches('^[A-Z]') ? 'big' : 'small'"), json!("big"));
    check(json!({"constant": "fixed"}), json!("fixed"));
    check(json!("user.displayName"), json!(null));
    check(json!("user.phoneNumbers[0].value"), json!(null));
    check(json!({"value": "user.displayName", "default": "nobody"}), json!("nobody"));
}

#[test]
fn what_is_said_once_is_said_apart_and_what_ends_is_told() {
    let found = mapped(json!({
        "userName": "user.userName",
        "name.givenName": "user.name.givenName",
        "title": {"value": "user.title", "create_only": true},
        "displayName": "user.displayName",
        "locale": {"value": "user.locale", "on_null": "leave"},
    }));
    let expected = Mapped {
        attributes: json!({
            "userName": "Ada@Example.test", "name": {"givenName": "Ada"}, "displayName": null
        })
        .as_object()
        .unwrap()
        .clone(),
        once: json!({"title": "Dr"}).as_object().unwrap().clone(),
        open: Vec::new(),
    };
    assert_eq!(found, Ok(expected));
}

#[test]
fn a_password_is_made_up_when_an_account_is_made_and_stands_nowhere_else() {
    let rules = json!({
        "userName": "user.userName", "password": {"value": "generate_password()", "create_only": true}
    });
    let found = mapped(rules.clone()).unwrap();
    assert!(found.once.is_empty() && !found.attributes.contains_key("password"), "{found:?}");
    let mapping = mapping(rules).unwrap();
    let said = |own: &crate::profile::Type| {
        let mut said = found.attributes.clone();
        let random = || Ok::<_, ()>(std::array::from_fn(|place| u8::try_from(place * 3).unwrap()));
        mapping.of("User").unwrap().add_passwords(own, &mut said, random).unwrap();
        said.remove("password")
    };
    assert!(said(&crate::profile::Type::default()).is_some_and(|password| password.is_string()));
    let dropped = vec!["password".to_string()];
    assert_eq!(said(&crate::profile::Type { dropped, ..crate::profile::Type::default() }), None);
}

#[test]
fn what_must_be_the_only_one_is_left_open() {
    let found = mapped(json!({
        "userName": "unique(user.name.givenName.lowerAscii() + '.' + user.name.familyName.lowerAscii(), user.displayName, ' ', 'x')",
        "nickName": {"value": "unique(user.title)", "create_only": true},
        "title": "unique(user.displayName)",
    }))
    .unwrap();
    let open: Vec<(String, Vec<&str>, bool)> = (found.open.iter())
        .map(|open| (open.name(), open.candidates.iter().map(String::as_str).collect(), open.create_only))
        .collect();
    let expected = [
        ("nickName".to_string(), vec!["Dr"], true),
        ("userName".to_string(), vec!["ada.lovelace", "x"], false),
    ];
    assert_eq!(open, expected);
    assert_eq!(Value::Object(found.attributes), json!({"title": null}), "who has no candidate has no value");
    assert!(found.once.is_empty());
    let wrong = mapped(json!({"userName": "unique(user.userName + 1)"}));
    assert_eq!(wrong, Err("the mapping of userName cannot be evaluated".to_string()));
}

#[test]
fn a_failure_names_the_attribute_and_no_value() {
    let check = |rule: Value, expected: &str| {
        let found = mapped(json!({"userName": "user.userName", "nickName": rule}));
        assert_eq!(found, Err(expected.to_string()));
    };
    check(json!("user.userName + 1"), "the mapping of nickName cannot be evaluated");
    check(json!("size(user.emails)"), "the mapping of nickName gives what is not string");
    check(json!({"value": "user.displayName", "on_null": "hold"}), "the mapping of nickName gives no value");
}

#[test]
fn mistakes_are_found_at_the_start() {
    #[track_caller]
    fn check(name: &str, rule: Value, expected: &str) {
        let mut rules = json!({"userName": "user.userName"});
        rules[name] = rule;
        let mistakes = mapping(rules).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(
            mistakes[0].starts_with(&format!("{name}: ")) && mistakes[0].contains(expected),
            "{mistakes:?}"
        );
    }
    check("shoe", json!("user.title"), "is no attribute of a User");
    check("id", json!("user.title"), "is rollcall's to say");
    check("emails.value", json!("user.title"), "holds several values");
    check("title", json!("user.titel"), "\"titel\" is no attribute of a User");
    check("title", json!("user.Title"), "is written \"title\"");
    check("title", json!("user.name.first"), "\"first\" is no part of name");
    check("title", json!("user.emails.value"), "emails holds several");
    check(
        "title",
        json!("user.emails.filter(e, e.kind == 'work')[0].value"),
        "\"kind\" is no part of emails",
    );
    check("title", json!("user['urn:x'].y"), "\"urn:x\" is no attribute of a User");
    check("title", json!("person.title"), "\"person\" is not known");
    check("title", json!("user.title.shout()"), "there is no function \"shout\"");
    check("title", json!("user.title +"), "cannot be read");
    check("title", json!("user.active"), "the expression gives boolean, and it holds string");
    check("active", json!("user.title == 'x' ? 'a' : 'b'"), "gives string, and it holds boolean");
    check("title", json!({"constant": 7}), "gives what is not string");
    check("title", json!({}), "needs one of value and constant");
    check("title", json!("x".repeat(2000)), "longer than");
    check("title", json!(format!("{}1{}", "(".repeat(40), ")".repeat(40))), "deeper than");
    check("title", json!("user.emails.map(e, user.emails.map(f, f.value))"), "within");
    check("password", json!("generate_password()"), "said once: write create_only = true");
    let once = |text: &str| json!({"value": text, "create_only": true});
    check("password", once("generate_password() + 'x'"), "generate_password() stands alone");
    check("emails", once("generate_password()"), "gives string, and it holds complex");
    check("title", json!("unique()"), "names no candidate");
    check("title", json!("unique(user.title, user.active)"), "a candidate of unique gives boolean");
    check("title", json!("unique(user.title) + 'x'"), "unique() stands alone");
    check("title", json!("unique(user.titel)"), "\"titel\" is no attribute of a User");
    check("active", json!("unique(user.title)"), "gives string, and it holds boolean");
    check("title", json!({"value": "unique(user.title)", "default": "x"}), "the last candidate");
    let mistakes = mapping(json!({"title": "user.title"})).unwrap_err();
    assert_eq!(mistakes, ["userName: a User needs it, and nothing says what it is"]);
}

#[test]
fn what_an_expression_asks_for_is_known() {
    let needs = |text: &str| mapping(json!({"userName": text})).unwrap().needs();
    assert_eq!(needs("user.userName"), Needs::default());
    let groups = Needs { groups: true, group_names: true, ..Needs::default() };
    assert_eq!(needs("'VPN' in groups ? 'a' : 'b'"), groups);
    assert_eq!(needs("user.groups[0].display"), groups);
    let urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
    assert!(needs(&format!("user['{urn}'].manager.displayName")).named);
}
