//! `make bench`, or `make bench GROUP=scim`: what things cost, each beside a baseline of the same run.

mod http;
mod scim_group;

fn main() {
    let wanted = std::env::args().nth(1).filter(|name| !name.is_empty());
    let groups: [(&str, fn()); 2] = [("scim", scim_group::run), ("http", http::run)];
    if let Some(name) = &wanted
        && !groups.iter().any(|(known, _)| known == name)
    {
        eprintln!("there is no group {name:?}; there are scim and http");
        std::process::exit(2);
    }
    for (name, run) in groups {
        if wanted.as_deref().is_none_or(|wanted| wanted == name) {
            println!("== {name} ==");
            run();
        }
    }
}
