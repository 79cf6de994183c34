//! Who belongs at an app: for each resource type a SCIM filter, groups whose members belong, or everybody. Read once, when
//! the configuration is read. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proto::ResourceId;
use scim::{AttrPath, Attribute, Dialect, Filter, FilterLimits, Object, Registry, Resolved, ResourceType};

/// Who belongs at an app, by resource type. A type that is not named is not provisioned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope(BTreeMap<String, Chosen>);

/// Who of one resource type belongs: whoever satisfies all that is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chosen {
    filter: Option<Filter>,
    /// Whoever is in one of these, by himself or through other groups.
    within: Option<Within>,
    pub(crate) needs: Needs,
}

/// Groups by their ids and by their names as they are compared.
#[derive(Clone, Debug, Default, PartialEq)]
struct Within {
    ids: BTreeSet<ResourceId>,
    names: BTreeSet<String>,
}

/// What besides a resource's own document decides its plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The groups that hold it.
    pub(crate) groups: bool,
    /// What they are called.
    pub(crate) group_names: bool,
    /// Its members.
    pub(crate) members: bool,
    /// What they are called.
    pub(crate) member_names: bool,
    /// What those are called whom it names: `manager.displayName`.
    pub(crate) named: bool,
}

impl Needs {
    /// What either needs.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            groups: self.groups || other.groups,
            group_names: self.group_names || other.group_names,
            members: self.members || other.members,
            member_names: self.member_names || other.member_names,
            named: self.named || other.named,
        }
    }
}

/// A group that holds a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) id: ResourceId,
    pub(crate) name: Option<String>,
}

/// What somebody is in scope by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct By {
    /// Whether there is a filter, which holds.
    pub(crate) filter: bool,
    /// The group, where groups are named.
    pub(crate) group: Option<ResourceId>,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.filter, self.group) {
            (false, None) => f.write_str("as everybody of its type"),
            (true, None) => f.write_str("by the filter"),
            (false, Some(group)) => write!(f, "by the group {group}"),
            (true, Some(group)) => write!(f, "by the filter and the group {group}"),
        }
    }
}

/// Why somebody is not in scope whose type the app does not keep.
pub(crate) const NOT_ITS_TYPE: &str = "not in the app's scope: it keeps no such type";
/// Why somebody is not in scope who is in none of the groups.
const NO_GROUP: &str = "not in the app's scope: in none of its groups";
/// Why somebody is not in scope for whom the filter does not hold.
const NO_FILTER: &str = "not in the app's scope: its filter does not hold";

impl Scope {
    /// Everybody of these types.
    pub fn all<'a>(kinds: impl IntoIterator<Item = &'a str>) -> Self {
        Self(kinds.into_iter().map(|kind| (kind.to_string(), Chosen::default())).collect())
    }

    /// Adds a type: those who satisfy the filter, if there is one, and are in one of the groups, if some are named. What
    /// is wrong is said in a sentence.
    pub fn choose(
        &mut self,
        registry: &Registry,
        kind: &ResourceType,
        filter: Option<&str>,
        within: Option<&[String]>,
    ) -> Result<(), String> {
        let mut needs = Needs::default();
        let filter = match filter {
            None => None,
            Some(text) => {
                let limits = FilterLimits::default();
                let filter = Filter::parse(text, &limits, Dialect::Rfc, registry, kind)
                    .map_err(|error| format!("the filter for {}: {error}", kind.name))?;
                let mut mistake = None;
                visit(&filter, &mut |path, values| match path_needs(registry, kind, path, values) {
                    Ok(more) => needs = needs.and(more),
                    Err(why) => mistake = Some(format!("the filter for {}: {why}", kind.name)),
                });
                match mistake {
                    None => Some(filter),
                    Some(mistake) => return Err(mistake),
                }
            }
        };
        let within = within.map(Within::of);
        if let Some(within) = &within {
            if within.ids.is_empty() && within.names.is_empty() {
                return Err(format!("no group is named, so no {} would belong", kind.name));
            }
            needs.groups = true;
            needs.group_names |= !within.names.is_empty();
        }
        self.0.insert(kind.name.clone(), Chosen { filter, within, needs });
        Ok(())
    }

    /// Who of a type belongs; nothing when the type is not provisioned.
    pub(crate) fn of(&self, kind: &str) -> Option<&Chosen> {
        self.0.get(kind)
    }

    /// The attributes, or whole extensions, that the filters ask for.
    pub(crate) fn roots(&self) -> BTreeSet<String> {
        let mut roots = BTreeSet::new();
        for filter in self.0.values().filter_map(Chosen::filter) {
            visit(filter, &mut |path, _| roots.extend(path.root().map(str::to_string)));
        }
        roots
    }

    /// What is needed of any type.
    pub(crate) fn needs(&self) -> Needs {
        self.0.values().fold(Needs::default(), |needs, chosen| needs.and(chosen.needs))
    }
}

impl Chosen {
    /// Who satisfies it belongs, if he is in the groups.
    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    /// Whether only whoever is in certain groups belongs.
    pub(crate) fn is_within_groups(&self) -> bool {
        self.within.is_some()
    }

    /// Whether it is one of these groups.
    pub(crate) fn has_group(&self, holder: &Holder) -> bool {
        self.within.as_ref().is_some_and(|within| within.has(holder))
    }

    /// What a resource belongs by, or why it does not. `holders` are all groups that hold it; `resource` shows it with what
    /// the filter needs.
    pub(crate) fn holds(
        &self,
        holders: &[Holder],
        resource: impl FnOnce() -> Object,
    ) -> Result<By, &'static str> {
        let group = match &self.within {
            None => None,
            Some(within) => Some(holders.iter().find(|one| within.has(one)).ok_or(NO_GROUP)?.id),
        };
        match &self.filter {
            Some(filter) if !filter.matches(&resource()) => Err(NO_FILTER),
            filter => Ok(By { filter: filter.is_some(), group }),
        }
    }
}

impl Within {
    fn of(texts: &[String]) -> Self {
        let mut within = Self::default();
        for text in texts.iter().filter(|text| !text.trim().is_empty()) {
            match text.parse() {
                Ok(id) => drop(within.ids.insert(id)),
                Err(_) => drop(within.names.insert(scim::fold(text.trim()))),
            }
        }
        within
    }

    fn has(&self, holder: &Holder) -> bool {
        let named = || holder.name.as_ref().is_some_and(|name| self.names.contains(&scim::fold(name)));
        self.ids.contains(&holder.id) || !self.names.is_empty() && named()
    }
}

/// As the configuration's hash has it.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, Chosen { filter, within, .. }) in &self.0 {
            write!(f, "{kind}:")?;
            if let Some(filter) = filter {
                write!(f, "{filter}")?;
            }
            if let Some(Within { ids, names }) = within {
                write!(f, " in {ids:?} {names:?}")?;
            }
            f.write_str(";")?;
        }
        Ok(())
    }
}

/// Every path of a filter, and whether its values are looked at one by one.
fn visit(filter: &Filter, each: &mut impl FnMut(&AttrPath, bool)) {
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().for_each(|filter| visit(filter, each)),
        Filter::Not(filter) => visit(filter, each),
        Filter::Compare { path, .. } | Filter::Present(path) => each(path, false),
        Filter::Values { path, .. } => each(path, true),
    }
}

/// What an expression needs that asks for a path.
pub(crate) fn path_needs(
    registry: &Registry,
    kind: &ResourceType,
    path: &AttrPath,
    values: bool,
) -> Result<Needs, String> {
    if path.is("externalId") {
        return Err("externalId differs from source to source, so it decides nothing here".to_string());
    }
    let asks_name = values || path.sub.as_deref().is_none_or(|sub| !sub.eq_ignore_ascii_case("value"));
    let named = match registry.resolve(kind, path) {
        Some(Resolved::Attribute { attribute, .. }) => asks_name && names(attribute),
        Some(Resolved::Extension(schema)) => schema.attributes.iter().any(names),
        None => false,
    };
    let (groups, members) = (path.is("groups"), path.is("members"));
    Ok(Needs { groups, group_names: groups && asks_name, members, member_names: members && asks_name, named })
}

fn names(attribute: &Attribute) -> bool {
    attribute.names_resource()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn scope(filter: Option<&str>, within: Option<&[&str]>) -> Result<Scope, String> {
        let registry = Registry::built_in().unwrap();
        let kind = registry.by_name("User").unwrap();
        let within: Option<Vec<String>> = within.map(|names| names.iter().map(ToString::to_string).collect());
        let mut scope = Scope::default();
        scope.choose(&registry, kind, filter, within.as_deref()).map(|()| scope)
    }

    /// Of somebody with this title, in a group of this name and the id above.
    #[track_caller]
    fn check(filter: Option<&str>, within: Option<&[&str]>, (title, group): (&str, &str), expected: bool) {
        let scope = scope(filter, within).unwrap();
        let holder = Holder { id: ID.parse().unwrap(), name: Some(group.to_string()) };
        let resource = || json!({"title": title}).as_object().unwrap().clone();
        let chosen = scope.of("User").unwrap();
        assert_eq!(chosen.holds(&[holder], resource).is_ok(), expected, "{filter:?} {within:?}");
    }

    #[test]
    fn all_that_is_said_must_hold() {
        let filter = Some(r#"title eq "Staff""#);
        check(None, None, ("", ""), true);
        check(filter, None, ("staff", ""), true);
        check(filter, None, ("Guest", ""), false);
        check(None, Some(&["VPN users"]), ("", "vpn USERS"), true);
        check(None, Some(&["Other", ID]), ("", "x"), true);
        check(None, Some(&["Other"]), ("", "x"), false);
        check(filter, Some(&["x"]), ("Guest", "x"), false);
        check(filter, Some(&["x"]), ("Staff", "x"), true);
        assert!(scope(None, None).unwrap().of("Group").is_none(), "a type that is not named");
    }

    #[test]
    fn what_somebody_is_in_scope_by_is_known_and_why_not() {
        let group: ResourceId = ID.parse().unwrap();
        let other = Holder { id: "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap(), name: None };
        let holders = [other, Holder { id: group, name: Some("VPN".to_string()) }];
        let told = |filter, within, holders: &[Holder]| {
            let scope = scope(filter, within).unwrap();
            let resource = || json!({"title": "Staff"}).as_object().unwrap().clone();
            scope.of("User").unwrap().holds(holders, resource).map(|by| by.to_string())
        };
        let (staff, guest) = (Some(r#"title eq "Staff""#), Some(r#"title eq "Guest""#));
        let vpn = Some(&["vpn"][..]);
        assert_eq!(told(None, None, &holders).unwrap(), "as everybody of its type");
        assert_eq!(told(staff, None, &[]).unwrap(), "by the filter");
        assert_eq!(told(None, vpn, &holders).unwrap(), format!("by the group {ID}"));
        assert_eq!(told(staff, vpn, &holders).unwrap(), format!("by the filter and the group {ID}"));
        assert_eq!(told(guest, vpn, &holders), Err(NO_FILTER));
        assert_eq!(told(staff, vpn, &holders[..1]), Err(NO_GROUP));
    }

    #[test]
    fn what_a_plan_needs_is_known_from_the_start() {
        let needs = |filter, within: Option<&[&str]>| scope(filter, within).unwrap().needs();
        let nothing = Needs::default();
        assert_eq!(needs(Some("active eq true"), None), nothing);
        assert_eq!(needs(None, Some(&[ID])), Needs { groups: true, ..nothing });
        assert_eq!(needs(None, Some(&["x"])), Needs { groups: true, group_names: true, ..nothing });
        let by_id = format!("groups.value eq \"{ID}\"");
        assert_eq!(needs(Some(&by_id), None), Needs { groups: true, ..nothing });
        let both = Needs { groups: true, group_names: true, ..nothing };
        assert_eq!(needs(Some(r#"not (groups[display eq "x"])"#), None), both);
        let urn = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
        let named = Some(format!("{urn}:manager.displayName eq \"Ada\""));
        assert_eq!(needs(named.as_deref(), None), Needs { named: true, ..nothing });
    }

    #[test]
    fn mistakes_are_said_in_a_sentence() {
        for (filter, within, word) in [
            (Some("title zz 1"), None, "the filter for User"),
            (Some(r#"externalId eq "7""#), None, "externalId differs"),
            (None, Some(&[" "][..]), "no group is named"),
        ] {
            let mistake = scope(filter, within).unwrap_err();
            assert!(mistake.contains(word), "{mistake}");
        }
    }

    #[test]
    fn another_scope_is_another_configuration() {
        let texts: BTreeSet<String> = [
            scope(None, None),
            scope(Some("active eq true"), None),
            scope(None, Some(&["a"])),
            scope(None, Some(&["b"])),
            scope(None, Some(&[ID])),
        ]
        .map(|scope| scope.unwrap().to_string())
        .into();
        assert_eq!(texts.len(), 5);
    }
}
