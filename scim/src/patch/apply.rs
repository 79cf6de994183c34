//! Applying operations to a copy of a full document.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Operation, Patch, PatchOp, PatchPath, named};
use crate::identity::{Identity, each_once};
use crate::validate::{Context, immutable, immutables, is_primary, keeps, lacking, value_of};
use crate::{
    AttrPath, Attribute, Error, Filter, Mutability, Object, Quirk, Registry, Resolved, ScimType, Type,
    members,
};

pub(super) fn all(
    patch: &Patch,
    context: Context<'_>,
    id: &str,
    mut changed: Object,
    values_max: usize,
) -> Result<Object, Error> {
    let (kept, lacked) = (immutables(context, &changed), lacking(context, &changed));
    let mut seen = 0;
    for operation in &patch.operations {
        seen += values_at(&operation.path.attr, &changed);
        if seen > values_max {
            return Err(Error::status(
                413,
                format!("the operations look at more than {values_max} values; send fewer at once"),
            ));
        }
        one(operation, context, id, &mut changed)?;
    }
    changed.retain(|_, value| !value.as_object().is_some_and(Object::is_empty));
    keeps(&changed, &kept)?;
    complete(lacked, lacking(context, &changed))?;
    Ok(changed)
}

/// What was required only after a resource was written is not there, and whoever says nothing of it is not the one to
/// bring it: a person must be able to leave. Nothing else may be missing afterwards.
fn complete(mut before: Vec<String>, after: Vec<String>) -> Result<(), Error> {
    for what in after {
        match before.iter().position(|known| *known == what) {
            Some(place) => drop(before.swap_remove(place)),
            None => return Err(Error::value(what)),
        }
    }
    Ok(())
}

/// How many values an operation on this attribute has to look at.
fn values_at(path: &AttrPath, full: &Object) -> usize {
    let root = match &path.schema {
        None => Some(full),
        Some(urn) => full.get(urn).and_then(Value::as_object),
    };
    let value = path.name.as_ref().and_then(|name| root?.get(name));
    value.and_then(Value::as_array).map_or(0, Vec::len)
}

/// An operation and the attribute it is about.
struct Step<'a> {
    context: Context<'a>,
    operation: &'a Operation,
    attribute: &'a Attribute,
    sub: Option<&'a Attribute>,
}

fn one(operation: &Operation, context: Context<'_>, id: &str, full: &mut Object) -> Result<(), Error> {
    let PatchPath { attr, sub, .. } = &operation.path;
    let (registry, kind): (&Registry, _) = (context.registry, context.kind);
    let mut with_sub = attr.clone();
    with_sub.sub.clone_from(sub);
    let (attribute, sub) = match registry.resolve(kind, &with_sub) {
        Some(Resolved::Attribute { attribute, sub, .. }) => (attribute, sub),
        Some(Resolved::Extension(schema)) => {
            full.remove(&schema.id);
            return Ok(());
        }
        None => {
            return Err(Error::new(
                ScimType::InvalidPath,
                format!("{with_sub} is not an attribute of {}", kind.name),
            ));
        }
    };
    // Each operation is read in the hand that wrote it.
    let context = Context { speech: context.speech.with(operation.dialect), ..context };
    let step = Step { context, operation, attribute, sub };
    if step.passes_over(id)? {
        return Ok(());
    }
    match &attr.schema {
        None => step.carry_out(full),
        Some(urn) => {
            let mut members = match full.remove(urn) {
                Some(Value::Object(members)) => members,
                Some(_) | None => Object::new(),
            };
            step.carry_out(&mut members)?;
            if !members.is_empty() {
                full.insert(urn.clone(), members.into());
            }
            Ok(())
        }
    }
}

impl Step<'_> {
    /// Whether nothing is to be done, or a `mutability` error for what must not be changed.
    fn passes_over(&self, id: &str) -> Result<bool, Error> {
        let name = &self.attribute.name;
        if name == "schemas" {
            return Ok(true);
        }
        let read_only = |attribute: &Attribute| attribute.mutability == Mutability::ReadOnly;
        if read_only(self.attribute) || self.sub.is_some_and(read_only) {
            let same = name == "id" && self.operation.value.as_ref().and_then(Value::as_str) == Some(id);
            if self.context.speech.forgives(Quirk::ReadOnlyWritten) || same {
                return Ok(true);
            }
            return Err(Error::new(ScimType::Mutability, format!("{} is read-only", self.name())));
        }
        Ok(false)
    }

    /// RFC 7644 §3.5.2.2: what is required is not removed, whatever names it: the attribute, a filter, its values, a part.
    fn carry_out(&self, root: &mut Object) -> Result<(), Error> {
        let was_there = root.contains_key(&self.attribute.name);
        self.apply(root)?;
        let found = root.get(&self.attribute.name);
        let values = found
            .map_or(&[][..], |found| found.as_array().map_or(std::slice::from_ref(found), Vec::as_slice));
        let lacks = |sub: &Attribute| {
            sub.required
                && values.iter().filter_map(Value::as_object).any(|value| !value.contains_key(&sub.name))
        };
        let is_lost = self.attribute.required && was_there && found.is_none();
        if self.operation.op == PatchOp::Remove && (is_lost || self.sub.is_some_and(lacks)) {
            let detail = format!("{} is required and cannot be removed", self.name());
            return Err(Error::new(ScimType::Mutability, detail));
        }
        Ok(())
    }

    fn name(&self) -> String {
        match self.sub {
            Some(sub) => format!("{}.{}", self.attribute.name, sub.name),
            None => self.attribute.name.clone(),
        }
    }

    fn apply(&self, root: &mut Object) -> Result<(), Error> {
        let name = &self.attribute.name;
        if self.attribute.multi_valued {
            let mut values = match root.remove(name) {
                Some(Value::Array(values)) => values,
                Some(other) => vec![other],
                None => Vec::new(),
            };
            let touched = match (&self.operation.path.filter, self.sub) {
                (None, None) => self.whole(self.attribute, &mut values)?,
                (filter, sub) => self.matching(&mut values, filter.as_ref(), sub)?,
            };
            values.retain(|value| !value.is_null() && !value.as_object().is_some_and(Object::is_empty));
            one_primary(name, &mut values, &touched)?;
            // RFC 7643 §2.4: what became the same is kept once.
            each_once(&mut values);
            if !values.is_empty() {
                root.insert(name.clone(), values.into());
            }
            return Ok(());
        }
        match self.sub {
            None => self.single(root),
            Some(sub) => {
                let mut members = match root.remove(name) {
                    Some(Value::Object(members)) => members,
                    Some(_) | None => Object::new(),
                };
                self.set_sub(&mut members, sub)?;
                if !members.is_empty() {
                    root.insert(name.clone(), members.into());
                }
                Ok(())
            }
        }
    }

    /// The operation's value in canonical form; nothing means "unassign".
    fn value(&self, attribute: &Attribute) -> Result<Option<Value>, Error> {
        match &self.operation.value {
            Some(value) if self.operation.op != PatchOp::Remove => {
                value_of(self.context, attribute, value.clone())
            }
            Some(_) | None => Ok(None),
        }
    }

    fn single(&self, root: &mut Object) -> Result<(), Error> {
        let name = &self.attribute.name;
        let value = self.value(self.attribute)?;
        self.mutable(self.attribute, root.get(name), value.as_ref())?;
        let some = |given: &Object| !self.attribute.names_nobody(given);
        match (value, root.get_mut(name)) {
            // RFC 7644 §3.5.2.3: of a complex attribute only the given sub-attributes change.
            (Some(Value::Object(new)), Some(Value::Object(old))) => {
                self.merge(old, new);
                self.unassign_nulls(old);
            }
            (Some(value), _) => {
                root.insert(name.clone(), value);
            }
            (None, Some(Value::Object(old)))
                if self.operation.value.as_ref().and_then(Value::as_object).is_some_and(some) =>
            {
                self.unassign_nulls(old);
                if old.is_empty() {
                    root.remove(name);
                }
            }
            (None, _) => {
                if self.attribute.required && self.operation.op != PatchOp::Remove {
                    return Err(Error::value(format!("{name} is required")));
                }
                root.remove(name);
            }
        }
        Ok(())
    }

    /// `{"givenName": null}` unassigns that sub-attribute.
    fn unassign_nulls(&self, members: &mut Object) {
        let given = self.operation.value.as_ref().and_then(Value::as_object);
        for (name, value) in given.into_iter().flatten() {
            if value.is_null()
                && let Some(sub) = self.attribute.sub(name)
            {
                members.remove(&sub.name);
            }
        }
    }

    fn set_sub(&self, members: &mut Object, sub: &Attribute) -> Result<(), Error> {
        if sub.multi_valued {
            return self.set_values(members, sub);
        }
        // An empty id names nobody.
        let nobody = |value: &Value| {
            self.attribute.names_nobody(&[(sub.name.clone(), value.clone())].into_iter().collect())
        };
        let value = self.value(sub)?.filter(|value| !nobody(value));
        self.mutable(sub, members.get(&sub.name), value.as_ref())?;
        match value {
            Some(value) => members.insert(sub.name.clone(), value),
            None => members.remove(&sub.name),
        };
        Ok(())
    }

    /// A part with several values is a multi-valued attribute like any other: RFC 7644 §3.5.2.1 adds to what is there.
    fn set_values(&self, members: &mut Object, sub: &Attribute) -> Result<(), Error> {
        let old = members.get(&sub.name).cloned();
        let mut values = match members.remove(&sub.name) {
            Some(Value::Array(values)) => values,
            Some(other) => vec![other],
            None => Vec::new(),
        };
        self.whole(sub, &mut values)?;
        let new = (!values.is_empty()).then_some(Value::Array(values));
        self.mutable(sub, old.as_ref(), new.as_ref())?;
        if let Some(new) = new {
            members.insert(sub.name.clone(), new);
        }
        Ok(())
    }

    /// The given parts take the place of the old ones, except that `add` adds to a part with several values.
    fn merge(&self, old: &mut Object, given: Object) {
        match self.operation.op {
            PatchOp::Add => extend(old, given),
            PatchOp::Replace | PatchOp::Remove => old.extend(given),
        }
    }

    fn mutable(&self, attribute: &Attribute, old: Option<&Value>, new: Option<&Value>) -> Result<(), Error> {
        if attribute.mutability == Mutability::Immutable && old.is_some() && old != new {
            return Err(immutable(&self.name()));
        }
        Ok(())
    }

    /// All values of a multi-valued attribute or part.
    fn whole(&self, attribute: &Attribute, values: &mut Vec<Value>) -> Result<BTreeSet<usize>, Error> {
        let given = match self.value(attribute)? {
            Some(Value::Array(given)) => given,
            Some(other) => vec![other],
            None => Vec::new(),
        };
        match self.operation.op {
            PatchOp::Replace => {
                *values = given;
                Ok(BTreeSet::new())
            }
            PatchOp::Remove => {
                self.remove(attribute, values)?;
                Ok(BTreeSet::new())
            }
            PatchOp::Add => Ok(add(values, given)),
        }
    }

    /// All values, or the ones that are named.
    fn remove(&self, attribute: &Attribute, values: &mut Vec<Value>) -> Result<(), Error> {
        match &self.operation.value {
            None | Some(Value::Null) => values.clear(),
            Some(named) => named::remove(self.context, attribute, named, values)?,
        }
        Ok(())
    }

    /// The values that a filter selects, or all when a sub-attribute is named without one.
    fn matching(
        &self,
        values: &mut Vec<Value>,
        filter: Option<&Filter>,
        sub: Option<&Attribute>,
    ) -> Result<BTreeSet<usize>, Error> {
        let selects = |value: &Value| match (filter, value.as_object()) {
            (None, _) => true,
            (Some(filter), Some(members)) => filter.matches(members),
            // A simple value is its own `value`.
            (Some(filter), None) => {
                filter.matches(&[("value".to_string(), value.clone())].into_iter().collect())
            }
        };
        let mut touched: BTreeSet<usize> =
            values.iter().enumerate().filter(|(_, value)| selects(value)).map(|(index, _)| index).collect();
        if touched.is_empty() {
            match self.operation.op {
                PatchOp::Remove => return Ok(touched),
                // A member is added, never made of a filter.
                PatchOp::Replace
                    if filter.is_some()
                        && (members::are(self.attribute)
                            || !self.context.speech.forgives(Quirk::ReplaceCreates)) =>
                {
                    return Err(self.no_target());
                }
                PatchOp::Add | PatchOp::Replace if self.attribute.kind != Type::Complex => {
                    return Err(self.no_target());
                }
                PatchOp::Add | PatchOp::Replace => {
                    if let Some(made) = self.made(filter, sub)? {
                        touched.insert(values.len());
                        values.push(Value::Object(made));
                    }
                    return Ok(touched);
                }
            }
        }
        if sub.is_none() && self.operation.op == PatchOp::Remove {
            let mut index = 0..;
            values.retain(|_| !index.next().is_some_and(|index| touched.contains(&index)));
            return Ok(BTreeSet::new());
        }
        for index in &touched {
            match (values.get_mut(*index), sub) {
                (Some(Value::Object(members)), Some(sub)) => self.set_sub(members, sub)?,
                (Some(Value::Object(members)), None) => self.set_value(members)?,
                (Some(simple), None) => *simple = self.one_value()?.unwrap_or_default(),
                (Some(_), Some(_)) | (None, _) => {}
            }
        }
        Ok(touched)
    }

    /// A value as the filter describes it, with what the operation gives; nothing when it gives nothing.
    fn made(&self, filter: Option<&Filter>, sub: Option<&Attribute>) -> Result<Option<Object>, Error> {
        let mut made = match filter {
            Some(filter) => filter.equalities().ok_or_else(|| self.no_target())?,
            None => Object::new(),
        };
        match sub {
            Some(sub) => {
                self.set_sub(&mut made, sub)?;
                Ok(made.contains_key(&sub.name).then_some(made))
            }
            // RFC 7644 §3.5.2.3: replace is the whole value.
            None => Ok(match (self.one_value()?, self.operation.op) {
                (Some(Value::Object(given)), PatchOp::Replace) => Some(given),
                (Some(Value::Object(given)), _) => {
                    extend(&mut made, given);
                    Some(made)
                }
                (Some(_) | None, _) => None,
            }),
        }
    }

    /// The one value that a filtered path takes.
    fn one_value(&self) -> Result<Option<Value>, Error> {
        Ok(match self.value(self.attribute)? {
            Some(Value::Array(mut given)) if given.len() == 1 => given.pop(),
            Some(Value::Array(_)) => return Err(Error::value("a filtered path takes one value")),
            other => other,
        })
    }

    fn set_value(&self, members: &mut Object) -> Result<(), Error> {
        let Some(Value::Object(given)) = self.one_value()? else {
            if self.operation.op == PatchOp::Replace {
                members.clear();
            }
            return Ok(());
        };
        for sub in &self.attribute.sub_attributes {
            if let Some(old) = members.get(&sub.name) {
                self.mutable(sub, Some(old), given.get(&sub.name).or(Some(old)))?;
            }
        }
        // RFC 7644 §3.5.2.3: replace exchanges the whole value; add merges into it.
        if self.operation.op == PatchOp::Replace {
            members.clear();
        }
        self.merge(members, given);
        Ok(())
    }

    fn no_target(&self) -> Error {
        Error::new(
            ScimType::NoTarget,
            format!("no value of {} matches the path's filter", self.attribute.name),
        )
    }
}

/// RFC 7644 §3.5.2.1: a value that is already there is not added again.
fn add(values: &mut Vec<Value>, given: Vec<Value>) -> BTreeSet<usize> {
    let wanted: BTreeMap<Identity<'_>, usize> =
        given.iter().enumerate().map(|(index, value)| (Identity::of(value), index)).collect();
    let there = values.iter().enumerate();
    let there: BTreeMap<usize, usize> =
        there.filter_map(|(place, value)| Some((*wanted.get(&Identity::of(value))?, place))).collect();
    let mut touched = BTreeSet::new();
    for (index, value) in given.into_iter().enumerate() {
        match there.get(&index).and_then(|place| Some((*place, values.get_mut(*place)?))) {
            Some((place, existing)) => {
                // What is only named again is not made the primary one.
                if is_primary(&value) {
                    touched.insert(place);
                }
                if let (Some(existing), Value::Object(new)) = (existing.as_object_mut(), value) {
                    extend(existing, new);
                }
            }
            None => {
                touched.insert(values.len());
                values.push(value);
            }
        }
    }
    touched
}

/// The given parts take the place of the old ones; a part with several values has the old ones and the given ones.
fn extend(old: &mut Object, given: Object) {
    for (name, value) in given {
        match (old.get_mut(&name), value) {
            (Some(Value::Array(values)), Value::Array(given)) => {
                add(values, given);
            }
            (_, value) => {
                old.insert(name, value);
            }
        }
    }
}

/// RFC 7644 §3.5.2: making one value primary makes the others not primary.
fn one_primary(name: &str, values: &mut [Value], touched: &BTreeSet<usize>) -> Result<(), Error> {
    let primary: Vec<usize> =
        values.iter().enumerate().filter(|(_, value)| is_primary(value)).map(|(index, _)| index).collect();
    if primary.len() < 2 {
        return Ok(());
    }
    let chosen: Vec<usize> = primary.iter().copied().filter(|index| touched.contains(index)).collect();
    let [chosen] = chosen.as_slice() else {
        return Err(Error::value(format!("{name} can have one primary value only")));
    };
    for index in primary.iter().filter(|index| *index != chosen) {
        if let Some(Value::Object(members)) = values.get_mut(*index) {
            members.insert("primary".to_string(), Value::Bool(false));
        }
    }
    Ok(())
}
