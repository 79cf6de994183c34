//! Putting values in order: one by one while few come, and together, of a copy if need be, when many do.

use std::sync::{Mutex, PoisonError};

use super::{Beginning, Number, Order, Values, beginning, compare, put, text};

/// So many new values are put into their order one by one; more are sorted together.
const ONE_BY_ONE_MAX: usize = 64;

/// Orders with what waited for them.
pub(crate) struct Ordered {
    /// What tells whether they are as new as those whose places they are to take.
    settled: u64,
    columns: Vec<OrderedColumn>,
}

struct OrderedColumn {
    column: usize,
    /// How many waited.
    taken: usize,
    order: Order,
}

impl Values {
    /// How many values wait for their order.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }

    /// Puts what waits into its order.
    pub(crate) fn settle(&mut self) {
        self.settled += 1;
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
    pub(crate) fn ordered(&self) -> Ordered {
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
                done.extend(merged.map(|order| OrderedColumn { column, taken, order }));
            }
        };
        let columns = std::thread::scope(|scope| {
            let other = scope.spawn(work);
            let mut done = work();
            // What is missing stays waiting.
            done.extend(other.join().unwrap_or_default());
            done
        });
        Ordered { settled: self.settled, columns }
    }

    /// Takes over what was made of a copy. What came since then waits. Nothing is taken over when somebody was wiped since
    /// then, or when what waited was put in order here.
    pub(crate) fn adopt(&mut self, ordered: Ordered) {
        if ordered.settled != self.settled {
            return;
        }
        for OrderedColumn { column, taken, order } in ordered.columns {
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
}

/// Whether so many new values are put into an order of so many faster one by one than by making it anew.
fn is_few(new: usize, known: usize) -> bool {
    new <= ONE_BY_ONE_MAX || new < known / 16
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Others may put in order what waits while a copy is sorted, and more may come: it would be lost with the former order.
    #[test]
    fn an_order_that_was_made_of_a_copy_does_not_take_the_place_of_a_newer_one() {
        let (mut one, mut aside) = (Values::default(), Values::default());
        let mut come = |aside: &mut Values, slots: std::ops::Range<u32>, later| {
            for slot in slots {
                for (values, later) in [(&mut one, false), (&mut *aside, later)] {
                    values.grow();
                    values.set(slot, 0, slot, &[(1, format!("{}", slot % 97))], later);
                }
            }
        };
        come(&mut aside, 0..500, true);
        let ordered = aside.clone().ordered();
        come(&mut aside, 500..600, true);
        aside.settle();
        come(&mut aside, 600..610, false);
        come(&mut aside, 610..900, true);
        aside.adopt(ordered);
        aside.settle();
        assert!(one.order(1).unwrap().iter().eq(aside.order(1).unwrap().iter()));
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
}
