//! What is done to the site.

use std::time::{Duration, Instant};

use crate::house::pause;
use crate::random::Random;
use crate::site::{GATEWAYS, Site};

use super::Record;

/// The longest quiet time between two faults, one broker.
const QUIET_MAX_MS: u64 = 900;
/// The longest time that a killed process stays dead, one broker.
const DEAD_MAX_MS: u64 = 250;
/// The longest time that a fault of a cluster lasts.
const FAULT_MAX_MS: u64 = 3_000;

pub(super) struct Chaos<'a> {
    pub(super) site: &'a mut Site,
    pub(super) random: Random,
    pub(super) record: &'a mut Record,
}

impl Chaos<'_> {
    /// One fault, from quiet to quiet.
    pub(super) fn step(&mut self) {
        self.rest(QUIET_MAX_MS);
        if self.site.cluster.count() == 1 {
            self.one_broker();
        } else {
            self.several_brokers();
        }
        self.look();
    }

    fn one_broker(&mut self) {
        match self.random.below(100) {
            0..42 => {
                self.kill_broker(0);
                self.rest(DEAD_MAX_MS);
                self.site.cluster.start_again(0);
                // Killed again before it has found its feet.
                if self.random.percent(15) {
                    self.rest(60);
                    self.kill_broker(0);
                    self.site.cluster.start_again(0);
                }
            }
            42..82 => {
                let number = self.random.index(GATEWAYS);
                self.kill_process(number);
            }
            82..95 => self.kill_process(GATEWAYS),
            _ => self.everything(),
        }
        // Mostly everything recovers first; now and then the next fault comes meanwhile.
        if self.random.percent(60) {
            self.recover();
        }
    }

    fn several_brokers(&mut self) {
        let number = self.random.index(self.site.cluster.count());
        match self.random.below(100) {
            0..20 => {
                self.kill_broker(number);
                self.rest(FAULT_MAX_MS);
            }
            20..35 => {
                if let Some(leader) = self.site.cluster.leader("IDENTITY") {
                    self.count_fault("leaders chosen to be killed");
                    self.kill_broker(leader);
                    self.rest(FAULT_MAX_MS);
                }
            }
            35..45 => {
                self.count_fault("times no quorum");
                for other in (0..self.site.cluster.count()).filter(|other| *other != number) {
                    self.kill_broker(other);
                }
                self.rest(FAULT_MAX_MS);
            }
            45..53 => {
                self.count_fault("brokers frozen");
                self.site.cluster.freeze(number);
                self.rest(FAULT_MAX_MS);
                self.site.cluster.thaw(number);
            }
            53..61 => {
                self.count_fault("brokers cut off");
                self.site.cluster.cut_off(number);
                self.rest(FAULT_MAX_MS);
                self.site.cluster.mend();
            }
            61..66 => {
                self.count_fault("rolling restarts");
                for number in 0..self.site.cluster.count() {
                    self.kill_broker(number);
                    self.site.cluster.start_again(number);
                    self.site.cluster.until_healthy("one broker was killed");
                }
            }
            66..70 => self.everything(),
            70..90 => {
                let number = self.random.index(GATEWAYS);
                self.kill_process(number);
            }
            _ => self.kill_process(GATEWAYS),
        }
        for number in 0..self.site.cluster.count() {
            self.site.cluster.start_again(number);
        }
        // Without this the brokers would be without a leader most of the time, and nothing would be written.
        if self.random.percent(75) {
            self.recover();
        }
    }

    /// Every process at once, as when the power fails.
    fn everything(&mut self) {
        self.count_fault("times everything at once");
        for number in 0..self.site.count() {
            let kind = if number < GATEWAYS { "gateways" } else { "projectors" };
            if self.site.kill(number) {
                self.count_kill(kind);
            }
        }
        for number in 0..self.site.cluster.count() {
            self.kill_broker(number);
        }
        self.rest(DEAD_MAX_MS);
        for number in 0..self.site.cluster.count() {
            self.site.cluster.start_again(number);
        }
        for number in 0..self.site.count() {
            self.site.start_again(number);
        }
    }

    fn kill_broker(&mut self, number: usize) {
        if self.site.cluster.kill(number) {
            self.count_kill("brokers");
        }
    }

    fn kill_process(&mut self, number: usize) {
        let kind = if number < GATEWAYS { "gateways" } else { "projectors" };
        if self.site.kill(number) {
            self.count_kill(kind);
        }
        self.rest(DEAD_MAX_MS);
        self.site.start_again(number);
    }

    fn count_kill(&mut self, kind: &'static str) {
        *self.record.kills.entry(kind).or_default() += 1;
    }

    fn count_fault(&mut self, kind: &'static str) {
        *self.record.faults.entry(kind).or_default() += 1;
    }

    /// Waits until everything serves.
    pub(super) fn recover(&mut self) {
        self.site.cluster.mend();
        for number in 0..self.site.cluster.count() {
            self.site.cluster.thaw(number);
            self.site.cluster.start_again(number);
        }
        self.site.cluster.until_healthy("faults");
        let ended = self.site.until_ready("faults");
        self.note(ended);
        self.look();
    }

    /// Processes that end by themselves: at the start they may, while what they need is down; later they must not.
    fn look(&mut self) {
        let ended = self.site.ended();
        self.note(ended);
        self.record.breaches.extend(self.site.cluster.ended());
    }

    fn note(&mut self, ended: Vec<crate::site::Ended>) {
        for ended in ended {
            if ended.after_ready {
                self.record.breaches.push(ended.text);
            } else {
                self.record.gave_up += 1;
            }
        }
    }

    /// A moment whose length chance decides: the faults are what is timed here, not an outcome.
    fn rest(&mut self, most_ms: u64) {
        let (begun, rest) = (Instant::now(), Duration::from_millis(self.random.below(most_ms)));
        while begun.elapsed() < rest {
            pause();
        }
    }
}
