//! Questions about earlier instants: each is a title, what asks it once, and what was asked for.

use futures::future::LocalBoxFuture;

use super::inside::{World, a_cell, timed};
use super::table;

/// Asks once; the number says how often it was asked before.
type Ask<'a> = Box<dyn Fn(usize) -> LocalBoxFuture<'a, ()> + 'a>;

pub(crate) fn run(world: &World) {
    for (title, ask, asked) in asks(world) {
        let figures = timed(a_cell, async |number| ask(number).await);
        table::latency(title, &figures, &format!("asked: {asked}"));
    }
}

/// All of them; one looks like `("…", Box::new(move |number| Box::pin(async move { … })), "< 1 ms")`.
fn asks(_: &World) -> Vec<(&'static str, Ask<'_>, &'static str)> {
    Vec::new()
}
