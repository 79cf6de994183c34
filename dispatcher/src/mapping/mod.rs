//! How an app calls what the directory knows: for each attribute at the app an expression, or always the same. Read and
//! checked once, when the configuration is read. Pure.

mod check;
mod expression;
mod password;
mod unique;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use scim::{AttrPath, Attribute, Mutability, Object, Registry, Resolved, ResourceType, Type};
use serde::Deserialize;
use serde_json::Value;

use crate::scope::Needs;
pub(crate) use expression::Person;
use expression::{Evaluated, Expression};
pub(crate) use unique::Open;

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
    /// One of these, or the first with a number, that no other account has.
    Unique(Expression),
}

/// What an app should hold, as it calls it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mapped {
    pub(crate) attributes: Object,
    /// Said once, when the account is made.
    pub(crate) once: Object,
    /// What must be decided, because no other account may have the same.
    pub(crate) open: Vec<Open>,
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
                Source::Unique(expression) => {
                    let candidates = names(expression.candidates(&context)).map_err(wrong)?;
                    if !candidates.is_empty() {
                        let (path, create_only) = (target.path.clone(), target.create_only);
                        mapped.open.push(Open { path, candidates, create_only });
                        continue;
                    }
                    None
                }
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

    /// Whether no two accounts may have the same there.
    pub(crate) fn is_unique(&self, path: &AttrPath) -> bool {
        let unique = |target: &&Target| matches!(target.source, Source::Unique(_));
        self.targets.iter().filter(unique).any(|target| target.path == *path)
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
                    Source::Expression(expression) | Source::Unique(expression) => {
                        expression.text().to_string()
                    }
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
            if unique::candidates(expression.program().expression()).is_none() {
                (Source::Expression(expression), checked.needs)
            } else if rule.default.is_some() {
                return Err(format!(
                    "{0}(...) has no default: write it as the last candidate",
                    unique::UNIQUE
                ));
            } else {
                (Source::Unique(expression), checked.needs)
            }
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

/// The candidates that say something.
fn names(evaluated: Vec<Evaluated>) -> Result<Vec<String>, &'static str> {
    let mut names = Vec::new();
    for candidate in evaluated {
        match candidate {
            Evaluated::Value(Value::String(name)) if name.trim().is_empty() => {}
            Evaluated::Value(Value::String(name)) => names.push(name),
            Evaluated::Value(_) => return Err("has a candidate that is no text"),
            Evaluated::Nothing => {}
            Evaluated::Failed(why) => return Err(why),
        }
    }
    Ok(names)
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
pub(crate) fn set(object: &mut Object, path: &AttrPath, value: Value) {
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
mod tests;
