//! How an app calls what the directory knows: for each attribute at the app an expression, or always the same. Read and
//! checked once, when the configuration is read. Pure.

mod check;
mod expression;
mod password;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use scim::{AttrPath, Attribute, Mutability, Object, Registry, Resolved, ResourceType, Type};
use serde::Deserialize;
use serde_json::Value;

use crate::scope::Needs;
pub(crate) use expression::Person;
use expression::{Evaluated, Expression};

/// How an app calls what the directory knows, by resource type. A type that is not named is called as the directory
/// calls it.
#[derive(Clone, Debug, Default)]
pub struct Mapping(BTreeMap<String, Arc<TypeMapping>>);

impl PartialEq for Mapping {
    /// Written out it is everything that decides what an app is told; the hash of a configuration is made of it.
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// What is said of one attribute.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapRule {
    /// An expression of the Common Expression Language.
    pub value: Option<String>,
    /// Always this.
    pub constant: Option<Value>,
    /// Instead of no value.
    pub default: Option<Value>,
    /// Said when the account is made, and never again.
    #[serde(default)]
    pub create_only: bool,
    /// What becomes of the attribute when there is no value.
    #[serde(default)]
    pub on_null: OnNull,
}

/// What becomes of an attribute at the app that has no value here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNull {
    /// It has none there, either.
    #[default]
    Clear,
    /// What is there stays.
    Leave,
    /// A person must look.
    Hold,
}

/// The mapping of one resource type.
#[derive(Debug)]
pub(crate) struct TypeMapping {
    targets: Vec<Target>,
    pub(crate) needs: Needs,
}

/// One attribute at the app.
#[derive(Debug)]
struct Target {
    path: AttrPath,
    kind: Type,
    multi_valued: bool,
    source: Source,
    default: Option<Value>,
    create_only: bool,
    on_null: OnNull,
}

#[derive(Debug)]
enum Source {
    Expression(Expression),
    Constant(Value),
    /// Made up when the account is made.
    Password,
}

/// What an app should hold, as it calls it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mapped {
    pub(crate) attributes: Object,
    /// Said once, when the account is made.
    pub(crate) once: Object,
}

impl Mapping {
    /// Adds a type. All that is wrong is said, each in a sentence that begins with the attribute.
    pub fn choose(
        &mut self,
        registry: &Registry,
        kind: &ResourceType,
        rules: &BTreeMap<String, MapRule>,
    ) -> Result<(), Vec<String>> {
        let (mut targets, mut mistakes, mut needs) = (Vec::new(), Vec::new(), Needs::default());
        for (text, rule) in rules {
            match target(registry, kind, text, rule) {
                Ok((target, more)) => {
                    needs = needs.and(more);
                    targets.push(target);
                }
                Err(why) => mistakes.push(format!("{text}: {why}")),
            }
        }
        let named =
            |attribute: &Attribute| targets.iter().any(|target: &Target| target.path.is(&attribute.name));
        let required = registry.core(kind).iter().filter(|attribute| attribute.required && !named(attribute));
        let missing: Vec<String> = required
            .filter(|attribute| !rules.keys().any(|text| text.eq_ignore_ascii_case(&attribute.name)))
            .map(|attribute| {
                format!("{}: a {} needs it, and nothing says what it is", attribute.name, kind.name)
            })
            .collect();
        mistakes.extend(missing);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        self.0.insert(kind.name.clone(), Arc::new(TypeMapping { targets, needs }));
        Ok(())
    }

    /// The mapping of a type, if there is one.
    pub(crate) fn of(&self, kind: &str) -> Option<&Arc<TypeMapping>> {
        self.0.get(kind)
    }

    /// What is needed of any type.
    pub(crate) fn needs(&self) -> Needs {
        self.0.values().fold(Needs::default(), |needs, mapping| needs.and(mapping.needs))
    }
}

impl TypeMapping {
    /// Whether the app must be told of single attributes only, because others are its own.
    pub(crate) fn is_partial(&self) -> bool {
        self.targets.iter().any(|target| target.create_only || target.on_null == OnNull::Leave)
    }

    /// What the app should hold of somebody. What cannot be said is an error that names the attribute and no value.
    pub(crate) fn map(&self, person: &Person<'_>) -> Result<Mapped, String> {
        let mut mapped = Mapped::default();
        let context = person.context();
        for target in &self.targets {
            let wrong = |why: &str| format!("the mapping of {} {why}", target.path);
            let value = match &target.source {
                Source::Constant(value) => Some(value.clone()),
                Source::Password => continue,
                Source::Expression(expression) => match expression.evaluate(&context) {
                    Evaluated::Value(value) => Some(value),
                    Evaluated::Nothing => None,
                    Evaluated::Failed(why) => return Err(wrong(why)),
                },
            };
            let value = value.or_else(|| target.default.clone());
            if let Some(value) = &value {
                fits(value, target.kind, target.multi_valued).map_err(|why| wrong(&why))?;
            }
            let object = if target.create_only { &mut mapped.once } else { &mut mapped.attributes };
            match (value, target.on_null) {
                (Some(value), _) => set(object, &target.path, value),
                (None, OnNull::Hold) => return Err(wrong("gives no value")),
                // Where single attributes are told, a value that ends must be told, too.
                (None, OnNull::Clear) if self.is_partial() && !target.create_only => {
                    set(object, &target.path, Value::Null);
                }
                (None, OnNull::Clear | OnNull::Leave) => {}
            }
        }
        Ok(mapped)
    }

    /// Whether the mapping says what an attribute, or a part of it, is.
    pub(crate) fn says(&self, path: &AttrPath) -> bool {
        let within = |target: &AttrPath| {
            target.schema == path.schema
                && target.name == path.name
                && (target.sub == path.sub || target.sub.is_none())
        };
        self.targets.iter().any(|target| within(&target.path))
    }

    /// Whether the mapping says whether an account is switched on.
    pub(crate) fn says_active(&self) -> bool {
        self.targets.iter().any(|target| target.path.is("active"))
    }
}

/// As the configuration's hash has it.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, mapping) in &self.0 {
            write!(f, "{kind}:")?;
            for Target { path, source, default, create_only, on_null, .. } in &mapping.targets {
                let text = match source {
                    Source::Expression(expression) => expression.text().to_string(),
                    Source::Constant(value) => format!("={value}"),
                    Source::Password => password::GENERATE.to_string(),
                };
                write!(f, "{path} {text:?} {default:?} {create_only} {on_null:?};")?;
            }
        }
        Ok(())
    }
}

fn target(
    registry: &Registry,
    kind: &ResourceType,
    text: &str,
    rule: &MapRule,
) -> Result<(Target, Needs), String> {
    let path = AttrPath::parse(text, registry)?;
    let Some(Resolved::Attribute { attribute, sub, .. }) = registry.resolve(kind, &path) else {
        return Err(format!("is no attribute of a {}", kind.name));
    };
    if path.is("externalId") || path.is("members") || attribute.mutability == Mutability::ReadOnly {
        return Err("is rollcall's to say".to_string());
    }
    if sub.is_some() && attribute.multi_valued {
        return Err(format!("{} holds several values: say all of them", attribute.name));
    }
    let of = sub.unwrap_or(attribute);
    let path = registry.canonical(kind, &path).ok_or("is no attribute")?;
    let (source, needs) = match (&rule.value, &rule.constant) {
        (Some(text), None) if password::is_asked_for(text) => {
            if !rule.create_only || rule.default.is_some() {
                let name = password::GENERATE;
                return Err(format!("{name}() is said once: write create_only = true, and no default"));
            }
            if of.kind != Type::String || of.multi_valued {
                return Err(format!("the expression gives string, and it holds {}", of.kind.as_str()));
            }
            (Source::Password, Needs::default())
        }
        (Some(text), None) => {
            let (expression, checked) = check::checked(registry, kind, text)?;
            if let Some(given) = checked.gives
                && !given.fits(of)
            {
                return Err(format!(
                    "the expression gives {}, and it holds {}",
                    given.name(),
                    of.kind.as_str()
                ));
            }
            (Source::Expression(expression), checked.needs)
        }
        (None, Some(value)) => (Source::Constant(value.clone()), Needs::default()),
        (_, _) => return Err("needs one of value and constant".to_string()),
    };
    for value in rule.constant.iter().chain(&rule.default) {
        fits(value, of.kind, of.multi_valued)?;
    }
    let MapRule { default, create_only, on_null, .. } = rule.clone();
    if create_only && on_null == OnNull::Leave {
        return Err("create_only leaves it alone afterwards anyway; leave on_null out".to_string());
    }
    let (kind, multi_valued) = (of.kind, of.multi_valued);
    Ok((Target { path, kind, multi_valued, source, default, create_only, on_null }, needs))
}

/// Whether a value is of a type.
fn fits(value: &Value, kind: Type, multi_valued: bool) -> Result<(), String> {
    if multi_valued {
        let Some(values) = value.as_array() else {
            return Err("gives one value where a list is due".to_string());
        };
        return values.iter().try_for_each(|value| fits(value, kind, false));
    }
    let is_right = match kind {
        Type::String | Type::DateTime | Type::Binary | Type::Reference => value.is_string(),
        Type::Boolean => value.is_boolean(),
        Type::Decimal => value.is_number(),
        Type::Integer => value.is_i64() || value.is_u64(),
        Type::Complex => value.is_object(),
    };
    if is_right { Ok(()) } else { Err(format!("gives what is not {}", kind.as_str())) }
}

/// Writes a value at a path.
fn set(object: &mut Object, path: &AttrPath, value: Value) {
    let names = [&path.schema, &path.name, &path.sub].into_iter().flatten();
    let mut names: Vec<&String> = names.collect();
    let Some(last) = names.pop() else { return };
    let mut object = object;
    for name in names {
        let inner = object.entry(name.clone()).or_insert_with(|| Object::new().into());
        if !inner.is_object() {
            *inner = Object::new().into();
        }
        let Some(inner) = inner.as_object_mut() else { return };
        object = inner;
    }
    object.insert(last.clone(), value);
}

#[cfg(test)]
mod tests {
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
            json!(
                "has(user.displayName) ? user.displayName : user.name.givenName + ' ' + user.name.familyName"
            ),
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
    fn a_failure_names_the_attribute_and_no_value() {
        let check = |rule: Value, expected: &str| {
            let found = mapped(json!({"userName": "user.userName", "nickName": rule}));
            assert_eq!(found, Err(expected.to_string()));
        };
        check(json!("user.userName + 1"), "the mapping of nickName cannot be evaluated");
        check(json!("size(user.emails)"), "the mapping of nickName gives what is not string");
        check(
            json!({"value": "user.displayName", "on_null": "hold"}),
            "the mapping of nickName gives no value",
        );
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
}
