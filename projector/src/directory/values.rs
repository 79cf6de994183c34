//! Indexed values: which resource had which, from which event until which; in order, so that equality, prefixes and
//! ranges are found, now and as of any moment.

use std::cmp::Ordering;
use std::sync::{Mutex, PoisonError};

use super::counts::Counts;
use super::edges::Slot;
use super::versions::{NONE, Number};
use crate::table::{Beginning, Column, Input, Order, Output, Text, Texts, cut, mark, plain_struct};

/// Which attribute a value is of.
pub(crate) type ColumnNumber = u16;
/// A value that was wiped.
const WIPED: ColumnNumber = ColumnNumber::MAX;
/// The column of names to show: what a resource is called by those that refer to it. In no order.
pub(crate) const DISPLAY: ColumnNumber = 0;
/// So many new values are put into their order one by one; more are sorted together.
const ONE_BY_ONE_MAX: usize = 64;

/// A value of a resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posting {
    pub(crate) slot: Slot,
    pub(crate) from: Number,
    pub(crate) to: Number,
    /// The resource's next one.
    next: Number,
    text: Text,
    pub(crate) column: ColumnNumber,
}

plain_struct!(Posting { slot: u32, from: u32, to: u32, next: u32, text: Text, column: u16 });

impl Posting {
    pub(crate) fn is_at(&self, at: Number) -> bool {
        self.from <= at && at < self.to
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    postings: Column<Posting>,
    texts: Texts,
    /// By slot: its first posting.
    heads: Column<Number>,
    /// By column.
    orders: Vec<Order>,
    /// By column: what is not in its order yet.
    waiting: Vec<Vec<Number>>,
    /// By column and resource type: how many values there are now.
    open: Counts,
    /// By column: whether texts were longer than what is kept of them, so that the order is not exact.
    cut: Vec<bool>,
}

/// A column's order with what waited for it.
pub(crate) struct Ordered {
    column: usize,
    /// How many waited.
    taken: usize,
    order: Order,
}

impl Values {
    /// Makes room for the next slot.
    pub(crate) fn grow(&mut self) {
        self.heads.push(NONE);
    }

    /// The values of a resource of this type from this event on. Those that stay are left alone. `later`: many more come, so their
    /// order is left for later.
    pub(crate) fn set(
        &mut self,
        slot: Slot,
        kind: u8,
        at: Number,
        values: &[(ColumnNumber, impl AsRef<str>)],
        later: bool,
    ) {
        let mut known = vec![false; values.len()];
        let mut number = self.heads.get(slot).unwrap_or(NONE);
        while let Some(posting) = self.postings.get(number) {
            if posting.to == NONE {
                let text = self.texts.get(posting.text);
                let same = |(column, value): &(ColumnNumber, _)| {
                    *column == posting.column && cut(AsRef::<str>::as_ref(value)).as_bytes() == text
                };
                match values.iter().position(same).and_then(|index| known.get_mut(index)) {
                    Some(known) => *known = true,
                    None => {
                        if let Some(posting) = self.postings.at_mut(number) {
                            posting.to = at;
                        }
                        self.open.count(posting.column, kind, false);
                    }
                }
            }
            number = posting.next;
        }
        // The name to show is asked for most; what comes last is found first.
        for ((column, value), _) in values.iter().zip(&known).rev().filter(|(_, known)| !**known) {
            self.add(slot, at, *column, value.as_ref(), later);
            self.open.count(*column, kind, true);
        }
    }

    /// How many values of a column resources of a type have now.
    pub(crate) fn counted(&self, column: ColumnNumber, kind: u8) -> usize {
        self.open.get(column, kind) as usize
    }

    /// Counts all values there are now, where that was never done.
    pub(super) fn count_all(&mut self, kind: impl Fn(Slot) -> u8) {
        let mut open = Counts::default();
        for posting in self.postings.iter().filter(|posting| posting.to == NONE && posting.column != WIPED) {
            open.count(posting.column, kind(posting.slot), true);
        }
        self.open = open;
    }

    fn add(&mut self, slot: Slot, from: Number, column: ColumnNumber, value: &str, later: bool) {
        let text = self.texts.push(value);
        let next = self.heads.get(slot).unwrap_or(NONE);
        let number = self.postings.push(Posting { slot, from, to: NONE, next, text, column });
        if let Some(head) = self.heads.at_mut(slot) {
            *head = number;
        }
        if column == DISPLAY {
            return;
        }
        let index = usize::from(column);
        if self.orders.len() <= index {
            self.orders.resize_with(index + 1, Order::default);
            self.waiting.resize_with(index + 1, Vec::new);
            self.cut.resize(index + 1, false);
        }
        if text.len() < value.len()
            && let Some(cut) = self.cut.get_mut(index)
        {
            *cut = true;
        }
        if let Some(waiting) = self.waiting.get_mut(index)
            && (later || !waiting.is_empty())
        {
            waiting.push(number);
            return;
        }
        self.put(index, number);
    }

    fn put(&mut self, column: usize, number: Number) {
        let Some(order) = self.orders.get_mut(column) else { return };
        put(order, &self.postings, &self.texts, number);
    }

    /// How many values wait for their order.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }

    /// Puts what waits into its order.
    pub(crate) fn settle(&mut self) {
        for column in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.get_mut(column) else { return };
            let waiting = std::mem::take(waiting);
            let known = self.orders.get(column).map_or(0, Order::len);
            if is_few(waiting.len(), known) {
                waiting.into_iter().for_each(|number| self.put(column, number));
            } else if let Some(merged) = self.merged(column, &waiting, &mut Vec::new())
                && let Some(order) = self.orders.get_mut(column)
            {
                *order = merged;
            }
        }
    }

    /// The orders as they are with what waits now, for [`Values::adopt`]: to be made of a copy, while the directory goes
    /// on. Columns are shared out between two threads.
    pub(crate) fn ordered(&self) -> Vec<Ordered> {
        let mut columns: Vec<(usize, usize)> = self.waiting.iter().map(Vec::len).enumerate().collect();
        columns.retain(|(_, waiting)| *waiting > 0);
        columns.sort_unstable_by_key(|(_, waiting)| *waiting);
        let next = Mutex::new(columns);
        let work = || {
            let (mut done, mut keyed) = (Vec::new(), Vec::new());
            loop {
                let column = next.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some((column, taken)) = column else { return done };
                let waiting = self.waiting.get(column).map(Vec::as_slice).unwrap_or_default();
                let merged = self.merged(column, waiting, &mut keyed);
                done.extend(merged.map(|order| Ordered { column, taken, order }));
            }
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(work);
            let mut done = work();
            // What is missing stays waiting.
            done.extend(other.join().unwrap_or_default());
            done
        })
    }

    /// Takes over what was made of a copy. What came since then waits; nobody may have been wiped since then.
    pub(crate) fn adopt(&mut self, ordered: Vec<Ordered>) {
        for Ordered { column, taken, order } in ordered {
            if let (Some(waiting), Some(former)) = (self.waiting.get_mut(column), self.orders.get_mut(column))
            {
                *former = order;
                *waiting = waiting.split_off(taken.min(waiting.len()));
            }
        }
    }

    /// A column's order with these besides.
    fn merged(
        &self,
        column: usize,
        waiting: &[Number],
        keyed: &mut Vec<(Beginning, Number)>,
    ) -> Option<Order> {
        let (order, postings, texts) = (self.orders.get(column)?, &self.postings, &self.texts);
        if is_few(waiting.len(), order.len()) {
            // A copy costs only the blocks that are changed.
            let mut order = order.clone();
            waiting.iter().for_each(|number| put(&mut order, postings, texts, *number));
            return Some(order);
        }
        self.sort(waiting, keyed);
        let mut new = keyed.iter().map(|(_, number)| *number).peekable();
        let mut merged = Vec::with_capacity(order.len() + waiting.len());
        for old in order.iter() {
            while let Some(next) = new.next_if(|next| compare(postings, texts, *next, old).is_lt()) {
                merged.push(next);
            }
            merged.push(old);
        }
        merged.extend(new);
        Some(Order::of_sorted(&merged, |number| beginning(text(postings, texts, number))))
    }

    /// Sorts postings by how their texts begin, which stands side by side in `keyed` then, and looks further only where
    /// they begin alike.
    fn sort(&self, numbers: &[Number], keyed: &mut Vec<(Beginning, Number)>) {
        let begins = |number: Number| beginning(text(&self.postings, &self.texts, number));
        keyed.clear();
        keyed.extend(numbers.iter().map(|number| (begins(*number), *number)));
        keyed.sort_unstable_by(|(left, one), (right, other)| {
            left.cmp(right).then_with(|| compare(&self.postings, &self.texts, *one, *other))
        });
    }

    /// Leaves nothing of a resource's values.
    pub(crate) fn wipe(&mut self, slot: Slot, kind: u8) {
        self.settle();
        let mut number = self.heads.get(slot).unwrap_or(NONE);
        while let Some(posting) = self.postings.get(number) {
            if let Some(order) = self.orders.get_mut(usize::from(posting.column)) {
                let (postings, texts) = (&self.postings, &self.texts);
                order.remove(|other| compare(postings, texts, other, number));
            }
            self.texts.wipe(posting.text);
            if posting.to == NONE && posting.column != WIPED {
                self.open.count(posting.column, kind, false);
            }
            if let Some(posting) = self.postings.at_mut(number) {
                *posting = Posting { text: Text::default(), column: WIPED, ..*posting };
            }
            number = posting.next;
        }
    }

    /// A resource's values at a moment, the newest first.
    pub(crate) fn of(&self, slot: Slot, at: Number) -> impl Iterator<Item = (ColumnNumber, &str)> {
        let first = self.heads.get(slot).and_then(|head| self.postings.at(head));
        std::iter::successors(first, |posting| self.postings.at(posting.next))
            .filter(move |posting| posting.is_at(at))
            .map(|posting| {
                (posting.column, std::str::from_utf8(self.texts.get(posting.text)).unwrap_or_default())
            })
    }

    /// A resource's value in a column at a moment.
    pub(crate) fn value(&self, slot: Slot, column: ColumnNumber, at: Number) -> Option<&str> {
        self.bytes_of_value(slot, column, at).map(|text| std::str::from_utf8(text).unwrap_or_default())
    }

    /// The same as bytes.
    pub(crate) fn bytes_of_value(&self, slot: Slot, column: ColumnNumber, at: Number) -> Option<&[u8]> {
        let first = self.heads.get(slot).and_then(|head| self.postings.at(head));
        std::iter::successors(first, |posting| self.postings.at(posting.next))
            .find(|posting| posting.column == column && posting.is_at(at))
            .map(|posting| self.texts.get(posting.text))
    }

    /// Has near what each of these is called.
    pub(crate) fn look_ahead(&self, slots: &[Slot]) {
        let heads: Vec<Number> = slots.iter().filter_map(|slot| self.heads.get(*slot)).collect();
        let texts: Vec<Text> = heads.iter().filter_map(|head| Some(self.postings.at(*head)?.text)).collect();
        std::hint::black_box(
            texts.iter().filter_map(|text| self.texts.get(*text).first()).fold(0, |all, byte| all ^ byte),
        );
    }

    /// The postings of exactly this text in a column, in their order.
    pub(crate) fn equal(&self, column: ColumnNumber, text: &[u8]) -> Vec<Number> {
        let order = self.orders.get(usize::from(column));
        order.map(|order| order.equal(text, beginning(text), |number| self.text(number))).unwrap_or_default()
    }

    /// Whether the postings of exactly this text may be more than so many.
    pub(crate) fn may_be_more(&self, most: usize, column: ColumnNumber, text: &[u8]) -> bool {
        let order = self.orders.get(usize::from(column));
        order.is_some_and(|order| order.may_be_more(most, text, beginning(text), |number| self.text(number)))
    }

    pub(crate) fn posting(&self, number: Number) -> Option<&Posting> {
        self.postings.at(number)
    }

    pub(crate) fn text(&self, number: Number) -> &[u8] {
        text(&self.postings, &self.texts, number)
    }

    pub(crate) fn order(&self, column: ColumnNumber) -> Option<&Order> {
        self.orders.get(usize::from(column))
    }

    /// Whether the order of a column is that of whole texts.
    pub(crate) fn is_exact(&self, column: ColumnNumber) -> bool {
        !self.cut.get(usize::from(column)).copied().unwrap_or_default()
    }

    pub(super) fn write(&self, output: &mut Output<'_>) {
        self.postings.write(output);
        self.texts.write(output);
        self.heads.write(output);
        output.put(self.orders.len() as u64);
        for ((order, waiting), cut) in self.orders.iter().zip(&self.waiting).zip(&self.cut) {
            order.write(output);
            output.put(waiting.len() as u64);
            for number in waiting {
                output.put(*number);
                output.spill();
            }
            output.put(u8::from(*cut));
        }
    }

    pub(super) fn read(input: &mut Input<'_>) -> Option<Self> {
        let postings = Column::read(input)?;
        let texts = Texts::read(input)?;
        let heads = Column::read(input)?;
        let mut values = Self { postings, texts, heads, ..Self::default() };
        for _ in 0..input.count()? {
            let begins = |number| beginning(text(&values.postings, &values.texts, number));
            values.orders.push(Order::read(input, begins)?);
            let waiting = Column::<Number>::read(input)?;
            values.waiting.push(waiting.iter().copied().collect());
            values.cut.push(input.take::<u8>()? != 0);
        }
        Some(values)
    }

    pub(crate) fn bytes(&self) -> usize {
        let orders: usize = self.orders.iter().map(Order::bytes).sum();
        self.postings.bytes() + self.texts.bytes() + self.heads.bytes() + orders
    }
}

fn text<'a>(postings: &Column<Posting>, texts: &'a Texts, number: Number) -> &'a [u8] {
    postings.at(number).map(|posting| texts.get(posting.text)).unwrap_or_default()
}

/// Whether so many new values are put into an order of so many faster one by one than by making it anew.
fn is_few(new: usize, known: usize) -> bool {
    new <= ONE_BY_ONE_MAX || new < known / 16
}

fn put(order: &mut Order, postings: &Column<Posting>, texts: &Texts, number: Number) {
    let begins = |number| beginning(text(postings, texts, number));
    let mark = mark(text(postings, texts, number));
    order.insert(number, mark, begins, |other| compare(postings, texts, other, number));
}

/// How a text begins, as a number that sorts as texts do.
pub(crate) fn beginning(text: &[u8]) -> Beginning {
    let mut begins = [0; size_of::<Beginning>()];
    begins.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    Beginning::from_be_bytes(begins)
}

/// By text, then by resource, then by age.
fn compare(postings: &Column<Posting>, texts: &Texts, one: Number, other: Number) -> Ordering {
    let (Some(left), Some(right)) = (postings.at(one), postings.at(other)) else { return one.cmp(&other) };
    let by_text = || texts.get(left.text).cmp(texts.get(right.text));
    if one == other {
        return Ordering::Equal;
    }
    by_text().then(left.slot.cmp(&right.slot)).then(one.cmp(&other))
}

#[cfg(test)]
mod tests {
    use super::super::versions::NOW;
    use super::*;

    fn having(values: &Values, column: ColumnNumber, at: Number) -> Vec<(String, Slot)> {
        let order = values.order(column).unwrap();
        let text = |number| String::from_utf8(values.text(number).to_vec()).unwrap();
        order
            .iter()
            .filter(|number| values.posting(*number).unwrap().is_at(at))
            .map(|number| (text(number), values.posting(number).unwrap().slot))
            .collect()
    }

    #[test]
    fn values_change_and_the_past_stays_until_it_is_wiped() {
        for later in [false, true] {
            let mut values = Values::default();
            (0..3).for_each(|_| values.grow());
            values.set(0, 0, 0, &[(1, "ada"), (DISPLAY, "Ada")], later);
            values.set(1, 0, 1, &[(1, "bob"), (2, "x")], later);
            values.set(2, 0, 2, &[(1, "ada")], later);
            values.set(0, 0, 3, &[(1, "eve"), (DISPLAY, "Ada")], later);
            values.set(1, 0, 4, &[] as &[(ColumnNumber, &str)], later);
            values.settle();
            let named = |texts: &[(&str, Slot)]| -> Vec<(String, Slot)> {
                texts.iter().map(|(text, slot)| (text.to_string(), *slot)).collect()
            };
            assert_eq!(having(&values, 1, NOW), named(&[("ada", 2), ("eve", 0)]));
            assert_eq!(having(&values, 1, 2), named(&[("ada", 0), ("ada", 2), ("bob", 1)]));
            assert_eq!(having(&values, 2, 1), named(&[("x", 1)]));
            assert_eq!(values.value(0, DISPLAY, NOW), Some("Ada"));
            assert_eq!(values.value(0, 1, 1), Some("ada"));
            values.wipe(0, 0);
            assert_eq!(having(&values, 1, 2), named(&[("ada", 2), ("bob", 1)]));
            assert_eq!(values.value(0, DISPLAY, 1), None);
        }
    }

    #[test]
    fn many_are_sorted_as_few() {
        let (mut one, mut many) = (Values::default(), Values::default());
        for slot in 0..2_000_u32 {
            let text = format!("{}-same-beginning-{}", slot % 7, slot.wrapping_mul(2_654_435_761));
            for (values, later) in [(&mut one, false), (&mut many, slot % 900 != 0)] {
                values.grow();
                values.set(slot, 0, slot, &[(1, &text)], later);
                if slot % 500 == 0 {
                    values.settle();
                }
            }
        }
        many.settle();
        assert!(one.order(1).unwrap().iter().eq(many.order(1).unwrap().iter()));
    }

    #[test]
    fn an_order_that_was_made_of_a_copy_is_taken_over_and_what_came_since_waits() {
        let (mut one, mut aside) = (Values::default(), Values::default());
        let name = |slot: u32| format!("{}", slot.wrapping_mul(2_654_435_761));
        let set = |values: &mut Values, slot: u32, later| {
            values.grow();
            values.set(slot, 0, slot, &[(1, name(slot)), (2, format!("{}", slot % 5))], later);
        };
        // In the last rounds few come to many.
        let sizes = [1_000, 1_000, 1_000, 100, 50, 180];
        let mut last = 0;
        for size in sizes {
            let (first, copied) = (last, last + size / 10 * 7);
            last += size;
            (first..last).for_each(|slot| set(&mut one, slot, false));
            (first..copied).for_each(|slot| set(&mut aside, slot, true));
            let ordered = aside.clone().ordered();
            (copied..last).for_each(|slot| set(&mut aside, slot, true));
            aside.adopt(ordered);
            assert_eq!(aside.waiting() as u32, size / 10 * 3 * 2);
            aside.settle();
            for column in [1, 2] {
                assert!(one.order(column).unwrap().iter().eq(aside.order(column).unwrap().iter()));
            }
        }
    }

    #[test]
    fn what_is_equal_is_found_while_values_come_and_go() {
        let mut values = Values::default();
        // Hundreds are called alike, others begin alike, and some are alone.
        let name = |slot: u32| match slot % 4 {
            0 => "everybody else".to_string(),
            1 => format!("everybody else {}", slot % 300),
            2 => format!("{slot}"),
            _ => String::new(),
        };
        let check = |values: &Values, sought: &str| {
            let is_same = |number: &Number| values.text(*number) == sought.as_bytes();
            let expected: Vec<Number> = values.order(1).unwrap().iter().filter(is_same).collect();
            assert_eq!(values.equal(1, sought.as_bytes()), expected, "{sought:?}");
            let fewer = expected.len().checked_sub(1);
            assert!(fewer.is_none_or(|most| values.may_be_more(most, 1, sought.as_bytes())), "{sought:?}");
            assert!(!values.may_be_more(usize::MAX, 1, sought.as_bytes()));
            expected.len()
        };
        for slot in 0..8_000 {
            values.grow();
            values.set(slot, 0, slot, &[(1, name(slot))], slot < 2_000);
            if slot == 2_000 {
                values.settle();
            }
            if slot > 2_000 && slot % 500 == 0 {
                for near in 0..8 {
                    check(&values, &name(slot - near));
                }
                check(&values, "nobody");
                values.wipe(slot - 3, 0);
                values.wipe(slot - 4, 0);
            }
        }
        assert_eq!(check(&values, "everybody else"), 1_989);
        assert_eq!(check(&values, "7998"), 1);
        assert_eq!(check(&values, "\u{10FFFF}"), 0);
        assert!(values.equal(2, b"").is_empty());
    }
}
