//! Torture: clients write through two gateways while brokers, gateways and the projector are killed at moments that a seed
//! chooses and are started again; then the checker compares what clients were told with the log.

mod chaos;
pub mod verdict;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::history::Violation;
use crate::random::Random;
use crate::site::{GATEWAYS, Site};
use crate::workload::{Counts, Workload};

use chaos::Chaos;

/// How long a gateway may try to carry out a request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// What is done to the site, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Chooses work and faults.
    pub seed: u64,
    /// 1, or 3 for a cluster.
    pub brokers: usize,
    /// Ends after so many kills.
    pub kills: u64,
    /// Ends after so long, whatever was killed.
    pub time: Duration,
    /// Who writes.
    pub clients: usize,
    /// Where everything is kept.
    pub folder: PathBuf,
    /// Whether progress is printed.
    pub talk: bool,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Record {
    /// The seed.
    pub seed: u64,
    /// How many brokers there were.
    pub brokers: usize,
    /// How long the chaos went on.
    pub took: Duration,
    /// Processes killed with SIGKILL, by what they were.
    pub kills: BTreeMap<&'static str, u64>,
    /// Other faults: brokers frozen or cut off, all at once.
    pub faults: BTreeMap<&'static str, u64>,
    /// How clients were answered.
    pub counts: Counts,
    /// Events in the log.
    pub events: u64,
    /// Resources that exist at the end.
    pub resources: u64,
    /// Processes that gave up at the start, because what they need was down; they were started again.
    pub gave_up: u64,
    /// The longest that a client waited.
    pub slowest: Duration,
    /// What it waited for.
    pub slowest_text: String,
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Processes that ended by themselves, final answers that differ, and other breaches.
    pub breaches: Vec<String>,
}

impl Record {
    /// How many processes were killed.
    pub fn killed(&self) -> u64 {
        self.kills.values().sum()
    }

    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.breaches.is_empty()
    }
}

/// Runs a plan. Whatever it finds is in the record.
pub fn run(plan: &Plan) -> Record {
    let mut site = Site::start(&plan.folder, plan.brokers, REQUEST_TIMEOUT);
    let clients: [_; GATEWAYS] = std::array::from_fn(|gateway| site.client(gateway));
    let workload = Workload::new(plan.seed, clients);
    let mut record = Record { seed: plan.seed, brokers: plan.brokers, ..Record::default() };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // Whatever happens here, the clients must be told to end, or the scope waits for ever.
        let _stop = Stop(&workload);
        for number in 0..plan.clients {
            let workload = &workload;
            scope.spawn(move || workload.work(number));
        }
        let random = Random::new(plan.seed).fork(2);
        let mut chaos = Chaos { site: &mut site, random, record: &mut record };
        let mut told = Instant::now();
        while begun.elapsed() < plan.time && chaos.record.killed() < plan.kills {
            chaos.step();
            if plan.talk && told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                let (seconds, killed) = (begun.elapsed().as_secs(), chaos.record.killed());
                println!("{seconds:>5} s  {killed:>4} killed  {}", workload.counts());
            }
        }
        chaos.recover();
    });
    record.took = begun.elapsed();
    record.counts = workload.counts();
    verdict::judge(&mut site, &workload.history(), &mut record);
    record
}

struct Stop<'a>(&'a Workload);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, refused, unknown, not_sent } = self;
        write!(out, "{acknowledged} acknowledged, {refused} refused, {unknown} unknown, {not_sent} not sent")
    }
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |map: &BTreeMap<&str, u64>| {
            let parts: Vec<String> = map.iter().map(|(name, count)| format!("{count} {name}")).collect();
            if parts.is_empty() { "none".to_string() } else { parts.join(", ") }
        };
        writeln!(out, "seed          {}", self.seed)?;
        writeln!(out, "brokers       {}", self.brokers)?;
        writeln!(out, "took          {:.0} s", self.took.as_secs_f64())?;
        writeln!(out, "killed        {}: {}", self.killed(), list(&self.kills))?;
        writeln!(out, "other faults  {}", list(&self.faults))?;
        writeln!(out, "requests      {}", self.counts)?;
        writeln!(
            out,
            "slowest       {:.1} s: {}",
            self.slowest.as_secs_f64(),
            shortened(&self.slowest_text)
        )?;
        writeln!(out, "log           {} events; {} resources exist", self.events, self.resources)?;
        writeln!(out, "gave up       {} starts, while what they need was down", self.gave_up)?;
        let mut promises: BTreeMap<String, u64> = BTreeMap::new();
        for violation in &self.violations {
            *promises.entry(format!("{:?}", violation.promise)).or_default() += 1;
        }
        let broken: Vec<String> = promises.iter().map(|(name, count)| format!("{count} {name}")).collect();
        writeln!(
            out,
            "verdict       {}",
            if self.is_good() {
                "0 lost, 0 twice, 0 names with two holders, 0 wrong versions, 0 lies; all answers equal the log"
                    .to_string()
            } else {
                format!("BROKEN: {} {} breaches", broken.join(", "), self.breaches.len())
            }
        )?;
        for violation in self.violations.iter().take(20) {
            writeln!(out, "  {:?}: {}", violation.promise, shortened(&violation.text))?;
        }
        for breach in self.breaches.iter().take(20) {
            writeln!(out, "  {}", shortened(breach))?;
        }
        Ok(())
    }
}

/// The whole text is in a file.
fn shortened(text: &str) -> String {
    text.chars().take(600).collect()
}
