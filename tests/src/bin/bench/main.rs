//! `make bench`, or `make bench GROUP=scim`: what things cost, each beside a baseline of the same run. Further words
//! narrow a group down: `make bench GROUP="write sync 64"`, `make bench GROUP="projection 20000 inside"`.

mod broker;
mod bulk;
mod dispatch;
mod floor;
mod http;
mod load;
mod projection;
mod scim_group;
mod write;

/// As the gateway, so that the floor is the same kind of server.
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// A group: its name, what runs it, and whether it runs when nothing is named.
type Group = (&'static str, fn(&[String]), bool);

const GROUPS: [Group; 8] = [
    ("scim", |_| scim_group::run(), true),
    ("http", |_| http::run(), true),
    ("write", write::run, true),
    ("bulk", |_| bulk::run(), true),
    ("write-million", write::run_million, false),
    ("dispatch", dispatch::run, false),
    ("projection", projection::run, false),
    ("projection-million", projection::run_million, false),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().filter(|name| !name.is_empty());
    let mut next = || arguments.next().unwrap_or_default();
    match wanted.as_deref() {
        Some(floor::ROLE) => return floor::serve(&next(), &next()),
        Some(projection::HOLD) => return projection::hold(&next(), &next(), &next()),
        Some(projection::SERVE) => return projection::serve(&next(), &next()),
        Some(_) | None => {}
    }
    if let Some(name) = &wanted
        && !GROUPS.iter().any(|(known, ..)| known == name)
    {
        let known: Vec<&str> = GROUPS.iter().map(|(known, ..)| *known).collect();
        eprintln!("there is no group {name:?}; there are {}", known.join(", "));
        std::process::exit(2);
    }
    let words: Vec<String> = arguments.collect();
    for (name, run, by_itself) in GROUPS {
        if wanted.as_deref().map_or(by_itself, |wanted| wanted == name) {
            println!("== {name} ==");
            run(&words);
        }
    }
}
