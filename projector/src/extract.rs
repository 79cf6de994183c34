//! Values out of a document's text, without making a tree of it. The text is read to its end, so that one that is no JSON
//! is noticed.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::directory::ColumnNumber;

/// The attributes that are wanted, by their names from the outside in.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    children: Vec<(String, Tree)>,
    /// Where the values here belong, and whether their case matters.
    columns: Vec<(ColumnNumber, bool)>,
}

impl Tree {
    /// The values at these names belong to a column.
    pub(crate) fn add<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
        column: ColumnNumber,
        case_exact: bool,
    ) {
        let mut tree = self;
        for name in names {
            let index = tree.children.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                tree.children.push((name.to_string(), Self::default()));
                tree.children.len() - 1
            });
            let Some((_, child)) = tree.children.get_mut(index) else { return };
            tree = child;
        }
        tree.columns.push((column, case_exact));
    }

    /// All values of a document's JSON, in the form in which they are compared.
    pub(crate) fn values(&self, json: &[u8]) -> Result<Vec<(ColumnNumber, String)>, serde_json::Error> {
        let mut values = Vec::new();
        if json.is_empty() {
            return Ok(values);
        }
        let mut reader = serde_json::Deserializer::from_slice(json);
        Walk { tree: self, values: &mut values }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(values)
    }
}

struct Walk<'a> {
    tree: &'a Tree,
    values: &'a mut Vec<(ColumnNumber, String)>,
}

impl Walk<'_> {
    fn found(&mut self, text: &str) {
        for (column, case_exact) in &self.tree.columns {
            let text = if *case_exact { text.to_string() } else { scim::fold(text) };
            self.values.push((*column, text));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Name(self.tree))? {
            match child {
                Some(tree) => map.next_value_seed(Walk { tree, values: &mut *self.values })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let Self { tree, values: found } = self;
        while values.next_element_seed(Walk { tree, values: &mut *found })?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.found(text);
        Ok(())
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.found(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.found(&scim::number(&value.into()));
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.found(&scim::number(&value.into()));
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        if let Some(number) = Number::from_f64(value) {
            self.found(&scim::number(&number));
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Which of the wanted attributes a name is.
struct Name<'a>(&'a Tree);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a Tree>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a Tree>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.children.iter().find(|(known, _)| known == name).map(|(_, tree)| tree))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_values_are_found_and_damage_is_noticed() {
        let mut tree = Tree::default();
        tree.add(["a", "b"], 1, true);
        tree.add(["c"], 2, false);
        tree.add(["c"], 3, true);
        let values = |json: &str| tree.values(json.as_bytes()).map_err(drop);
        let expected =
            vec![(1, "X".to_string()), (1, "Y".to_string()), (2, "z\n".to_string()), (3, "Z\n".to_string())];
        assert_eq!(
            values(r#"{"a":[{"b":"X","d":{"b":1}},{"b":["Y",null]}],"b":"no","c":"Z\n","e":[true]}"#),
            Ok(expected)
        );
        assert_eq!(values(""), Ok(vec![]));
        for damaged in ["{", r#"{"e":[tru]}"#, r#"{"c":"x"}}"#, r#"{"c":"x""#] {
            assert!(values(damaged).is_err(), "{damaged}");
        }
    }
}
