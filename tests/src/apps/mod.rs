//! Apps of others over real HTTP, each as strict as its original: it refuses what that one refuses, and a test can make it
//! sick. Start reading at [`App`]; what an app is like stands in `rules.rs`.

mod answer;
mod check;
mod held;
mod limits;
mod patch;
mod rules;
mod server;
mod sick;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use held::{Account, Held, Shelf};
use limits::Limits;
use rules::{Rules, Type};
use server::Server;
use sick::Sick;

/// One account or group as the app shows it.
pub type Document = Map<String, Value>;

/// Whose original it is as strict as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 7643 and 7644, nothing more and nothing less.
    Scim,
    /// A GitHub organization.
    GithubOrg,
    /// A GitHub enterprise with managed users.
    GithubEmu,
    /// AWS IAM Identity Center.
    AwsIdentityCenter,
    /// Slack.
    Slack,
    /// One that no shipped profile fits: PATCH only, no place for our id, 400 for a taken name, 420 for haste.
    Odd,
}

/// A call that the app got.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The path after the base, with the query: `/Users/u00000001`.
    pub path: String,
    /// What was sent.
    pub body: String,
    /// What was answered.
    pub status: u16,
}

/// An app in a thread of its own. Clones are the same app; the last one to go ends it.
#[derive(Clone)]
pub struct App {
    kind: Kind,
    address: SocketAddr,
    token: String,
    state: Arc<Mutex<State>>,
    server: Arc<Mutex<Option<Server>>>,
}

/// What the thread and the test share.
pub(crate) struct State {
    rules: Rules,
    token: String,
    held: Held,
    limits: Limits,
    sick: Sick,
    calls: Vec<Call>,
    counted: usize,
    remembers: bool,
    /// Calls that are not answered yet, and the most of them at any time.
    at_once: usize,
    at_once_most: usize,
}

impl App {
    /// An empty app on a free port.
    pub fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let token = "secret-of-the-app".to_string();
        let rules = Rules::of(kind);
        let state = Arc::new(Mutex::new(State {
            limits: Limits::new(rules.limits.clone()),
            held: Held::new(rules.buries),
            rules,
            token: token.clone(),
            sick: Sick::default(),
            calls: Vec::new(),
            counted: 0,
            remembers: true,
            at_once: 0,
            at_once_most: 0,
        }));
        let server = Arc::new(Mutex::new(Some(Server::start(listener, state.clone()))));
        Self { kind, address, token, state, server }
    }

    /// Ends it: nobody is there any more. What it holds is kept.
    pub fn stop(&self) {
        drop(self.server.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Starts it again on the same port, with what it held.
    pub fn start_again(&self) {
        let listener = TcpListener::bind(self.address).expect("its port is still free");
        let server = Server::start(listener, self.state.clone());
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// The SCIM base URL.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.state().rules.base)
    }

    /// The bearer token that it wants.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The section of a configuration that makes this app `NAME`, with these further lines.
    pub fn configuration(&self, name: &str, more: &str) -> String {
        let (url, token) = (self.url(), &self.token);
        let profile = self.kind.profile().map(|profile| format!("profile = \"{profile}\"\n"));
        let profile = profile.unwrap_or_default();
        format!("[app.{name}]\ntenant = \"corp\"\nurl = \"{url}\"\ntoken = \"{token}\"\n{profile}{more}\n")
    }

    /// Every account by its user name.
    pub fn accounts(&self) -> BTreeMap<String, Document> {
        let state = self.state();
        let named = |(id, account): (&String, &Account)| {
            let name = account.document.get("userName").and_then(Value::as_str).unwrap_or_default();
            (name.to_string(), account.shown(id))
        };
        state.held.users.accounts.iter().map(named).collect()
    }

    /// The account with this user name.
    pub fn account(&self, user_name: &str) -> Option<Document> {
        let state = self.state();
        let id = state.held.users.named(user_name)?.to_string();
        Some(state.held.users.accounts.get(&id)?.shown(&id))
    }

    /// The user names of every group's members, by the group's name. A group within a group is named by its own.
    pub fn groups(&self) -> BTreeMap<String, BTreeSet<String>> {
        let state = self.state();
        let text = |account: &Account, attribute: &str| {
            account.document.get(attribute).and_then(Value::as_str).unwrap_or_default().to_string()
        };
        let name_of = |id: &String| match state.held.users.accounts.get(id) {
            Some(account) => text(account, "userName"),
            None => {
                state.held.groups.accounts.get(id).map(|group| text(group, "displayName")).unwrap_or_default()
            }
        };
        let named =
            |group: &Account| (text(group, "displayName"), group.members.iter().map(name_of).collect());
        state.held.groups.accounts.values().map(named).collect()
    }

    /// The group with this name, members and all.
    pub fn group(&self, display_name: &str) -> Option<Document> {
        let state = self.state();
        let id = state.held.groups.named(display_name)?.to_string();
        Some(state.held.groups.accounts.get(&id)?.whole(&id))
    }

    /// Every call, unless it was told to forget them.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How many calls there were.
    pub fn calls_count(&self) -> usize {
        self.state().counted
    }

    /// How many calls wait for their answers.
    pub fn at_once(&self) -> usize {
        self.state().at_once
    }

    /// The most calls that waited for their answers at the same time.
    pub fn most_at_once(&self) -> usize {
        self.state().at_once_most
    }

    /// How many of its calls had this method, a path that begins so, and this status.
    pub fn calls_like(&self, method: &str, path: &str, status: u16) -> usize {
        let alike =
            |call: &&Call| call.method == method && call.path.starts_with(path) && call.status == status;
        self.state().calls.iter().filter(alike).count()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        let mut state = self.state();
        state.calls.clear();
        state.counted = 0;
    }

    /// Counts calls without remembering them, for whoever measures.
    pub fn remember_nothing(&self) {
        let mut state = self.state();
        state.calls.clear();
        state.remembers = false;
    }

    /// Somebody changes an account (`/Users`) or a group (`/Groups`) behind our back. A group's `members` are there to be
    /// changed as well.
    pub fn edit(&self, endpoint: &str, name: &str, change: impl FnOnce(&mut Document)) {
        let mut state = self.state();
        let id =
            state.shelf(endpoint).named(name).unwrap_or_else(|| panic!("the app has no {name}")).to_string();
        let mut document = state.shelf(endpoint).accounts[&id].whole(&id);
        change(&mut document);
        let members = held::take_members(&mut document);
        state.held.replace(endpoint, &id, document, members).expect("the new name is free");
    }

    /// Somebody makes an account or a group behind our back. Its id.
    pub fn add(&self, endpoint: &str, mut document: Document) -> String {
        let members = held::take_members(&mut document);
        self.state().held.insert(endpoint, document, members).expect("the name is free")
    }

    /// Somebody deletes an account or a group behind our back.
    pub fn remove(&self, endpoint: &str, name: &str) {
        let mut state = self.state();
        let id =
            state.shelf(endpoint).named(name).unwrap_or_else(|| panic!("the app has no {name}")).to_string();
        state.held.remove(endpoint, &id);
    }

    /// It is restarted empty. No id is ever given a second time.
    pub fn forget_all(&self) {
        let mut state = self.state();
        state.held = state.held.emptied();
    }

    /// It is restarted empty, and gives the same ids again to whoever comes.
    pub fn count_again(&self) {
        let mut state = self.state();
        let counts_types = state.held.counts_types;
        state.held = Held::new(state.rules.buries);
        state.held.counts_types = counts_types;
    }

    /// From now on each type counts its ids from one.
    pub fn count_types(&self) {
        self.state().held.counts_types = true;
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shelf(&self, endpoint: &str) -> &Shelf {
        self.held.shelf(endpoint)
    }

    fn type_of(&self, endpoint: &str) -> Option<&Type> {
        match endpoint {
            "/Users" => Some(&self.rules.users),
            "/Groups" => self.rules.groups.as_ref(),
            _ => None,
        }
    }
}

impl Kind {
    /// The profile that is made for it; the plain one need not be named.
    fn profile(self) -> Option<&'static str> {
        match self {
            Self::Scim => None,
            Self::GithubOrg => Some("github-org"),
            Self::GithubEmu => Some("github-emu"),
            Self::AwsIdentityCenter => Some("aws-identity-center"),
            Self::Slack => Some("slack"),
            Self::Odd => None,
        }
    }
}
