//! What lies between one process and the broker: delays, lost requests, lost answers, times without any connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Chance, Faults};
use crate::Error;

/// How often what goes wrong, in a thousand, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Requests that never arrive; the sender waits for nothing.
    pub lost_requests: u64,
    /// Answers that never arrive, although all was done.
    pub lost_answers: u64,
    /// As above, of changes to a bucket.
    pub lost_bucket_answers: u64,
    /// Questions that are lost, or whose answers are.
    pub lost_questions: u64,
    /// Requests that arrive after their sender has given the attempt up.
    pub late_requests: u64,
    /// Requests that the broker puts off without doing anything.
    pub refused_requests: u64,
    /// Requests and answers that take longer than an instant.
    pub slow: u64,
    /// How long those take at most.
    pub slow_max: Duration,
    /// Requests at which the connection breaks for a while.
    pub breaks: u64,
    /// For how long at most.
    pub break_max: Duration,
    /// Deliveries to a follower that come late, in a burst with what follows.
    pub late_deliveries: u64,
    /// By how much at most.
    pub late_delivery_max: Duration,
    /// Deliveries at which the follower's consumer is lost; the new one repeats the last messages, and what it repeats is
    /// passed over below the contract, as it is on the real broker.
    pub lost_consumers: u64,
    /// How long one attempt waits for its answer.
    pub attempt_timeout: Duration,
    /// How long to wait between two attempts.
    pub retry_delay: Duration,
    /// Writes that are acknowledged and forgotten. No broker may do that; a simulation that does not notice is worth
    /// nothing.
    pub forgotten: u64,
    /// Guards that are not looked at. As above.
    pub unguarded: u64,
}

impl Weather {
    /// Everything that a real network and a real broker do on a bad day.
    pub fn storm() -> Self {
        Self {
            lost_requests: 15,
            lost_answers: 25,
            lost_bucket_answers: 25,
            lost_questions: 25,
            late_requests: 15,
            refused_requests: 10,
            slow: 400,
            slow_max: Duration::from_millis(40),
            breaks: 2,
            break_max: Duration::from_secs(12),
            late_deliveries: 150,
            late_delivery_max: Duration::from_millis(400),
            lost_consumers: 5,
            attempt_timeout: Duration::from_secs(2),
            retry_delay: Duration::from_millis(100),
            forgotten: 0,
            unguarded: 0,
        }
    }
}

/// One process's line to the broker.
#[derive(Debug)]
pub struct Line {
    pub(super) chance: Chance,
    weather: Mutex<Weather>,
    broken_until: Mutex<Option<Instant>>,
    cut: AtomicBool,
}

impl Line {
    /// A line on which a seed decides what goes wrong.
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self {
            chance: Chance::new(seed),
            weather: Mutex::new(weather),
            broken_until: Mutex::default(),
            cut: AtomicBool::new(false),
        }
    }

    /// From now on nothing goes wrong.
    pub fn calm(&self) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = Weather::default();
        *self.broken_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The process is dead: what it asked for is never answered, and what it asks for never arrives.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    pub(super) fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn strikes(&self, of: impl Fn(&Weather) -> u64) -> bool {
        self.chance.strikes(of(&self.weather()))
    }

    /// Never comes back when the process is dead.
    pub async fn alive(&self) {
        if self.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// The way there, or back: sometimes it takes a while.
    pub(super) async fn travel(&self) {
        let weather = self.weather();
        if self.chance.strikes(weather.slow) {
            tokio::time::sleep(self.chance.up_to(weather.slow_max)).await;
        }
        self.alive().await;
    }

    /// Whether there is a connection; some requests find that there is none, from now on and for a while.
    pub(super) fn connected(&self) -> bool {
        let weather = self.weather();
        let mut broken_until = self.broken_until.lock().unwrap_or_else(PoisonError::into_inner);
        if self.chance.strikes(weather.breaks) {
            *broken_until = Some(Instant::now() + self.chance.up_to(weather.break_max));
        }
        broken_until.is_none_or(|until| until <= Instant::now())
    }

    /// Waits for an answer that does not come.
    pub(super) async fn wait_in_vain(&self, deadline: Instant) {
        let timeout = self.weather().attempt_timeout;
        if !timeout.is_zero() {
            tokio::time::sleep_until(deadline.min(Instant::now() + timeout)).await;
        }
        self.alive().await;
    }

    /// A question and its answer. A question changes nothing, so that it was lost on the way there or back is the same.
    pub(super) async fn ask<T>(&self, doing: &str, answer: impl FnOnce() -> T) -> Result<T, Error> {
        self.alive().await;
        let lost = !self.connected() || self.strikes(|weather| weather.lost_questions);
        if lost {
            self.wait_in_vain(Instant::now() + self.weather().attempt_timeout).await;
            return Err(Error::Unavailable { doing: doing.to_string(), source: None });
        }
        self.travel().await;
        let answer = answer();
        self.travel().await;
        Ok(answer)
    }
}

impl From<Faults> for Line {
    /// The faults of one process on a good line: answers are lost at once, about one in eight.
    fn from(Faults { seed }: Faults) -> Self {
        let lost_answers = if seed == 0 { 0 } else { 125 };
        Self::new(seed, Weather { lost_answers, ..Weather::default() })
    }
}
