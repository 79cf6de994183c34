//! What a house wrote down of its own administration.

use std::time::Duration;

use futures::StreamExt;
use proto::control::{self, Event};

use crate::House;

/// Every event of the stream CONTROL, in order.
pub fn control(house: &House) -> Vec<Event> {
    let url = house.env("NATS_URL").to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let connect_timeout = Duration::from_secs(60);
        let config = eventlog::nats::Config { url, replicas: 1, connect_timeout, ..Default::default() };
        let control = eventlog::nats::connect(&config).await.expect("the broker answers").control;
        let last = control.last_sequence().await.expect("the broker answers");
        let messages = control.follow(1).take(usize::try_from(last).expect("so many fit"));
        let events = messages.map(|message| {
            control::decode(message.expect("a message of CONTROL").payload).expect("an event of CONTROL")
        });
        events.collect().await
    })
}
