//! What a Bulk request of creates costs, beside the same one after the other.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use street::House;
use street::house::{Options, user};

use crate::load::{self, Figures, Pace, Target, Work};

/// Operations of a request.
const OPERATIONS: usize = 100;
const CONNECTIONS: [usize; 2] = [1, 8];
const CELL: Duration = Duration::from_millis(2_500);
const ROUNDS: usize = 3;

pub(crate) fn run() {
    println!(
        "requests of {OPERATIONS} creates, sync_interval: always; each cell in {ROUNDS} rounds, in turn with its baseline"
    );
    let house = |parallel_max: usize| {
        House::start_with(Options {
            flags: vec!["--no-demo".to_string()],
            configuration: Some(format!("[gateway.limits]\nbulk_parallel_max = {parallel_max}\n")),
            ..Options::default()
        })
    };
    let houses = [house(1), house(gateway::Limits::default().bulk_parallel_max)];
    let targets = [0, 1].map(|place: usize| {
        let house = houses.get(place).expect("two houses");
        Target::new(house.env("SCIM_URL"), house.env("SCIM_TOKEN"))
    });
    for connections in CONNECTIONS {
        let mut cells: [Vec<Figures>; 2] = Default::default();
        for round in 0..ROUNDS {
            for (cell, target) in cells.iter_mut().zip(&targets) {
                let run = format!("bulk-{connections}-{round}");
                let requests = Arc::new(Requests { target: target.clone(), run });
                cell.push(load::run(target, connections, Pace::Closed, CELL, requests));
            }
        }
        let [alone, together] = cells.map(load::median);
        println!(" {connections} connections");
        alone.show("one after the other");
        together.show("neighbours at once");
        let each = together.rate * OPERATIONS as f64;
        println!("    {:.2} x the baseline's rate: {each:.0} creates a second", together.rate / alone.rate);
    }
}

struct Requests {
    target: Target,
    run: String,
}

impl Work for Requests {
    fn request(&self, number: usize) -> Vec<u8> {
        let operation = |place: usize| {
            let name = format!("{}-{number}-{place}", self.run);
            json!({"method": "POST", "path": "/Users", "bulkId": place.to_string(), "data": user(&name)})
        };
        let operations: Vec<Value> = (0..OPERATIONS).map(operation).collect();
        let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": operations});
        self.target.request("POST", "/Bulk", &body.to_string())
    }

    fn answered(&self, _: usize, status: u16, body: &[u8]) {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let made = text.matches("\"status\":\"201\"").count();
        assert_eq!((status, made), (200, OPERATIONS), "{text}");
    }
}
