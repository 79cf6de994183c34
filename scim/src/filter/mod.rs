//! Filters: RFC 7644 §3.4.2.2. Parsed for one resource type, so that every comparison knows its attribute's rules.

mod eval;
mod needle;
mod parse;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::{AttrPath, Attribute, Error, Object, Registry, ResourceType, Speech, Type};

pub(crate) use eval::values;
pub(crate) use parse::PathFilter;

/// A parsed filter. Paths are canonical where the resource type knows them.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// All hold.
    And(Vec<Filter>),
    /// One holds.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A value compared with a constant.
    Compare {
        /// What is compared.
        path: AttrPath,
        /// How.
        op: Op,
        /// With what.
        value: Value,
        /// The attribute's rules; nothing when the type has no such attribute, which then has no value.
        rule: Option<Rule>,
    },
    /// The attribute has a value.
    Present(AttrPath),
    /// One value of a multi-valued attribute satisfies the inner filter as a whole.
    Values {
        /// The attribute.
        path: AttrPath,
        /// What one value must satisfy; its paths are sub-attributes.
        filter: Box<Filter>,
    },
}

/// What decides how two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The data type.
    pub kind: Type,
    /// Whether upper and lower case differ.
    pub case_exact: bool,
}

impl Rule {
    /// The rule of an attribute; a complex one compares by its `value`.
    pub fn of(attribute: &Attribute) -> Self {
        let simple = match attribute.kind {
            Type::Complex => attribute.sub("value").unwrap_or(attribute),
            Type::String
            | Type::Boolean
            | Type::Decimal
            | Type::Integer
            | Type::DateTime
            | Type::Binary
            | Type::Reference => attribute,
        };
        Self { kind: simple.kind, case_exact: simple.case_exact }
    }
}

/// The comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal: no value is equal.
    Ne,
    /// Contains.
    Co,
    /// Starts with.
    Sw,
    /// Ends with.
    Ew,
    /// Greater than.
    Gt,
    /// Greater than or equal.
    Ge,
    /// Less than.
    Lt,
    /// Less than or equal.
    Le,
}

impl Op {
    /// Every operator.
    pub const ALL: [Self; 9] =
        [Self::Eq, Self::Ne, Self::Co, Self::Sw, Self::Ew, Self::Gt, Self::Ge, Self::Lt, Self::Le];

    /// The keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Co => "co",
            Self::Sw => "sw",
            Self::Ew => "ew",
            Self::Gt => "gt",
            Self::Ge => "ge",
            Self::Lt => "lt",
            Self::Le => "le",
        }
    }
}

/// How large a filter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterLimits {
    /// Length of the text.
    pub length_bytes_max: usize,
    /// Nesting of parentheses, brackets and `not`.
    pub depth_max: usize,
    /// Number of comparisons.
    pub terms_max: usize,
}

impl Default for FilterLimits {
    fn default() -> Self {
        Self { length_bytes_max: 8 * 1024, depth_max: 32, terms_max: 200 }
    }
}

impl Filter {
    /// Reads a filter for a resource type. `invalidFilter` when the syntax is wrong, an operator does not suit its
    /// attribute, the attribute must not be asked for, or a limit is reached.
    pub fn parse<'s>(
        text: &str,
        limits: &FilterLimits,
        speech: impl Into<Speech<'s>>,
        registry: &Registry,
        kind: &ResourceType,
    ) -> Result<Self, Error> {
        parse::whole(text, limits, speech.into(), registry, kind)
    }

    /// Whether a resource, as it is represented to clients, satisfies the filter.
    pub fn matches(&self, resource: &Object) -> bool {
        eval::matches(self, resource)
    }

    /// The members of a resource that decide whether it satisfies the filter.
    pub fn roots(&self, roots: &mut BTreeSet<String>) {
        match self {
            Self::And(filters) | Self::Or(filters) => filters.iter().for_each(|filter| filter.roots(roots)),
            Self::Not(filter) => filter.roots(roots),
            Self::Compare { path, .. } | Self::Present(path) | Self::Values { path, .. } => {
                roots.extend(path.root().map(str::to_string));
            }
        }
    }

    /// How many comparisons there are.
    pub fn terms(&self) -> usize {
        match self {
            Self::And(filters) | Self::Or(filters) => filters.iter().map(Self::terms).sum(),
            Self::Not(filter) | Self::Values { filter, .. } => filter.terms(),
            Self::Compare { .. } | Self::Present(_) => 1,
        }
    }

    /// Whether the filter asks for this attribute of the base schema or the common attributes (canonical name).
    pub fn mentions(&self, name: &str) -> bool {
        match self {
            Self::And(filters) | Self::Or(filters) => filters.iter().any(|filter| filter.mentions(name)),
            Self::Not(filter) => filter.mentions(name),
            Self::Compare { path, .. } | Self::Present(path) | Self::Values { path, .. } => path.is(name),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(filters) => joined(f, filters, " and "),
            Self::Or(filters) => joined(f, filters, " or "),
            Self::Not(filter) => write!(f, "not ({filter})"),
            Self::Compare { path, op, value, .. } => write!(f, "{path} {} {value}", op.as_str()),
            Self::Present(path) => write!(f, "{path} pr"),
            Self::Values { path, filter } => write!(f, "{path}[{filter}]"),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, filters: &[Filter], word: &str) -> fmt::Result {
    for (index, filter) in filters.iter().enumerate() {
        if index > 0 {
            f.write_str(word)?;
        }
        match filter {
            Filter::And(_) | Filter::Or(_) => write!(f, "({filter})")?,
            Filter::Not(_) | Filter::Compare { .. } | Filter::Present(_) | Filter::Values { .. } => {
                write!(f, "{filter}")?;
            }
        }
    }
    Ok(())
}

impl Filter {
    /// The constant of `value eq "…"`, when the filter is that and nothing else.
    pub(crate) fn single_value(&self) -> Option<&str> {
        match self {
            Self::Compare { path, op: Op::Eq, value, .. } if path.is("value") => value.as_str(),
            Self::Compare { .. }
            | Self::And(_)
            | Self::Or(_)
            | Self::Not(_)
            | Self::Present(_)
            | Self::Values { .. } => None,
        }
    }

    /// What a value must hold to satisfy a conjunction of equalities; nothing for any other filter.
    pub(crate) fn equalities(&self) -> Option<Object> {
        match self {
            Self::Compare { path, op: Op::Eq, value, rule: Some(_) } if !value.is_null() => {
                Some([(path.name.clone()?, value.clone())].into_iter().collect())
            }
            Self::And(filters) => {
                let mut all = Object::new();
                for filter in filters {
                    all.extend(filter.equalities()?);
                }
                Some(all)
            }
            Self::Compare { .. } | Self::Or(_) | Self::Not(_) | Self::Present(_) | Self::Values { .. } => {
                None
            }
        }
    }
}
