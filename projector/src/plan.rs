//! From a filter to a plan: which indexes narrow the candidates down, and whether they say all that the filter says.

use std::fmt;

use jiff::Timestamp;
use proto::ResourceId;
use scim::{AttrPath, Filter, Op, Rule, Type};
use serde_json::Value;

use crate::directory::{ColumnNumber, Directory, Number, Slot, beginning};
use crate::table::{CUT_BYTES_MIN, Place, cut};

/// How the resources of one type that can satisfy a filter are found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plan {
    /// There is none.
    Nothing,
    /// All of them.
    Everything,
    /// These, if they are of the type and exist: ascending.
    Slots(Vec<Slot>),
    /// Those whom a group holds, by itself or through other groups.
    Held(Slot),
    /// Those with a value in a range of a column.
    Values(ColumnNumber, Range),
    /// Those that were changed last, or created, within these times; inclusive milliseconds.
    Modified(Option<i64>, Option<i64>),
    Created(Option<i64>, Option<i64>),
    /// Those of the first that are in all others, too.
    And(Vec<Plan>),
    Or(Vec<Plan>),
    Not(Box<Plan>),
}

/// A plan, and whether what it finds satisfies the filter without another look.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) is_exact: bool,
}

/// A range of texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Range {
    Equal(Vec<u8>),
    Prefix(Vec<u8>),
    Above(Vec<u8>),
    AtLeast(Vec<u8>),
    Below(Vec<u8>),
    AtMost(Vec<u8>),
}

impl Range {
    pub(crate) fn holds(&self, text: &[u8]) -> bool {
        match self {
            Self::Equal(wanted) => text == wanted,
            Self::Prefix(wanted) => text.starts_with(wanted),
            Self::Above(wanted) => text > wanted.as_slice(),
            Self::AtLeast(wanted) => text >= wanted.as_slice(),
            Self::Below(wanted) => text < wanted.as_slice(),
            Self::AtMost(wanted) => text <= wanted.as_slice(),
        }
    }
}

/// Asks one directory about one resource type as of one moment.
pub(crate) struct Planner<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) resource_type: &'a str,
    /// Its number; nothing when there never was such a resource.
    pub(crate) kind: Option<u8>,
    /// Whose `externalId` is meant.
    pub(crate) source: &'a str,
    pub(crate) at: Number,
}

impl Planner<'_> {
    /// The plan of a filter; nothing when no index helps.
    pub(crate) fn plan(&self, filter: &Filter) -> Option<Planned> {
        let exact = |plan| Some(Planned { plan, is_exact: true });
        match filter {
            Filter::And(filters) => {
                let plans: Vec<Option<Planned>> = filters.iter().map(|filter| self.plan(filter)).collect();
                let is_exact = plans.iter().all(|plan| plan.as_ref().is_some_and(|planned| planned.is_exact));
                let mut plans: Vec<Plan> = plans.into_iter().flatten().map(|planned| planned.plan).collect();
                plans.sort_by_cached_key(|plan| self.estimate(plan));
                (!plans.is_empty()).then_some(Planned { plan: Plan::And(plans), is_exact })
            }
            Filter::Or(filters) => {
                let plans: Option<Vec<Planned>> = filters.iter().map(|filter| self.plan(filter)).collect();
                let plans = plans?;
                let is_exact = plans.iter().all(|planned| planned.is_exact);
                let plan = Plan::Or(plans.into_iter().map(|planned| planned.plan).collect());
                Some(Planned { plan, is_exact })
            }
            Filter::Not(inner) => self.negated(self.plan(inner)?),
            Filter::Present(path) => exact(self.present(path)?),
            Filter::Values { path, filter } => self.within(path, filter),
            Filter::Compare { rule: None, op, value, .. } => match op {
                Op::Ne if !value.is_null() => exact(Plan::Everything),
                Op::Eq if value.is_null() => exact(Plan::Everything),
                _ => exact(Plan::Nothing),
            },
            Filter::Compare { path, op, value: Value::Null, rule: Some(_) } => {
                let present = self.present(path)?;
                if *op == Op::Ne { exact(present) } else { exact(Plan::Not(present.into())) }
            }
            Filter::Compare { path, op: Op::Ne, value, rule: Some(rule) } => {
                self.negated(self.compare(path, Op::Eq, value, *rule)?)
            }
            Filter::Compare { path, op, value, rule: Some(rule) } => self.compare(path, *op, value, *rule),
        }
    }

    /// Of what is not exact the opposite cannot be known.
    fn negated(&self, planned: Planned) -> Option<Planned> {
        planned.is_exact.then(|| Planned { plan: Plan::Not(planned.plan.into()), is_exact: true })
    }

    fn present(&self, path: &AttrPath) -> Option<Plan> {
        let column = self.directory.indexes().exactly(path)?;
        Some(Plan::Values(column, Range::Above(Vec::new())))
    }

    /// `attr[…]`: one comparison of `value` says it all, one of several narrows down.
    fn within(&self, path: &AttrPath, filter: &Filter) -> Option<Planned> {
        match filter {
            Filter::And(filters) => {
                let planned = filters.iter().find_map(|filter| self.within(path, filter))?;
                Some(Planned { is_exact: false, ..planned })
            }
            Filter::Compare { path: inner, op, value, rule: Some(rule) }
                if inner.is("value") && *op != Op::Ne && !value.is_null() =>
            {
                let path = AttrPath { sub: inner.name.clone(), ..path.clone() };
                self.compare(&path, *op, value, *rule)
            }
            Filter::Compare { .. }
            | Filter::Or(_)
            | Filter::Not(_)
            | Filter::Present(_)
            | Filter::Values { .. } => None,
        }
    }

    fn compare(&self, path: &AttrPath, op: Op, value: &Value, rule: Rule) -> Option<Planned> {
        let exact = |plan| Some(Planned { plan, is_exact: true });
        let name = path.name.as_deref().filter(|_| path.schema.is_none());
        let directory = self.directory;
        let by_id = || {
            let text = value.as_str()?;
            let text = if rule.case_exact { text.to_string() } else { text.to_ascii_lowercase() };
            directory.slot_at(text.parse::<ResourceId>().ok()?, self.at)
        };
        match (name, path.sub.as_deref(), op) {
            (Some("id"), None, Op::Eq) => exact(Plan::Slots(by_id().into_iter().collect())),
            (Some("members"), None | Some("value"), Op::Eq) => {
                let groups = by_id().map(|slot| directory.edges().groups(slot, self.at));
                exact(Plan::Slots(groups.unwrap_or_default()))
            }
            (Some("groups"), None | Some("value"), Op::Eq) => {
                exact(by_id().map_or(Plan::Nothing, Plan::Held))
            }
            (Some("externalId"), None, _) if rule.case_exact => {
                let text = value.as_str()?;
                match directory.source_column(self.source) {
                    Some(column) => self.values(column, op, text),
                    None => range(op, text).and_then(|_| exact(Plan::Nothing)),
                }
            }
            (Some("meta"), Some(sub @ ("created" | "lastModified")), _) if rule.kind == Type::DateTime => {
                exact(times(sub == "created", op, scim::instant(value.as_str()?)?)?)
            }
            (_, _, _) => {
                let indexes = directory.indexes();
                let column = indexes.find(path, rule)?;
                let text = indexes.compared(column, op, value)?;
                self.values(column, op, &text)
            }
        }
    }

    fn values(&self, column: ColumnNumber, op: Op, text: &str) -> Option<Planned> {
        if self.directory.values().is_exact(column) {
            return Some(Planned { plan: Plan::Values(column, range(op, text)?), is_exact: true });
        }
        // Of some only the beginning is kept, which tells nothing about their order.
        let range = match range(op, cut(text))? {
            range @ (Range::Equal(_) | Range::Prefix(_)) => range,
            Range::Above(_) | Range::AtLeast(_) | Range::Below(_) | Range::AtMost(_) => return None,
        };
        Some(Planned { plan: Plan::Values(column, range), is_exact: text.len() < CUT_BYTES_MIN })
    }

    /// How many of the type there are.
    pub(crate) fn total(&self) -> usize {
        self.directory.of_type(self.resource_type).map_or(0, |list| list.total())
    }

    /// About how many candidates a plan looks at.
    pub(crate) fn estimate(&self, plan: &Plan) -> usize {
        match plan {
            Plan::Nothing => 0,
            Plan::Everything | Plan::Not(_) => self.total(),
            Plan::Slots(slots) => slots.len(),
            Plan::Held(group) => self.directory.edges().member_count(*group),
            Plan::Values(column, range) => {
                let (from, to) = self.places(*column, range);
                self.directory.values().order(*column).map_or(0, |order| order.between(from, to))
            }
            Plan::Modified(low, high) => {
                let (from, to) = self.events(*low, *high);
                to.saturating_sub(from) as usize
            }
            Plan::Created(low, high) => {
                let (from, to) = self.directory.created_within(*low, *high);
                to.saturating_sub(from) as usize
            }
            Plan::And(plans) => plans.first().map_or(0, |plan| self.estimate(plan)),
            Plan::Or(plans) => plans.iter().map(|plan| self.estimate(plan)).sum(),
        }
    }

    pub(crate) fn places(&self, column: ColumnNumber, range: &Range) -> (Place, Place) {
        let values = self.directory.values();
        let Some(order) = values.order(column) else { return Default::default() };
        let from = |inclusive: bool, wanted: &[u8]| {
            order.place(beginning(wanted), |number| {
                let text = values.text(number);
                if inclusive { text < wanted } else { text <= wanted }
            })
        };
        let begin = || order.begin();
        match range {
            Range::Equal(wanted) => (from(true, wanted), from(false, wanted)),
            Range::Prefix(wanted) => {
                let behind = |number| {
                    let text = values.text(number);
                    text < wanted.as_slice() || text.starts_with(wanted)
                };
                (from(true, wanted), order.place_by(behind))
            }
            Range::Above(wanted) => (from(false, wanted), order.end()),
            Range::AtLeast(wanted) => (from(true, wanted), order.end()),
            Range::Below(wanted) => (begin(), from(true, wanted)),
            Range::AtMost(wanted) => (begin(), from(false, wanted)),
        }
    }

    /// Events within these times.
    pub(crate) fn events(&self, low: Option<i64>, high: Option<i64>) -> (Number, Number) {
        let column = &self.directory.versions().0;
        let from = low.map_or(0, |low| column.partition_point(|step| step.time_ms < low));
        let end = u32::try_from(column.len()).unwrap_or(u32::MAX).min(self.at.saturating_add(1));
        let to = high.map_or(end, |high| column.partition_point(|step| step.time_ms <= high));
        (from, to.min(end))
    }

    /// A plan in words, a line for each step, with about how many resources it looks at. No values are shown.
    pub(crate) fn explain(&self, plan: &Plan, depth: usize, lines: &mut Vec<String>) {
        let estimate = self.estimate(plan);
        let line =
            |what: &dyn fmt::Display| format!("{:indent$}{what}, about {estimate}", "", indent = depth * 2);
        let further: &[Plan] = match plan {
            Plan::Nothing => {
                lines.push(line(&"nothing"));
                &[]
            }
            Plan::Everything => {
                lines.push(line(&format_args!("every {}", self.resource_type)));
                &[]
            }
            Plan::Slots(_) | Plan::Held(_) => {
                lines.push(line(&"by id or membership"));
                &[]
            }
            Plan::Values(column, range) => {
                let name = self.directory.indexes().column(*column).map(|column| column.path.to_string());
                let name = name.unwrap_or_else(|| "externalId".to_string());
                let how = match range {
                    Range::Equal(_) => "equal",
                    Range::Prefix(_) => "by prefix",
                    Range::Above(wanted) if wanted.is_empty() => "present",
                    Range::Above(_) | Range::AtLeast(_) => "from a value on",
                    Range::Below(_) | Range::AtMost(_) => "up to a value",
                };
                lines.push(line(&format_args!("index {name} {how}")));
                &[]
            }
            Plan::Modified(..) => {
                lines.push(line(&"events within a time (meta.lastModified)"));
                &[]
            }
            Plan::Created(..) => {
                lines.push(line(&"created within a time (meta.created)"));
                &[]
            }
            Plan::And(plans) => {
                lines.push(line(&"the first that all hold for"));
                plans
            }
            Plan::Or(plans) => {
                lines.push(line(&"one of"));
                plans
            }
            Plan::Not(inner) => {
                lines.push(line(&"all but"));
                std::slice::from_ref(inner)
            }
        };
        for plan in further {
            self.explain(plan, depth + 1, lines);
        }
    }
}

fn range(op: Op, text: &str) -> Option<Range> {
    let wanted = text.as_bytes().to_vec();
    Some(match op {
        Op::Eq => Range::Equal(wanted),
        Op::Sw => Range::Prefix(wanted),
        Op::Gt => Range::Above(wanted),
        Op::Ge => Range::AtLeast(wanted),
        Op::Lt => Range::Below(wanted),
        Op::Le => Range::AtMost(wanted),
        Op::Ne | Op::Co | Op::Ew => return None,
    })
}

/// Times as they are shown, in whole milliseconds, compared with an instant that may lie between two.
fn times(created: bool, op: Op, instant: Timestamp) -> Option<Plan> {
    const NANOSECONDS: i128 = 1_000_000;
    let nanoseconds = instant.as_nanosecond();
    let before = i64::try_from(nanoseconds.div_euclid(NANOSECONDS)).ok()?;
    let is_whole = nanoseconds.rem_euclid(NANOSECONDS) == 0;
    let after = if is_whole { before } else { before + 1 };
    let (low, high) = match op {
        Op::Eq if is_whole => (Some(before), Some(before)),
        Op::Eq => return Some(Plan::Nothing),
        Op::Gt => (Some(before + 1), None),
        Op::Ge => (Some(after), None),
        Op::Lt => (None, Some(after - 1)),
        Op::Le => (None, Some(before)),
        Op::Ne | Op::Co | Op::Sw | Op::Ew => return None,
    };
    Some(if created { Plan::Created(low, high) } else { Plan::Modified(low, high) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_between_two_milliseconds_is_before_the_second() {
        let instant = Timestamp::from_nanosecond(5_000_001).unwrap();
        let whole = Timestamp::from_nanosecond(5_000_000).unwrap();
        for (op, at, expected) in [
            (Op::Gt, instant, Plan::Created(Some(6), None)),
            (Op::Ge, instant, Plan::Created(Some(6), None)),
            (Op::Lt, instant, Plan::Created(None, Some(5))),
            (Op::Le, instant, Plan::Created(None, Some(5))),
            (Op::Eq, instant, Plan::Nothing),
            (Op::Gt, whole, Plan::Created(Some(6), None)),
            (Op::Ge, whole, Plan::Created(Some(5), None)),
            (Op::Lt, whole, Plan::Created(None, Some(4))),
            (Op::Le, whole, Plan::Created(None, Some(5))),
            (Op::Eq, whole, Plan::Created(Some(5), Some(5))),
        ] {
            assert_eq!(times(true, op, at), Some(expected), "{op:?} {at:?}");
        }
    }
}
