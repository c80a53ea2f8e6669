//! Reads the pages of claims.

use futures::StreamExt as _;
use http::{HeaderValue, StatusCode};

use super::control_plane::{CallFault, ControlPlane};
use super::fault::FeedFault;
use super::page::{Cursor, EntryFault, Page, error_code};
use crate::names::ConnectionId;
use crate::policy::Claim;

/// Claims in one page, as many as the field's control planes give.
const PAGE: usize = 500;
/// Services asked for at the same time.
const AT_ONCE: usize = 4;

/// Reads the claims of a service, page by page.
pub(super) struct Reader {
    pub(super) control_plane: ControlPlane,
    /// Claims of one service at the most.
    pub(super) most: usize,
}

/// The claims of one service.
pub(super) struct Reading {
    pub(super) claims: Vec<Claim>,
    /// Claims that could not be understood.
    pub(super) left_out: usize,
    /// Why the first of these was not.
    pub(super) example: Option<EntryFault>,
    /// Where the feed stood when the first page was read.
    pub(super) cursor: Option<Cursor>,
    /// Whether no page can have skipped a claim that stood all the time.
    steady: bool,
}

/// Which page.
enum From {
    Offset(usize),
    After(String),
}

impl Reader {
    /// Reads these services, each for itself. Until the first one is read wholly they are read one after the other: so
    /// the cursor of the first good reading in the answer is older than every other page. When nobody answers one, the
    /// rest is not asked for either, and has the same fault.
    pub(super) async fn read_each(
        &self,
        services: &[ConnectionId],
    ) -> Vec<(ConnectionId, Result<Reading, FeedFault>)> {
        let mut readings = Vec::with_capacity(services.len());
        let mut rest = services.iter();
        for service in rest.by_ref() {
            let reading = self.read(service).await;
            let (good, lost) = (reading.is_ok(), unreached(&reading));
            readings.push((service.clone(), reading));
            if lost.is_some() {
                return without(readings, rest, lost);
            }
            if good {
                break;
            }
        }
        // Collected first: a stream that holds the closure is not `Send` for all lifetimes.
        let others: Vec<_> = rest.clone().map(|service| self.read(service)).collect();
        let mut others = futures::stream::iter(others).buffered(AT_ONCE);
        while let Some(reading) = others.next().await {
            let lost = unreached(&reading);
            let Some(service) = rest.next() else { break };
            readings.push((service.clone(), reading));
            if lost.is_some() {
                return without(readings, rest, lost);
            }
        }
        readings
    }

    /// Reads the claims of one service, once more if they changed meanwhile and the pages went by offset, which may
    /// then have skipped one. What changes even during the second reading is found by the next poll.
    pub(super) async fn read(&self, service: &ConnectionId) -> Result<Reading, FeedFault> {
        let bearer = self.control_plane.bearer(service).await?;
        let first = self.read_pages(service, &bearer).await?;
        if first.steady { Ok(first) } else { self.read_pages(service, &bearer).await }
    }

    async fn read_pages(&self, service: &ConnectionId, bearer: &HeaderValue) -> Result<Reading, FeedFault> {
        let mut reading =
            Reading { claims: Vec::new(), left_out: 0, example: None, cursor: None, steady: true };
        let (mut from, mut seen, mut first_state, mut last_beginning) = (From::Offset(0), 0, None, None);
        loop {
            let page = self.read_page(service, &from, bearer).await?;
            let stuck = || FeedFault::NoProgress { service: service.clone(), offset: seen };
            let by_offset = matches!(from, From::Offset(_));
            if by_offset && page.pagination.offset.is_some_and(|given| given != seen) {
                return Err(stuck());
            }
            let state = page.state();
            if first_state.is_none() {
                reading.cursor = page.cursor();
            }
            let changed = *first_state.get_or_insert_with(|| state.clone()) != state;
            reading.steady &= !(by_offset && changed);
            let beginning = page.beginning();
            if page.pagination.has_more && (page.claims.is_empty() || beginning == last_beginning) {
                return Err(stuck());
            }
            (last_beginning, seen) = (beginning, seen + page.claims.len());
            if seen > self.most {
                return Err(FeedFault::TooMany { most: self.most });
            }
            let (has_more, next) = (page.pagination.has_more, page.pagination.next.clone());
            reading.take(page, service);
            if !has_more {
                return Ok(reading);
            }
            from = next.map_or(From::Offset(seen), From::After);
        }
    }

    async fn read_page(
        &self,
        service: &ConnectionId,
        from: &From,
        bearer: &HeaderValue,
    ) -> Result<Page, FeedFault> {
        let mut query = format!("service={service}&limit={PAGE}");
        match from {
            From::Offset(0) => {}
            From::Offset(offset) => query.push_str(&format!("&offset={offset}")),
            From::After(id) => {
                let after = url::form_urlencoded::byte_serialize(id.as_bytes());
                query.extend(std::iter::once("&after=").chain(after));
            }
        }
        let answer = self.control_plane.get("/v1/namespaces/claims", &query, bearer).await?;
        if answer.status != StatusCode::OK {
            let (service, status, retry_after) = (service.clone(), answer.status, answer.retry_after);
            return Err(FeedFault::Status { service, status, code: error_code(&answer.body), retry_after });
        }
        serde_json::from_slice(&answer.body).map_err(|error| FeedFault::Unreadable {
            service: service.clone(),
            line: error.line(),
            column: error.column(),
        })
    }
}

/// The fault of who cannot be reached, for those who were not asked.
fn unreached(reading: &Result<Reading, FeedFault>) -> Option<(String, String)> {
    match reading {
        Err(FeedFault::Call(CallFault::Unreachable { base, cause })) => Some((base.clone(), cause.clone())),
        _ => None,
    }
}

/// All readings: those there are, and for the rest this fault.
fn without<'s>(
    mut readings: Vec<(ConnectionId, Result<Reading, FeedFault>)>,
    rest: impl Iterator<Item = &'s ConnectionId>,
    lost: Option<(String, String)>,
) -> Vec<(ConnectionId, Result<Reading, FeedFault>)> {
    let (base, cause) = lost.unwrap_or_default();
    let fault = || FeedFault::Call(CallFault::Unreachable { base: base.clone(), cause: cause.clone() });
    readings.extend(rest.map(|service| (service.clone(), Err(fault()))));
    readings
}

impl Reading {
    fn take(&mut self, page: Page, service: &ConnectionId) {
        for entry in page.claims {
            match entry.into_claim(service) {
                Ok(claim) => self.claims.extend(claim),
                Err(fault) => {
                    self.left_out += 1;
                    self.example.get_or_insert(fault);
                }
            }
        }
    }
}
