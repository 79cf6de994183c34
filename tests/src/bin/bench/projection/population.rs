//! Who is in the directory: people of about a kilobyte and the groups they are in. A seed and a number decide
//! everything about each of them, so nothing of it is held in memory.

use jiff::Timestamp;
use proto::{EventId, ResourceId};
use scim::Object;
use serde_json::{Value, json};
use street::random::Random;

/// The tenant of everybody.
pub(crate) const TENANT: &str = "corp";
/// Whose `externalId` everybody has.
pub(crate) const SOURCE: &str = "hr";
/// Groups that each person is in.
pub(crate) const MEMBERSHIPS: usize = 10;
/// Members of the group that is small.
pub(crate) const FEW: usize = 10;
/// The title that one person in a thousand has.
pub(crate) const RARE_TITLE: &str = "Keeper of the Bees";

/// How many people there are for each group, where there are many.
const USERS_PER_GROUP: usize = 1_000;
const GROUPS_MIN: usize = 10;
/// One person in so many is in the large group.
const LARGE_PART: usize = 10;
/// When the first event happens: 2026-01-01T00:00:00Z.
const BEGINNING_MS: i64 = 1_767_225_600_000;
/// Between two events.
const STEP_MS: i64 = 10;
/// Apart from the numbers of users.
const GROUP_NUMBERS: u64 = 1 << 40;
const EVENT_NUMBERS: u64 = 1 << 41;

const GIVEN: [&str; 40] = [
    "Ada", "Barbara", "Carlos", "Dagmar", "Emeka", "Fatima", "Grace", "Hiroshi", "Ingrid", "Jamal", "Katrin",
    "Liang", "Maria", "Nadia", "Olivier", "Priya", "Quentin", "Rosa", "Sven", "Tariq", "Ursula", "Viktor",
    "Wanda", "Ximena", "Yusuf", "Zofia", "Anton", "Beatriz", "Chiara", "Dimitri", "Elif", "Farid", "Giulia",
    "Hamid", "Irina", "Jorge", "Kamala", "Lucas", "Mei", "Noah",
];
const FAMILY: [&str; 50] = [
    "Adler",
    "Baker",
    "Castillo",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Garcia",
    "Haddad",
    "Ivanova",
    "Jensen",
    "Kowalski",
    "Lindgren",
    "Moreau",
    "Nakamura",
    "Okafor",
    "Petrov",
    "Quispe",
    "Rossi",
    "Schmidt",
    "Tanaka",
    "Ueda",
    "Vargas",
    "Weber",
    "Xu",
    "Yilmaz",
    "Zimmer",
    "Andersson",
    "Bianchi",
    "Costa",
    "Demir",
    "Evans",
    "Ferrari",
    "Gupta",
    "Hoffmann",
    "Ito",
    "Johansson",
    "Keller",
    "Lopez",
    "Mendes",
    "Novak",
    "Olsen",
    "Pereira",
    "Rahman",
    "Silva",
    "Takahashi",
    "Ullmann",
    "Vogel",
    "Walker",
    "Yamada",
    "Zhang",
];
const TITLES: [&str; 8] = [
    "Vice President, Regional Operations",
    "Senior Engineer, Storage Systems",
    "Accountant, Central and Eastern Europe",
    "Customer Support Specialist, Second Level",
    "Product Manager, Identity and Access",
    "Field Technician, Wind and Solar",
    "Legal Counsel, Contracts and Licensing",
    "Warehouse Coordinator, Night Shift",
];
const DEPARTMENTS: [&str; 6] =
    ["Tour Operations", "Storage", "Finance", "Customer Support", "Identity", "Renewable Energy"];
const TOWNS: [(&str, &str, &str); 5] = [
    ("Hollywood", "CA", "US"),
    ("London", "Greater London", "GB"),
    ("Hamburg", "Hamburg", "DE"),
    ("Lyon", "Rhone", "FR"),
    ("Osaka", "Osaka", "JP"),
];

/// So many people, and their groups: the ordinary ones, then a small one and a large one.
#[derive(Clone, Debug)]
pub(crate) struct Population {
    pub(crate) users: usize,
    random: Random,
}

impl Population {
    pub(crate) fn new(users: usize) -> Self {
        Self { users, random: Random::new(7) }
    }

    fn ordinary(&self) -> usize {
        (self.users / USERS_PER_GROUP / MEMBERSHIPS * MEMBERSHIPS).max(GROUPS_MIN)
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> usize {
        self.ordinary() + 2
    }

    /// The group of ten.
    pub(crate) fn small_group(&self) -> usize {
        self.ordinary()
    }

    /// The group that every tenth person is in.
    pub(crate) fn large_group(&self) -> usize {
        self.ordinary() + 1
    }

    fn chance(&self, number: u64) -> Random {
        self.random.fork(number)
    }

    fn uuid(&self, number: u64, ms: i64) -> uuid::Uuid {
        let mut random = self.chance(number);
        let mut bytes = [0; 10];
        for (byte, chance) in bytes.iter_mut().zip(random.number().to_le_bytes()) {
            *byte = chance;
        }
        let ms = u64::try_from(ms).expect("a time after 1970");
        uuid::Builder::from_unix_timestamp_millis(ms, &bytes).into_uuid()
    }

    pub(crate) fn user_id(&self, user: usize) -> ResourceId {
        ResourceId::new(self.uuid(user as u64, instant_ms(user)))
    }

    pub(crate) fn group_id(&self, group: usize) -> ResourceId {
        ResourceId::new(self.uuid(GROUP_NUMBERS + group as u64, instant_ms(self.users + group)))
    }

    /// The id of the event with this number, counted from 0 over the whole log.
    pub(crate) fn event_id(&self, event: usize) -> EventId {
        EventId::new(self.uuid(EVENT_NUMBERS + event as u64, instant_ms(event)))
    }

    /// `given.family.` of a person; some hundreds share it.
    pub(crate) fn name_prefix(&self, user: usize) -> String {
        let (given, family) = self.names(user);
        format!("{given}.{family}.").to_lowercase()
    }

    /// Nobody else's.
    pub(crate) fn user_name(&self, user: usize) -> String {
        format!("{}{user:07}@corp.test", self.name_prefix(user))
    }

    /// The address that nobody else has.
    pub(crate) fn email(&self, user: usize) -> String {
        format!("{}{user:07}@mail.corp.test", self.name_prefix(user))
    }

    pub(crate) fn external_id(&self, user: usize) -> String {
        format!("00u{user:09}")
    }

    fn names(&self, user: usize) -> (&'static str, &'static str) {
        let mut random = self.chance(user as u64 ^ 0x00c0_ffee);
        (one(&GIVEN, &mut random), one(&FAMILY, &mut random))
    }

    /// A user's document of about a kilobyte, in its canonical form.
    pub(crate) fn user(&self, user: usize) -> Object {
        let (given, family) = self.names(user);
        let mut random = self.chance(user as u64 ^ 0x0000_beef);
        let title = if user % 1_000 == 7 { RARE_TITLE } else { one(&TITLES, &mut random) };
        let (locality, region, country) =
            *TOWNS.get(random.index(TOWNS.len())).expect("an index within bounds");
        let line = random.below(10_000);
        let address = format!("{} Universal City Plaza", 1 + random.below(900));
        let mut enterprise = json!({
            "employeeNumber": format!("E-{user:07}"),
            "costCenter": format!("{}", 4_000 + random.below(200)),
            "organization": "Universal Studios",
            "division": "Theme Park",
            "department": one(&DEPARTMENTS, &mut random),
        });
        if user > 0 {
            let manager = random.index(user.min(1 + user / 8));
            let members = enterprise.as_object_mut().expect("an object");
            members.insert("manager".to_string(), json!({"value": self.user_id(manager).to_string()}));
        }
        object(json!({
            "userName": self.user_name(user),
            "displayName": format!("{given} {family} ({user})"),
            "name": {
                "formatted": format!("{given} Q. {family}"), "givenName": given, "familyName": family,
                "middleName": "Q.",
            },
            "nickName": format!("{given}-{user}"),
            "profileUrl": format!("https://people.corp.test/{user:07}"),
            "title": title,
            "preferredLanguage": "en-US",
            "locale": "en-US",
            "timezone": "America/Los_Angeles",
            "active": user % 20 != 3,
            "emails": [
                {"value": self.email(user), "type": "work", "primary": true},
                {"value": format!("{given}.{user}@home.test"), "type": "home"},
            ],
            "phoneNumbers": [{"value": format!("tel:+1-555-{line:04}"), "type": "work"}],
            "addresses": [{
                "type": "work", "streetAddress": address, "locality": locality, "region": region,
                "postalCode": format!("{}", 10_000 + line), "country": country, "primary": true,
            }],
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": enterprise,
        }))
    }

    pub(crate) fn group(&self, group: usize) -> Object {
        object(json!({"displayName": format!("Group {group:04}")}))
    }

    /// Who is in a group, in the order of their creation. Everybody's last membership is in an ordinary group, unless it
    /// is in the large or in the small one.
    pub(crate) fn members(&self, group: usize) -> Vec<ResourceId> {
        let is_member = |user: &usize| match group {
            _ if group == self.small_group() => self.is_in_small(*user),
            _ if group == self.large_group() => self.is_in_large(*user),
            _ => self.is_in(*user, group),
        };
        let step = self.ordinary() / MEMBERSHIPS;
        let users: Box<dyn Iterator<Item = usize>> = if group < self.ordinary() {
            // Only those whose number leaves the right rest.
            Box::new((group % step..self.users).step_by(step))
        } else {
            Box::new(0..self.users)
        };
        users.filter(is_member).map(|user| self.user_id(user)).collect()
    }

    fn is_in(&self, user: usize, group: usize) -> bool {
        let step = self.ordinary() / MEMBERSHIPS;
        let ahead = (group + self.ordinary() - user % self.ordinary()) % self.ordinary();
        let nth = ahead / step;
        let further = nth < MEMBERSHIPS && ahead.is_multiple_of(step);
        let elsewhere = self.is_in_small(user) || self.is_in_large(user);
        further && !(elsewhere && nth == MEMBERSHIPS - 1)
    }

    fn is_in_large(&self, user: usize) -> bool {
        (user / self.ordinary()).is_multiple_of(LARGE_PART)
    }

    fn is_in_small(&self, user: usize) -> bool {
        user / self.ordinary() == 1 && user % self.ordinary() < FEW
    }

    /// So many people, spread evenly.
    pub(crate) fn spread(&self, count: usize) -> impl Iterator<Item = usize> {
        let count = count.min(self.users);
        let users = self.users;
        (0..count).map(move |number| number * users / count)
    }

    /// So many people, by chance.
    pub(crate) fn by_chance(&self, count: usize) -> impl Iterator<Item = usize> {
        let (mut random, users) = (self.chance(u64::MAX), self.users);
        (0..count).map(move |_| random.index(users))
    }
}

/// When the event with this number happens.
pub(crate) fn instant(event: usize) -> Timestamp {
    Timestamp::from_millisecond(instant_ms(event)).expect("a time in this millennium")
}

fn instant_ms(event: usize) -> i64 {
    BEGINNING_MS + STEP_MS * i64::try_from(event).expect("a number of events")
}

fn one(of: &[&'static str], random: &mut Random) -> &'static str {
    of.get(random.index(of.len())).copied().unwrap_or_default()
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn everybody_is_in_ten_groups() {
        for users in [1_000, 25_000] {
            let population = Population::new(users);
            let mut memberships: BTreeMap<ResourceId, usize> = BTreeMap::new();
            for group in 0..population.groups() {
                for member in population.members(group) {
                    *memberships.entry(member).or_default() += 1;
                }
            }
            assert_eq!(memberships.len(), users);
            assert!(memberships.values().all(|count| *count == MEMBERSHIPS), "{users} users");
            assert_eq!(population.members(population.small_group()).len(), FEW);
            assert_eq!(population.members(population.large_group()).len(), users / LARGE_PART);
        }
    }
}
