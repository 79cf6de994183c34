//! How many calls an app takes. Over it: 429 and `Retry-After`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::answer::Asked;

/// A window over one class of calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) of: Class,
    pub(super) per: Duration,
    pub(super) most: u32,
    /// At most so many at once; nothing means all of them.
    pub(super) burst: Option<u32>,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Everything,
    Reads,
    Writes,
    /// GET of one user or of several.
    UserReads,
    UserCreates,
    UserUpdates,
    UserDeletes,
    /// Members added, for each group by itself.
    MembersAdded,
}

/// What was taken so far, by limit and by what it counts for itself.
pub(super) struct Limits {
    limits: Vec<Limit>,
    taken: BTreeMap<(usize, String), Taken>,
}

#[derive(Default)]
struct Taken {
    /// When, and how many.
    calls: VecDeque<(Instant, u32)>,
    sum: u32,
    /// What is left of the burst, and since when.
    burst: Option<(f64, Instant)>,
}

impl Limits {
    pub(super) fn new(limits: Vec<Limit>) -> Self {
        Self { limits, taken: BTreeMap::new() }
    }

    pub(super) fn allow(&mut self, most: u32, per: Duration) {
        self.taken.clear();
        self.limits = vec![Limit { of: Class::Everything, per, most, burst: None }];
    }

    /// Takes a call from everything that counts it, or says how long to wait.
    pub(super) fn take(&mut self, asked: &Asked, path: &str) -> Result<(), Duration> {
        let now = Instant::now();
        let counted: Vec<(usize, Limit, u32)> = self
            .limits
            .iter()
            .enumerate()
            .map(|(place, limit)| (place, *limit, limit.of.counts(asked, path)))
            .filter(|(_, _, count)| *count > 0)
            .collect();
        let each =
            |limit: &Limit| if limit.of == Class::MembersAdded { path.to_string() } else { String::new() };
        for (place, limit, count) in &counted {
            self.taken.entry((*place, each(limit))).or_default().has_room(limit, *count, now)?;
        }
        for (place, limit, count) in &counted {
            self.taken.entry((*place, each(limit))).or_default().take(*count, now);
        }
        Ok(())
    }
}

impl Taken {
    fn has_room(&mut self, limit: &Limit, count: u32, now: Instant) -> Result<(), Duration> {
        while let Some((when, many)) = self.calls.front().copied()
            && now.duration_since(when) >= limit.per
        {
            self.calls.pop_front();
            self.sum -= many;
        }
        if self.sum + count > limit.most {
            let oldest = self.calls.front().map_or(Duration::ZERO, |(when, _)| now.duration_since(*when));
            return Err(limit.per.saturating_sub(oldest));
        }
        let Some(burst) = limit.burst else { return Ok(()) };
        let rate = f64::from(limit.most) / limit.per.as_secs_f64();
        let (left, since) = self.burst.unwrap_or((f64::from(burst), now));
        let left = (left + now.duration_since(since).as_secs_f64() * rate).min(f64::from(burst));
        self.burst = Some((left, now));
        if left < f64::from(count) { Err(Duration::from_secs(1)) } else { Ok(()) }
    }

    fn take(&mut self, count: u32, now: Instant) {
        self.calls.push_back((now, count));
        self.sum += count;
        if let Some((left, _)) = &mut self.burst {
            *left -= f64::from(count);
        }
    }
}

impl Class {
    fn counts(self, asked: &Asked, path: &str) -> u32 {
        let (read, method) = (asked.method == "GET", asked.method.as_str());
        let user = path.starts_with("/Users");
        let one = match self {
            Self::Everything => true,
            Self::Reads => read,
            Self::Writes => !read,
            Self::UserReads => user && read,
            Self::UserCreates => user && method == "POST",
            Self::UserUpdates => user && matches!(method, "PUT" | "PATCH"),
            Self::UserDeletes => user && method == "DELETE",
            Self::MembersAdded => return members_added(asked, path),
        };
        u32::from(one)
    }
}

fn members_added(asked: &Asked, path: &str) -> u32 {
    if !path.starts_with("/Groups/") || asked.method != "PATCH" {
        return 0;
    }
    let body: serde_json::Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let operations = body["Operations"].as_array().map(Vec::as_slice).unwrap_or_default();
    let added =
        operations.iter().filter(|operation| operation["op"] == "add" && operation["path"] == "members");
    let count: usize = added.map(|operation| operation["value"].as_array().map_or(1, Vec::len)).sum();
    u32::try_from(count).unwrap_or(u32::MAX)
}
