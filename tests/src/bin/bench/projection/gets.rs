//! One resource: by its id and by its name, from a hot working set and at random.

use super::asks::Question;
use super::inside::{WORKING, World, a_cell, timed};
use super::table;

/// How many are drawn at random.
const DRAWN: usize = 200_000;

pub(crate) fn run(world: &World) {
    let population = &world.population;
    let working: Vec<usize> = population.spread(WORKING).collect();
    let hot = format!("{} who are hot", working.len());
    let drawn: Vec<usize> = population.by_chance(DRAWN).collect();
    let any = format!("any of {}", population.users);
    by_id(world, &hot, &working, true);
    by_name(world, &hot, &working);
    by_id(world, &any, &drawn, false);
    by_name(world, &any, &drawn);
}

fn by_id(world: &World, of: &str, users: &[usize], warm: bool) {
    let ids: Vec<_> = users.iter().map(|user| world.population.user_id(*user)).collect();
    let get = async |number: usize| {
        let id = *ids.get(number % ids.len()).expect("an index within bounds");
        let json = world.asks.get("User", id).await;
        assert!(json.len() > 1_000);
    };
    if warm {
        crate::load::on_one_thread(async {
            for number in 0..ids.len() {
                get(number).await;
            }
        });
    }
    let figures = timed(a_cell, get);
    table::rate(&format!("get by id, {of}"), figures.rate, "100,000/s");
    table::latency("", &figures, "");
}

fn by_name(world: &World, of: &str, users: &[usize]) {
    let filters: Vec<String> =
        users.iter().map(|user| format!("userName eq \"{}\"", world.population.user_name(*user))).collect();
    let figures = timed(a_cell, async |number: usize| {
        let filter = filters.get(number % filters.len()).map(String::as_str);
        let answer = world.asks.list(Question { kind: "User", filter, sort: None, count: 20 }).await;
        assert_eq!((answer.total, answer.shown), (1, 1));
    });
    table::rate(&format!("userName eq, read and answered, {of}"), figures.rate, "80,000/s");
    table::latency("", &figures, "");
}
