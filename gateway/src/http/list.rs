//! Many resources: GET on an endpoint or the root, and `.search` (RFC 7644 §3.4.2, §3.4.3; cursors of RFC 9865).

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use projector::{Lens, Moment, Page, Part, Query, Window};
use scim::list::{self, Place, Question};
use scim::{AttributeSelection, Error, Filter, ResourceType, ScimType, Sort};
use tokio::time::Instant;

use super::problem::Problem;
use super::reply::Reply;
use super::request::Asked;
use super::resources::{deadline, length, represent};
use crate::Gateway;
use crate::execute::Failure;
use crate::fresh::Freshness;
use crate::room::SMALL_BYTES;

/// GET on the endpoint of a type.
pub(super) async fn list(State(gateway): State<Gateway>, asked: Asked) -> Result<Reply, Problem> {
    let kind = asked.kind(&gateway)?;
    answer(&gateway, &asked, std::slice::from_ref(kind), asked.question()?).await
}

/// GET on the root: every type (RFC 7644 §3.4.2.1).
pub(super) async fn everything(State(gateway): State<Gateway>, asked: Asked) -> Result<Reply, Problem> {
    answer(&gateway, &asked, gateway.inner.registry.resource_types(), asked.question()?).await
}

/// POST to `.search` of a type.
pub(super) async fn search(
    State(gateway): State<Gateway>,
    asked: Asked,
    body: Body,
) -> Result<Reply, Problem> {
    let kind = asked.kind(&gateway)?;
    let question = Question::of_body(&asked.json(&gateway, body).await?, asked.caller.speech())?;
    answer(&gateway, &asked, std::slice::from_ref(kind), question).await
}

/// POST to `.search` of the root.
pub(super) async fn search_everything(
    State(gateway): State<Gateway>,
    asked: Asked,
    body: Body,
) -> Result<Reply, Problem> {
    let question = Question::of_body(&asked.json(&gateway, body).await?, asked.caller.speech())?;
    answer(&gateway, &asked, gateway.inner.registry.resource_types(), question).await
}

/// A question read for one resource type.
struct Reading<'a> {
    kind: &'a ResourceType,
    filter: Option<Filter>,
    sort: Option<Sort>,
}

async fn answer(
    gateway: &Gateway,
    asked: &Asked,
    kinds: &[ResourceType],
    question: Question,
) -> Result<Reply, Problem> {
    let inner = &gateway.inner;
    let selection = AttributeSelection::parse(
        question.attributes.as_deref(),
        question.excluded_attributes.as_deref(),
        inner.limits.attributes_max,
        &inner.registry,
        asked.caller.speech(),
    )?;
    let read = |kind| -> Result<Reading<'_>, Error> {
        let (limits, speech) = (inner.limits.filter(), asked.caller.speech());
        let filter = question.filter.as_deref();
        let filter = filter.map(|text| Filter::parse(text, &limits, speech, &inner.registry, kind));
        let sort = question.sort_by.as_deref();
        let sort = sort.map(|path| Sort::parse(path, question.descending, &inner.registry, kind));
        Ok(Reading { kind, filter: filter.transpose()?, sort: sort.transpose()? })
    };
    let readings: Vec<Reading<'_>> = kinds.iter().map(read).collect::<Result<_, _>>()?;
    let parts: Vec<Part<'_>> = readings
        .iter()
        .map(|read| Part { kind: read.kind, filter: read.filter.as_ref(), sort: read.sort.as_ref() })
        .collect();
    let lens = Lens {
        source: asked.caller.source.clone(),
        base_url: asked.caller.base_url.clone(),
        members: selection.wants(&inner.registry, "members"),
        groups: selection.wants(&inner.registry, "groups"),
        moment: Moment::NOW,
    };
    let count = question.count.unwrap_or(inner.limits.page_max).min(inner.limits.page_max);
    let deadline = deadline(gateway);
    inner.reach(asked.freshness, deadline).await?;
    // Only pages that cursors lead to have one.
    let identity = || identity(asked, kinds, &question);
    let now = eventlog::clock::now();
    let window = match question.cursor.as_deref() {
        None => Window::From(question.start_index),
        Some("") => Window::After(None),
        Some(cursor) => {
            let (place, seen) =
                inner.cursors.open(&identity(), cursor, count, now).map_err(list::bad_cursor)?;
            // The gateway that gave the page before may have been ahead of us.
            inner.reach(Freshness::AtLeast(seen), deadline).await?;
            Window::After(Some(place))
        }
    };
    let query = Query {
        parts: &parts,
        lens: &lens,
        window: &window,
        count,
        scan_rows_max: inner.limits.scan_rows_max,
    };
    let page = ask(gateway, asked, query, deadline).await?;
    let place = match (&window, &page.next) {
        (Window::From(first), _) => Place::Index(*first),
        (Window::After(_), None) => Place::Cursor(None),
        (Window::After(_), Some(next)) => {
            let cursor = inner.cursors.seal(&identity(), next, count, inner.projection.applied(), now);
            Place::Cursor(Some(cursor.map_err(Failure::reading)?))
        }
    };
    // What is shown is what the filter saw.
    let lens = Lens { moment: page.moment, ..lens };
    let length = page.resources.iter().map(|stored| length(stored, &lens)).sum();
    let room = asked.room_to_answer(gateway, length)?;
    inner.projection.look_ahead(&asked.caller.tenant, &page.resources, &lens);
    let selected = |kind| (!selection.is_whole(&inner.registry, kind)).then_some(&selection);
    let shown: Vec<_> = kinds.iter().map(|kind| (kind, selected(kind))).collect();
    let bytes_max = inner.limits.answer_bytes_max;
    let text = list::response_text(page.total, place, page.resources.len(), bytes_max, |index, text| {
        if let Some(stored) = page.resources.get(index)
            && let Some((kind, selection)) = shown.iter().find(|(kind, _)| kind.name == stored.resource_type)
        {
            represent(gateway, asked, kind, stored, *selection, &lens, text);
        }
    })?;
    // Of what is long only a little may be asked for.
    let is_small = text.len() <= SMALL_BYTES;
    Ok(Reply::text(StatusCode::OK, text).holding(room.into_iter().filter(|_| !is_small)))
}

/// "Nobody has this name" and "that was all" are what a client acts on, so they are never said from an old state.
async fn ask(gateway: &Gateway, asked: &Asked, query: Query<'_>, deadline: Instant) -> Result<Page, Problem> {
    let (inner, tenant) = (&gateway.inner, &asked.caller.tenant);
    let ask = async || -> Result<Result<Page, projector::Error>, Problem> {
        // Dropping the question ends it after the pieces that are under way.
        tokio::time::timeout_at(deadline, inner.projection.query(tenant, query)).await.map_err(|_| {
            metrics::counter!("rollcall_query_too_long_total").increment(1);
            let detail = "the question takes longer than a request may; narrow it with what is indexed";
            Error::new(ScimType::TooMany, detail.to_string()).into()
        })
    };
    let mut page = ask().await?;
    if ends(&page, query) && asked.freshness != Freshness::Latest {
        inner.catch_up("miss", deadline).await?;
        page = ask().await?;
    }
    page.map_err(|error| match error {
        projector::Error::TooMany { rows_max } => {
            let detail = format!(
                "the question would look at more than {rows_max} resources one by one; narrow it with what is indexed: userName, externalId, displayName, emails.value, id"
            );
            Error::new(ScimType::TooMany, detail).into()
        }
        error => error.into(),
    })
}

/// Whether an answer says that there is nothing, or nothing more: no result, the last of several pages, or a refusal
/// that depends on how much there is.
fn ends(page: &Result<Page, projector::Error>, query: Query<'_>) -> bool {
    match (page, query.window) {
        (Err(projector::Error::TooMany { .. }), _) => true,
        (Err(_), _) => false,
        (Ok(page), _) if page.total == 0 => true,
        (Ok(page), Window::From(first)) => *first > 1 && first - 1 + page.resources.len() >= page.total,
        (Ok(page), Window::After(place)) => place.is_some() && page.next.is_none(),
    }
}

/// What a cursor belongs to: who asks what.
fn identity(asked: &Asked, kinds: &[ResourceType], question: &Question) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
    serde_json::json!([
        asked.caller.tenant.as_str(),
        asked.caller.actor,
        names,
        question.filter,
        question.sort_by,
        question.descending,
    ])
    .to_string()
}
