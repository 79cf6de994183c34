//! What holds for every filter, path, PATCH and body: chance looks for the one for which it does not.

#![cfg(test)]

use proptest::prelude::*;
use scim::validate::{self, Context};
use scim::{AttrPath, Dialect, Filter, FilterLimits, Object, Patch, Registry};
use serde_json::{Value, json};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

/// A filter as a test knows it.
#[derive(Clone, Debug)]
enum Expression {
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    Text(&'static str, &'static str, String),
    Active(&'static str, bool),
    Present(&'static str),
    /// `emails[type eq … and value co …]`
    Email(&'static str, String),
}

const TEXTS: [&str; 4] = ["userName", "nickName", "emails.value", "id"];

fn expression() -> impl Strategy<Value = Expression> {
    let op = prop::sample::select(vec!["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"]);
    let leaf = prop_oneof![
        (prop::sample::select(TEXTS.to_vec()), op, "[aAbB]{0,2}")
            .prop_map(|(name, op, text)| Expression::Text(name, op, text)),
        (prop::sample::select(vec!["eq", "ne"]), any::<bool>())
            .prop_map(|(op, value)| Expression::Active(op, value)),
        prop::sample::select(vec!["userName", "nickName", "emails", "active", "shoeSize"])
            .prop_map(Expression::Present),
        (prop::sample::select(vec!["work", "home"]), "[ab]{1,2}")
            .prop_map(|(kind, text)| Expression::Email(kind, text)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Or),
            inner.prop_map(|inner| Expression::Not(Box::new(inner))),
        ]
    })
}

fn user() -> impl Strategy<Value = Object> {
    let email = (prop::sample::select(vec!["work", "home", "other"]), "[aAbB]{1,3}");
    ("[aAbB]{1,3}", prop::option::of("[abB]{1,2}"), prop::option::of(any::<bool>()), prop::collection::vec(email, 0..3)).prop_map(
        |(name, nick, active, emails)| {
            let emails: Vec<Value> = emails.into_iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect();
            let all = json!({"schemas": [USER], "id": name.clone(), "userName": name, "nickName": nick, "active": active, "emails": emails});
            let Value::Object(all) = all else { unreachable!() };
            all.into_iter().filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|all| !all.is_empty())).collect()
        },
    )
}

impl Expression {
    fn text(&self) -> String {
        let join = |all: &[Self], word: &str| {
            all.iter().map(|one| format!("({})", one.text())).collect::<Vec<_>>().join(word)
        };
        match self {
            Self::And(all) => join(all, " and "),
            Self::Or(all) => join(all, " OR "),
            Self::Not(one) => format!("not ({})", one.text()),
            Self::Text(name, op, text) => format!("{name} {op} {}", json!(text)),
            Self::Active(op, value) => format!("active {op} {value}"),
            Self::Present(name) => format!("{name} pr"),
            Self::Email(kind, text) => {
                format!("emails[type eq {} and value co {}]", json!(kind), json!(text))
            }
        }
    }

    /// The plain reading of RFC 7644 §3.4.2.2, written a second time.
    fn holds(&self, user: &Object) -> bool {
        match self {
            Self::And(all) => all.iter().all(|one| one.holds(user)),
            Self::Or(all) => all.iter().any(|one| one.holds(user)),
            Self::Not(one) => !one.holds(user),
            Self::Text(name, op, wanted) => {
                let fold = |text: &str| if *name == "id" { text.to_string() } else { text.to_lowercase() };
                let values: Vec<String> = match *name {
                    "emails.value" => emails(user).into_iter().map(|(_, value)| fold(&value)).collect(),
                    name => user.get(name).and_then(Value::as_str).map(fold).into_iter().collect(),
                };
                let wanted = fold(wanted);
                let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|value| test(value));
                match *op {
                    "eq" => any(&|value| value == wanted),
                    "ne" => !any(&|value| value == wanted),
                    "co" => any(&|value| value.contains(&wanted)),
                    "sw" => any(&|value| value.starts_with(&wanted)),
                    "ew" => any(&|value| value.ends_with(&wanted)),
                    "gt" => any(&|value| *value > *wanted),
                    "ge" => any(&|value| *value >= *wanted),
                    "lt" => any(&|value| *value < *wanted),
                    _ => any(&|value| *value <= *wanted),
                }
            }
            Self::Active(op, wanted) => {
                let equal = user.get("active") == Some(&Value::Bool(*wanted));
                if *op == "eq" { equal } else { !equal }
            }
            Self::Present(name) => user.contains_key(*name),
            Self::Email(kind, text) => {
                emails(user).iter().any(|(found, value)| found == kind && value.to_lowercase().contains(text))
            }
        }
    }
}

fn emails(user: &Object) -> Vec<(String, String)> {
    let text = |email: &Value, name: &str| email[name].as_str().unwrap_or_default().to_string();
    let all = user.get("emails").and_then(Value::as_array).into_iter().flatten();
    all.map(|email| (text(email, "type"), text(email, "value"))).collect()
}

fn with<T>(dialect: Dialect, test: impl FnOnce(Context<'_>) -> T) -> T {
    let registry = Registry::built_in().unwrap();
    let kind = registry.by_name("User").unwrap();
    test(Context { registry: &registry, kind, speech: dialect.into() })
}

fn parse(text: &str) -> Result<Filter, scim::Error> {
    with(Dialect::Rfc, |context| {
        Filter::parse(text, &FilterLimits::default(), context.speech, context.registry, context.kind)
    })
}

/// One PATCH operation, sensible or not.
fn operation() -> impl Strategy<Value = Value> {
    let paths = vec![
        "userName",
        "nickName",
        "name",
        "name.givenName",
        "emails",
        "emails.value",
        "active",
        "title",
        "emails[type eq \"work\"]",
        "emails[type eq \"work\"].value",
        "emails[value co \"a\"].primary",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
        "roles",
        "addresses[primary eq true].locality",
    ];
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[aAb]{0,3}".prop_map(Value::from),
        Just(json!({"givenName": "G"})),
        Just(json!({"value": "a", "type": "work", "primary": true})),
        Just(json!([{"value": "a", "type": "work"}, {"value": "b", "primary": true}])),
        Just(json!({"department": "D", "manager": {"value": "1"}})),
        Just(json!({"nickName": "N", "emails": [{"value": "c"}], "name.familyName": "F"})),
        Just(json!([])),
    ];
    (
        prop::sample::select(vec!["add", "replace", "remove", "Replace"]),
        prop::option::weighted(0.9, prop::sample::select(paths)),
        prop::option::weighted(0.9, value),
    )
        .prop_map(|(op, path, value)| {
            let mut operation = json!({"op": op});
            if let Some(path) = path {
                operation["path"] = path.into();
            }
            if let Some(value) = value {
                operation["value"] = value;
            }
            operation
        })
}

fn patched(full: &Object, operations: &[Value]) -> Result<Object, scim::Error> {
    let body =
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
    with(Dialect::Rfc, |context| {
        Patch::parse(context, body, &FilterLimits::default())?.apply(context, "1", full.clone(), usize::MAX)
    })
}

fn document(user: &Object) -> Object {
    with(Dialect::Rfc, |context| validate::create(context, Value::Object(user.clone()))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_means_what_a_plain_reading_means(expression in expression(), user in user()) {
        let text = expression.text();
        let filter = parse(&text).unwrap();
        prop_assert_eq!(filter.matches(&user), expression.holds(&user), "{} on {}", text, Value::Object(user));
    }

    #[test]
    fn a_printed_filter_reads_the_same(expression in expression()) {
        let filter = parse(&expression.text()).unwrap();
        prop_assert_eq!(parse(&filter.to_string()).unwrap(), filter);
    }

    #[test]
    fn no_text_breaks_the_parsers(text in any::<String>(), parts in prop::collection::vec(
        prop::sample::select(vec!["userName", " ", "eq", "\"a\"", "(", ")", "[", "]", "not", "and", ".", ":", "urn:", "emails", "\\", "\"", "\u{0}", "é", "-1e999"]), 0..20)) {
        for text in [text, parts.concat()] {
            let _ = parse(&text);
            let _ = patched(&Object::new(), &[json!({"op": "add", "path": text, "value": "x"})]);
            with(Dialect::Rfc, |context| { let _ = AttrPath::parse(&text, context.registry); });
        }
    }

    #[test]
    fn what_a_patch_makes_is_a_valid_document(user in user(), operations in prop::collection::vec(operation(), 1..5)) {
        let full = document(&user);
        if let Ok(changed) = patched(&full, &operations) {
            let mut body = changed.clone();
            body.insert("schemas".to_string(), json!([USER]));
            prop_assert_eq!(document(&body), changed, "{}", json!(operations));
        }
    }

    #[test]
    fn adding_twice_is_adding_once(user in user(), operation in operation()) {
        let full = document(&user);
        if operation["op"] == "add"
            && let Ok(once) = patched(&full, std::slice::from_ref(&operation))
        {
            prop_assert_eq!(patched(&once, std::slice::from_ref(&operation)).unwrap(), once, "{}", operation);
        }
    }

    #[test]
    fn replacing_with_what_is_there_changes_nothing(user in user()) {
        let full = document(&user);
        let operation = json!({"op": "replace", "value": full});
        prop_assert_eq!(patched(&full, &[operation]).unwrap(), full);
    }
}
