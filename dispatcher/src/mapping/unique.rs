//! A name that no other account of the app has: candidates in their order, and then the first one with a number. Which one it
//! is, is decided when it is needed and remembered (`decided.rs`); here is only what can be said of somebody alone. Pure.

use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr};
use scim::AttrPath;

use crate::decided::{Choice, Decisions};

/// How a mapping asks for one.
pub(super) const UNIQUE: &str = "unique";
/// The first number, after the candidate without one.
const NUMBER_MIN: u32 = 2;
/// The last number.
const NUMBER_MAX: u32 = 9_999;

/// An attribute that must be the only one, and what it could be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Open {
    pub(crate) path: AttrPath,
    /// At least one, the best first.
    pub(crate) candidates: Vec<String>,
    /// Said when the account is made, and never again.
    pub(crate) create_only: bool,
}

/// The candidates of an expression that is `unique(...)` and nothing else.
pub(super) fn candidates(expression: &IdedExpr) -> Option<&[IdedExpr]> {
    match &expression.expr {
        Expr::Call(CallExpr { func_name, target: None, args, .. }) if func_name == UNIQUE => Some(args),
        _ => None,
    }
}

impl Open {
    /// The attribute, as decisions name it.
    pub(crate) fn name(&self) -> String {
        self.path.to_string()
    }

    /// What was chosen, if that still is one of the candidates or made of one. What is never said again never changes.
    pub(crate) fn standing<'a>(&self, decisions: &'a Decisions) -> Option<&'a Choice> {
        let is_one = |choice: &&Choice| self.create_only || self.candidates.contains(&choice.base);
        decisions.chosen(&self.name()).filter(is_one)
    }

    /// The first that nobody has and the app did not refuse, and the candidate that it is made of.
    pub(crate) fn choose(
        &self,
        refused: &BTreeSet<String>,
        is_taken: impl Fn(&str) -> bool,
    ) -> Option<(String, String)> {
        let is_free = |value: &String| {
            let refused = refused.iter().any(|refused| scim::fold(refused) == scim::fold(value));
            !refused && !is_taken(value)
        };
        let plain = self.candidates.iter().map(|base| (base.clone(), base));
        let first = self.candidates.first()?;
        let numbers = (NUMBER_MIN..=NUMBER_MAX).map(|number| (numbered(first, number), first));
        let found = plain.chain(numbers).find(|(value, _)| is_free(value));
        found.map(|(value, base)| (value, base.clone()))
    }
}

/// With a number at its end; in an address before the `@`.
fn numbered(base: &str, number: u32) -> String {
    match base.rsplit_once('@') {
        Some((name, domain)) => format!("{name}{number}@{domain}"),
        None => format!("{base}{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(candidates: &[&str]) -> Open {
        let candidates = candidates.iter().map(ToString::to_string).collect();
        Open { path: AttrPath::of("userName"), candidates, create_only: false }
    }

    #[track_caller]
    fn check(candidates: &[&str], taken: &[&str], refused: &[&str], value: &str, base: &str) {
        let refused = refused.iter().map(ToString::to_string).collect();
        let found = open(candidates).choose(&refused, |value| taken.contains(&value));
        assert_eq!(found, Some((value.to_string(), base.to_string())));
    }

    #[test]
    fn candidates_come_in_their_order_and_then_the_first_with_a_number() {
        let both = ["ada.lovelace", "a.lovelace"];
        check(&both, &[], &[], "ada.lovelace", "ada.lovelace");
        check(&both, &["ada.lovelace"], &[], "a.lovelace", "a.lovelace");
        check(&both, &both, &[], "ada.lovelace2", "ada.lovelace");
        check(&both, &["ada.lovelace"], &["A.Lovelace", "ada.lovelace2"], "ada.lovelace3", "ada.lovelace");
        check(&["ada@x.test"], &["ada@x.test"], &[], "ada2@x.test", "ada@x.test");
        assert_eq!(open(&["ada"]).choose(&BTreeSet::new(), |_| true), None);
    }
}
