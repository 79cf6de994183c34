//! The same questions as of earlier moments: in the middle of the history, when half of the people were there.

use super::asks::{Asks, Question};
use super::inside::{World, a_cell, timed};
use super::population::RARE_TITLE;
use super::table;

pub(crate) fn run(world: &World) {
    let then = world.asks.at(world.feed.written() / 2);
    let people = world.population.users / 2;
    let figures = timed(a_cell, async |number| {
        let user = number * 7_919 % people;
        then.get("User", world.population.user_id(user)).await;
    });
    table::latency("one resource as of an earlier event", &figures, "asked: < 1 ms");
    let name =
        world.population.user(people / 3).get("userName").and_then(|name| name.as_str().map(str::to_string));
    let name = name.expect("a user has a name");
    ask(&then, "userName eq, as of it", &format!("userName eq \"{name}\""), "< 50 ms");
    let beginning = name.get(..6).unwrap_or(&name);
    ask(&then, "userName sw, as of it", &format!("userName sw \"{beginning}\""), "< 50 ms");
    let rare = RARE_TITLE.get(7..).unwrap_or_default();
    ask(&then, "title co, without an index, as of it", &format!("title co \"{rare}\""), "< 15 s");
}

fn ask(then: &Asks, title: &str, filter: &str, asked: &str) {
    let question = Question { kind: "User", filter: Some(filter), sort: None, count: 20 };
    let mut total = 0;
    let figures = timed(a_cell, async |_| total = then.list(question).await.total);
    table::latency(title, &figures, &format!("asked: {asked}; {total} found"));
}
