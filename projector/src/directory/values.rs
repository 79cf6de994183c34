//! Indexed values: which resource had which, from which event until which; in order, so that equality, prefixes and
//! ranges are found, now and as of any moment.

mod ordering;

use std::cmp::Ordering;

use super::counts::Counts;
use super::edges::Slot;
use super::versions::{NONE, Number};
use crate::table::{Beginning, Column, Input, Order, Output, Text, Texts, cut, mark, plain_struct};
pub(crate) use ordering::Ordered;

/// Which attribute a value is of.
pub(crate) type ColumnNumber = u16;
/// A value that was wiped.
const WIPED: ColumnNumber = ColumnNumber::MAX;
/// The column of names to show: what a resource is called by those that refer to it. In no order.
pub(crate) const DISPLAY: ColumnNumber = 0;

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
    /// How often orders were changed where they are: those that were made of a copy from before lack that.
    settled: u64,
    /// By column and resource type: how many values there are now.
    open: Counts,
    /// By column: whether texts were longer than what is kept of them, so that the order is not exact.
    cut: Vec<bool>,
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
