//! The filter grammar by recursive descent, with limits on length, depth and terms.

use serde_json::Value;

use super::{Filter, FilterLimits, Op, Rule};
use crate::quirk::boolean;
use crate::{
    AttrPath, Attribute, Error, Quirk, Registry, Resolved, ResourceType, Returned, ScimType, Speech, Type,
};

/// Reads a filter that is the whole text.
pub(super) fn whole(
    text: &str,
    limits: &FilterLimits,
    speech: Speech<'_>,
    registry: &Registry,
    kind: &ResourceType,
) -> Result<Filter, Error> {
    if text.len() > limits.length_bytes_max {
        return Err(bad(format!("the filter is longer than {} bytes", limits.length_bytes_max)));
    }
    let mut parser = Parser { text, at: 0, terms: 0, limits, speech, scope: Scope::Type(registry, kind) };
    let filter = parser.or(0)?;
    parser.spaces();
    if parser.at < text.len() {
        return Err(parser.unexpected("the end of the filter, `and` or `or`"));
    }
    Ok(filter)
}

/// The bracketed filter of a PATCH path, and where it ends.
pub(crate) struct PathFilter {
    /// The filter over one value.
    pub(crate) filter: Filter,
    /// The rest of the path, after the bracket.
    pub(crate) rest: usize,
}

impl PathFilter {
    /// Reads from just after the opening bracket at `at`.
    pub(crate) fn parse(
        text: &str,
        at: usize,
        limits: &FilterLimits,
        speech: Speech<'_>,
        attribute: &Attribute,
    ) -> Result<Self, Error> {
        let mut parser = Parser { text, at, terms: 0, limits, speech, scope: Scope::Value(Some(attribute)) };
        let filter = parser.or(0)?;
        parser.spaces();
        if !parser.eat(']') {
            return Err(parser.unexpected("a closing bracket"));
        }
        Ok(Self { filter, rest: parser.at })
    }
}

/// Where names are looked up.
#[derive(Clone, Copy)]
enum Scope<'a> {
    Type(&'a Registry, &'a ResourceType),
    /// Inside the brackets of this attribute; nothing when the type has no such attribute.
    Value(Option<&'a Attribute>),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    terms: usize,
    limits: &'a FilterLimits,
    speech: Speech<'a>,
    scope: Scope<'a>,
}

fn bad(detail: impl Into<String>) -> Error {
    Error::new(ScimType::InvalidFilter, detail)
}

impl<'a> Parser<'a> {
    fn or(&mut self, depth: usize) -> Result<Filter, Error> {
        self.list(depth, "or", Self::and, Filter::Or)
    }

    fn and(&mut self, depth: usize) -> Result<Filter, Error> {
        self.list(depth, "and", Self::term, Filter::And)
    }

    fn list(
        &mut self,
        depth: usize,
        word: &str,
        part: fn(&mut Self, usize) -> Result<Filter, Error>,
        join: fn(Vec<Filter>) -> Filter,
    ) -> Result<Filter, Error> {
        let first = part(self, depth)?;
        if !self.keyword(word) {
            return Ok(first);
        }
        let mut parts = vec![first, part(self, depth)?];
        while self.keyword(word) {
            parts.push(part(self, depth)?);
        }
        Ok(join(parts))
    }

    fn term(&mut self, depth: usize) -> Result<Filter, Error> {
        if depth >= self.limits.depth_max {
            return Err(bad(format!("the filter is nested deeper than {}", self.limits.depth_max)));
        }
        self.spaces();
        let start = self.at;
        if self.keyword("not") {
            self.spaces();
            if self.eat('(') {
                return Ok(Filter::Not(Box::new(self.group(depth)?)));
            }
            self.at = start;
        }
        if self.eat('(') {
            return self.group(depth);
        }
        self.terms += 1;
        if self.terms > self.limits.terms_max {
            return Err(bad(format!("the filter has more than {} comparisons", self.limits.terms_max)));
        }
        self.expression(depth)
    }

    fn group(&mut self, depth: usize) -> Result<Filter, Error> {
        let inner = self.or(depth + 1)?;
        self.spaces();
        if self.eat(')') { Ok(inner) } else { Err(self.unexpected("a closing parenthesis")) }
    }

    fn expression(&mut self, depth: usize) -> Result<Filter, Error> {
        let word = self.path_text();
        if word.is_empty() {
            return Err(self.unexpected("an attribute path"));
        }
        let (path, attribute) = self.look_up(word)?;
        if self.eat('[') {
            return self.values(depth, path, attribute);
        }
        self.comparison(path, attribute)
    }

    /// `attr[filter]`, and Entra's `attr[filter].sub op value`: the comparison joins the filter over the same value.
    fn values(
        &mut self,
        depth: usize,
        path: AttrPath,
        attribute: Option<&'a Attribute>,
    ) -> Result<Filter, Error> {
        if matches!(self.scope, Scope::Value(_)) {
            return Err(bad("brackets must not stand inside brackets"));
        }
        let simple = attribute.is_some_and(|attribute| attribute.kind != Type::Complex || path.sub.is_some());
        if simple || path.name.is_none() {
            return Err(bad(format!("{path} is not a complex attribute, so no filter can follow it")));
        }
        let outer = std::mem::replace(&mut self.scope, Scope::Value(attribute));
        let mut filter = self.or(depth + 1)?;
        self.spaces();
        if !self.eat(']') {
            return Err(self.unexpected("a closing bracket"));
        }
        if self.eat('.') {
            let word = self.path_text();
            let (sub, rule) = self.look_up(word)?;
            filter = Filter::And(vec![filter, self.comparison(sub, rule)?]);
        }
        self.scope = outer;
        Ok(match attribute {
            Some(_) => Filter::Values { path, filter: Box::new(filter) },
            // RFC 7644 §3.4.2.1: an attribute that the type does not have has no value, and nothing equals it.
            None => Filter::Compare { path, op: Op::Eq, value: true.into(), rule: None },
        })
    }

    fn comparison(&mut self, path: AttrPath, attribute: Option<&Attribute>) -> Result<Filter, Error> {
        if attribute.is_some_and(|attribute| attribute.returned == Returned::Never) {
            return Err(bad(format!("{path} cannot be asked for")));
        }
        self.spaces();
        let word = self.letters();
        if word.eq_ignore_ascii_case("pr") {
            let base = matches!(self.scope, Scope::Type(_, kind) if path.is_whole(&kind.schema));
            // Each resource has something of its base schema, and an id.
            return Ok(Filter::Present(if base { AttrPath::of("id") } else { path }));
        }
        let Some(op) = Op::ALL.into_iter().find(|op| op.as_str().eq_ignore_ascii_case(word)) else {
            self.at -= word.len();
            return Err(self.unexpected("an operator: eq, ne, co, sw, ew, gt, ge, lt, le or pr"));
        };
        self.spaces();
        let value = self.constant()?;
        let rule = attribute.map(Rule::of);
        let value = match rule {
            Some(rule) => self.suited(&path, rule, op, value)?,
            None => value,
        };
        Ok(Filter::Compare { path, op, value, rule })
    }

    /// Whether the operator and the constant suit the attribute's type.
    fn suited(&self, path: &AttrPath, rule: Rule, op: Op, value: Value) -> Result<Value, Error> {
        if value.is_null() {
            return match op {
                Op::Eq | Op::Ne => Ok(value),
                Op::Co | Op::Sw | Op::Ew | Op::Gt | Op::Ge | Op::Lt | Op::Le => {
                    Err(bad(format!("{path} {} null has no meaning", op.as_str())))
                }
            };
        }
        let value = match (rule.kind, value) {
            (Type::Boolean, Value::String(text)) => match boolean(&text) {
                Some(value) if self.speech.forgives(Quirk::BooleanAsTextInFilter) => value.into(),
                Some(_) | None => text.into(),
            },
            (_, value) => value,
        };
        let ordered = matches!(op, Op::Gt | Op::Ge | Op::Lt | Op::Le);
        let partial = matches!(op, Op::Co | Op::Sw | Op::Ew);
        let (suits, wanted) = match rule.kind {
            Type::String | Type::Reference => (value.is_string(), "a string"),
            Type::Binary => (value.is_string() && !ordered && !partial, "eq, ne or pr with a string"),
            Type::Boolean => (value.is_boolean() && !ordered && !partial, "eq, ne or pr with true or false"),
            Type::Decimal | Type::Integer => (value.is_number() && !partial, "a number"),
            Type::DateTime => (
                value.as_str().is_some_and(|text| crate::compare::instant(text).is_some()) && !partial,
                "an order operator with an instant such as \"2026-01-31T12:00:00Z\"",
            ),
            Type::Complex => (false, "a sub-attribute"),
        };
        if suits {
            Ok(value)
        } else {
            Err(bad(format!(
                "{path} is of type {}: {} {value} does not suit it, it takes {wanted}",
                rule.kind.as_str(),
                op.as_str()
            )))
        }
    }

    fn look_up(&self, word: &str) -> Result<(AttrPath, Option<&'a Attribute>), Error> {
        match self.scope {
            Scope::Type(registry, kind) => {
                let mut path = AttrPath::parse(word, registry).map_err(bad)?;
                let mut found = registry.resolve(kind, &path);
                if found.is_none()
                    && path.schema.is_none()
                    && let Some(extended @ Resolved::Attribute { extension: Some(schema), .. }) =
                        registry.in_extensions(kind, &path)
                    && self.speech.forgives(Quirk::UrnMissing)
                {
                    path.schema = Some(schema.id.clone());
                    found = Some(extended);
                }
                match found {
                    None => Ok((path, None)),
                    Some(Resolved::Extension(schema)) => {
                        Ok((AttrPath { schema: Some(schema.id.clone()), name: None, sub: None }, None))
                    }
                    // What nobody is shown must not be found out part by part either.
                    Some(Resolved::Attribute { attribute, .. }) if attribute.returned == Returned::Never => {
                        Err(bad(format!("{path} cannot be asked for")))
                    }
                    Some(Resolved::Attribute { attribute, sub, .. }) => {
                        let canonical = registry.canonical(kind, &path).unwrap_or(path);
                        Ok((canonical, Some(sub.unwrap_or(attribute))))
                    }
                }
            }
            Scope::Value(attribute) => {
                if !crate::path::is_name(word) {
                    let of = attribute.map_or("the attribute", |attribute| &attribute.name);
                    return Err(bad(format!("{word:?} is not a sub-attribute of {of}")));
                }
                let Some(attribute) = attribute else { return Ok((AttrPath::of(word), None)) };
                match attribute.sub(word) {
                    Some(sub) => Ok((AttrPath::of(&sub.name), Some(sub))),
                    // A simple value is its own `value`.
                    None if attribute.kind != Type::Complex && word.eq_ignore_ascii_case("value") => {
                        Ok((AttrPath::of("value"), Some(attribute)))
                    }
                    None => Ok((AttrPath::of(word), None)),
                }
            }
        }
    }

    fn constant(&mut self) -> Result<Value, Error> {
        let rest = self.rest();
        if rest.starts_with('"') {
            let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            if let Some(Ok(text)) = stream.next() {
                self.at += stream.byte_offset();
                return Ok(Value::String(text));
            }
        } else {
            let start = self.at;
            let word =
                self.take(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'));
            if let Ok(value) = serde_json::from_str(word) {
                return Ok(value);
            }
            self.at = start;
            let ends = |letter: char| letter.is_whitespace() || matches!(letter, '(' | ')' | '[' | ']' | '"');
            let word = self.take(|letter| !ends(letter));
            if !(word.is_empty() || word.starts_with('\''))
                && self.speech.forgives(Quirk::TextUnquotedInFilter)
            {
                return Ok(word.into());
            }
            self.at = start;
        }
        Err(self.unexpected("a value: a string in double quotes, a number, true, false or null"))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    /// A whole word in any case; what follows must end it.
    fn keyword(&mut self, word: &str) -> bool {
        let start = self.at;
        self.spaces();
        if self.letters().eq_ignore_ascii_case(word) {
            return true;
        }
        self.at = start;
        false
    }

    fn letters(&mut self) -> &'a str {
        self.take(|letter| letter.is_ascii_alphabetic())
    }

    fn path_text(&mut self) -> &'a str {
        self.spaces();
        self.take(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | ':' | '-' | '_' | '$'))
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|letter| !wanted(letter)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let place = self.text.get(..self.at).map_or(0, |before| before.chars().count()) + 1;
        bad(format!("the filter has a mistake at character {place}: expected {wanted}"))
    }
}
