//! Checking an expression before anybody is asked about: its size, and every name that it asks for.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators};
use scim::{AttrPath, Attribute, Registry, ResourceType, Type};

use super::expression::Expression;
use super::password::GENERATE;
use super::unique::{UNIQUE, candidates};
use crate::scope::{Needs, path_needs};

/// Bytes of an expression.
const LENGTH_MAX: usize = 1024;
/// Brackets within brackets.
const DEPTH_MAX: usize = 32;
/// What expressions can call, besides operators.
const FUNCTIONS: [&str; 33] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "trim",
    "replace",
    "split",
    "substring",
    "reverse",
    "format",
    "strings.quote",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "@not_strictly_false",
];
/// The names of types.
const TYPES: [&str; 10] =
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

/// What is known of an expression without asking it about anybody.
pub(super) struct Checked {
    pub(super) needs: Needs,
    /// What it gives, if that is known.
    pub(super) gives: Option<Given>,
}

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Text,
    Boolean,
    Number,
    Several,
    Complex,
}

/// What is known of a part of an expression.
#[derive(Clone, Copy, Debug)]
enum Shape<'a> {
    Any,
    /// The resource itself.
    Resource,
    /// The attributes of an extension.
    Extension(&'a [Attribute]),
    /// An attribute's value, or all of them.
    Of(&'a Attribute),
    /// One of an attribute's values.
    One(&'a Attribute),
    /// The app.
    App,
    Given(Given),
}

struct Walk<'a> {
    registry: &'a Registry,
    kind: &'a ResourceType,
    needs: Needs,
    /// Names that the expression gave itself.
    local: Vec<(String, Shape<'a>)>,
    loops: usize,
}

/// Reads and checks an expression; what is wrong is said in a sentence.
pub(super) fn checked(
    registry: &Registry,
    kind: &ResourceType,
    text: &str,
) -> Result<(Expression, Checked), String> {
    if text.len() > LENGTH_MAX {
        return Err(format!("the expression is longer than {LENGTH_MAX} bytes"));
    }
    let mut depth = 0_usize;
    for letter in text.chars() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("the expression has brackets deeper than {DEPTH_MAX}"));
        }
    }
    let expression = Expression::read(text)?;
    let mut walk = Walk { registry, kind, needs: Needs::default(), local: Vec::new(), loops: 0 };
    let gives = match candidates(expression.program().expression()) {
        Some(candidates) => Some(walk.candidates(candidates)?),
        None => given(walk.shape(expression.program().expression())?),
    };
    let needs = walk.needs;
    Ok((expression, Checked { needs, gives }))
}

impl Given {
    /// Whether an attribute can hold it.
    pub(super) fn fits(self, attribute: &Attribute) -> bool {
        self == of(attribute)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Several => "a list",
            Self::Complex => "complex",
        }
    }
}

fn of(attribute: &Attribute) -> Given {
    if attribute.multi_valued { Given::Several } else { of_one(attribute) }
}

fn of_one(attribute: &Attribute) -> Given {
    match attribute.kind {
        Type::String | Type::DateTime | Type::Binary | Type::Reference => Given::Text,
        Type::Boolean => Given::Boolean,
        Type::Decimal | Type::Integer => Given::Number,
        Type::Complex => Given::Complex,
    }
}

fn given(shape: Shape<'_>) -> Option<Given> {
    match shape {
        Shape::Any => None,
        Shape::Resource | Shape::Extension(_) | Shape::App => Some(Given::Complex),
        Shape::Of(attribute) => Some(of(attribute)),
        Shape::One(attribute) => Some(of_one(attribute)),
        Shape::Given(given) => Some(given),
    }
}

impl<'a> Walk<'a> {
    fn shape(&mut self, expression: &IdedExpr) -> Result<Shape<'a>, String> {
        match &expression.expr {
            Expr::Ident(name) => self.name(name),
            Expr::Select(SelectExpr { operand, field, .. }) => {
                let operand = self.shape(operand)?;
                self.part(operand, field)
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Shape::Given(Given::Boolean),
                LiteralValue::String(_) => Shape::Given(Given::Text),
                LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => {
                    Shape::Given(Given::Number)
                }
                LiteralValue::Bytes(_) | LiteralValue::Null => Shape::Any,
            }),
            Expr::List(list) => {
                for element in &list.elements {
                    self.shape(element)?;
                }
                Ok(Shape::Given(Given::Several))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.shape(&entry.key)?;
                        self.shape(&entry.value)?;
                    }
                }
                Ok(Shape::Given(Given::Complex))
            }
            Expr::Struct(_) | Expr::Unspecified => {
                Err("the expression makes what is not offered".to_string())
            }
        }
    }

    /// What could be a name: at least one text.
    fn candidates(&mut self, candidates: &[IdedExpr]) -> Result<Given, String> {
        if candidates.is_empty() {
            return Err(format!("{UNIQUE}() names no candidate: write what it could be, the best first"));
        }
        for candidate in candidates {
            match given(self.shape(candidate)?) {
                None | Some(Given::Text) => {}
                Some(other) => return Err(format!("a candidate of {UNIQUE} gives {}", other.name())),
            }
        }
        Ok(Given::Text)
    }

    fn name(&mut self, name: &str) -> Result<Shape<'a>, String> {
        if let Some((_, shape)) = self.local.iter().rev().find(|(known, _)| known == name) {
            return Ok(*shape);
        }
        match name {
            "user" | "resource" => Ok(Shape::Resource),
            "groups" => {
                (self.needs.groups, self.needs.group_names) = (true, true);
                Ok(Shape::Given(Given::Several))
            }
            "app" => Ok(Shape::App),
            _ if TYPES.contains(&name) => Ok(Shape::Any),
            _ => Err(format!("{name:?} is not known; there are user, resource, groups and app")),
        }
    }

    /// A part by its name.
    fn part(&mut self, whole: Shape<'a>, name: &str) -> Result<Shape<'a>, String> {
        match whole {
            Shape::Any | Shape::Given(_) => Ok(Shape::Any),
            Shape::App if name == "name" => Ok(Shape::Given(Given::Text)),
            Shape::App => Err(format!("{name:?} is nothing of the app; there is name")),
            Shape::Resource => self.attribute(name),
            Shape::Extension(attributes) => {
                let found = named(attributes, name, "attribute of the extension")?;
                self.needs.named |= found.names_resource();
                Ok(Shape::Of(found))
            }
            Shape::Of(attribute) if attribute.multi_valued => {
                Err(format!("{0} holds several values: choose one, as in {0}[0]", attribute.name))
            }
            Shape::Of(attribute) | Shape::One(attribute) => {
                let what = format!("part of {}", attribute.name);
                Ok(Shape::Of(named(&attribute.sub_attributes, name, &what)?))
            }
        }
    }

    fn attribute(&mut self, name: &str) -> Result<Shape<'a>, String> {
        let (registry, kind) = (self.registry, self.kind);
        if let Some(schema) = registry.extensions(kind).find(|schema| schema.id == name) {
            return Ok(Shape::Extension(&schema.attributes));
        }
        let mut known = registry.core(kind).iter().chain(registry.common());
        let what = format!("attribute of a {}", kind.name);
        let found = match known.find(|attribute| attribute.name == name) {
            Some(found) => found,
            None => named(registry.core(kind), name, &what)?,
        };
        self.needs = self.needs.and(path_needs(registry, kind, &AttrPath::of(&found.name), true)?);
        Ok(Shape::Of(found))
    }

    fn call(&mut self, call: &CallExpr) -> Result<Shape<'a>, String> {
        let name = call.func_name.as_str();
        let is_operator = !name.starts_with(|letter: char| letter.is_ascii_alphabetic());
        if name == GENERATE || name == UNIQUE {
            return Err(format!("{name}() stands alone: nothing else can be said beside it"));
        }
        if !is_operator && !FUNCTIONS.contains(&name) {
            return Err(format!("there is no function {name:?}"));
        }
        if let Some(target) = &call.target {
            self.shape(target)?;
        }
        let mut shapes = Vec::new();
        for argument in &call.args {
            shapes.push(self.shape(argument)?);
        }
        let text = call.args.get(1).and_then(|argument| match &argument.expr {
            Expr::Literal(LiteralValue::String(text)) => Some(text.inner().to_string()),
            _ => None,
        });
        let boolean = Shape::Given(Given::Boolean);
        match (name, shapes.as_slice(), text) {
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [whole, _], Some(text)) => {
                self.part(*whole, &text)
            }
            (operators::INDEX, [Shape::Of(attribute), _], None) if attribute.multi_valued => {
                Ok(Shape::One(attribute))
            }
            (operators::CONDITIONAL, [_, one, other], _) => {
                let same = given(*one).filter(|one| given(*other) == Some(*one));
                Ok(same.map_or(Shape::Any, Shape::Given))
            }
            (
                operators::EQUALS
                | operators::NOT_EQUALS
                | operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS
                | operators::LOGICAL_AND
                | operators::LOGICAL_OR
                | operators::LOGICAL_NOT
                | operators::IN,
                _,
                _,
            ) => Ok(boolean),
            (_, _, _) => Ok(Shape::Any),
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Result<Shape<'a>, String> {
        let range = self.shape(&comprehension.iter_range)?;
        if self.loops > 0 {
            return Err("the expression goes through a list within another".to_string());
        }
        let item = match range {
            Shape::Of(attribute) if attribute.multi_valued => Shape::One(attribute),
            _ => Shape::Any,
        };
        let accumulated = if is_selection(comprehension) { range } else { Shape::Any };
        let known = self.local.len();
        self.loops += 1;
        self.shape(&comprehension.accu_init)?;
        self.local.push((comprehension.iter_var.clone(), item));
        self.local.extend(comprehension.iter_var2.clone().map(|name| (name, Shape::Any)));
        self.local.push((comprehension.accu_var.clone(), Shape::Any));
        self.shape(&comprehension.loop_cond)?;
        self.shape(&comprehension.loop_step)?;
        self.shape(&comprehension.result)?;
        self.loops -= 1;
        self.local.truncate(known);
        Ok(accumulated)
    }
}

/// Whether it gives some of the list that it goes through: `filter`, whose step keeps an item or does not.
fn is_selection(comprehension: &ComprehensionExpr) -> bool {
    let Expr::Call(CallExpr { func_name, args, .. }) = &comprehension.loop_step.expr else { return false };
    let [_, kept, _] = args.as_slice() else { return false };
    let Expr::Call(CallExpr { func_name: add, args: added, .. }) = &kept.expr else { return false };
    let [_, list] = added.as_slice() else { return false };
    let Expr::List(list) = &list.expr else { return false };
    let is_item = |element: &IdedExpr| element.expr == Expr::Ident(comprehension.iter_var.clone());
    func_name == operators::CONDITIONAL && add == operators::ADD && list.elements.iter().all(is_item)
}

/// An attribute as its schema spells it.
fn named<'a>(attributes: &'a [Attribute], name: &str, what: &str) -> Result<&'a Attribute, String> {
    match attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name)) {
        Some(found) if found.name == name => Ok(found),
        Some(found) => Err(format!("{name:?} is written {:?}", found.name)),
        None => Err(format!("{name:?} is no {what}")),
    }
}
