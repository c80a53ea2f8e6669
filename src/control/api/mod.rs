//! The control plane's HTTP API: a file per resource, each with its routes.
//!
//! What a handler can rely on: its state is the [`ControlPlane`]; who calls is an extractor (`owner::Owner`,
//! `signed::Signed`, `signed::ServiceCaller`, `frame::Anyone`), which counts the request against the caller's rate; a body
//! of JSON is `body::Sent`; names in the path are `asked::Named`, the query is `asked::Asked`; and a
//! `refusal::Refusal` becomes the envelope.

mod asked;
mod audit;
mod auth;
mod body;
mod causes;
mod claims;
mod did;
mod feed;
mod frame;
mod health;
mod keys;
mod listener;
mod namespaces;
mod openapi;
mod origin;
mod owner;
mod pairing;
mod refusal;
mod seed;
mod services;
mod settings;
mod signed;
mod stream;
mod usage;
mod verify;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;

use super::{ControlConfig, ControlPlane};
use asked::Asked;
use refusal::{Kind, Refusal};

pub(super) use listener::serve;

/// For one request, until its answer's head; streams and WebSockets go on behind it.
const REQUEST: Duration = Duration::from_secs(30);

/// One route: its path, its methods, the parameters that its query may hold, and the time that an answer may take.
pub(super) struct Route {
    path: &'static str,
    methods: MethodRouter<Arc<ControlPlane>>,
    query: &'static [&'static str],
    time: Duration,
}

impl Route {
    /// A route whose answers take 30 s at most, and that takes no query.
    pub(super) fn new(path: &'static str, methods: MethodRouter<Arc<ControlPlane>>) -> Self {
        Self { path, methods, query: &[], time: REQUEST }
    }

    /// A route whose query may hold these parameters.
    pub(super) fn asking(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    /// A route whose answers may take longer, or less long.
    pub(super) fn within(self, time: Duration) -> Self {
        Self { time, ..self }
    }
}

/// Every route that there is under this configuration. A resource's own are in its file.
fn table(config: &ControlConfig) -> Vec<Route> {
    let resources = [
        health::routes(),
        openapi::routes(),
        auth::routes(),
        settings::routes(),
        services::routes(),
        keys::routes(),
        claims::routes(),
        feed::routes(),
        stream::routes(),
        namespaces::routes(),
        verify::routes(),
        pairing::routes(),
        seed::routes(config),
        did::routes(),
        webhooks::routes(),
        usage::routes(),
    ];
    resources.into_iter().flatten().collect()
}

/// The paths of all routes, also of those that a configuration has to ask for, each with what its query may hold.
#[cfg(test)]
fn every_path() -> Vec<(&'static str, &'static [&'static str])> {
    let config = crate::control::plane::tests::asking_for_everything();
    table(&config).into_iter().map(|route| (route.path, route.query)).collect()
}

/// The whole API.
pub(super) fn router(plane: &Arc<ControlPlane>) -> Router {
    framed(plane, table(&plane.config))
}

/// These routes, and what every answer has in common.
fn framed(plane: &Arc<ControlPlane>, routes: Vec<Route>) -> Router {
    let routed = routes.into_iter().fold(Router::new(), |router, Route { path, methods, query, time }| {
        // Probes and scrapers may add to the addresses of the others what they like.
        let known = path.starts_with("/v1/").then_some(query);
        let limited = middleware::from_fn(move |request: Request, next: Next| async move {
            match known.map(|known| Asked::only(known, request.uri())) {
                Some(Err(refusal)) => refusal.into_response(),
                _ => within(time, request, next).await,
            }
        });
        router.route(path, methods.layer(limited))
    });
    routed
        .method_not_allowed_fallback(|| async {
            Refusal::new(Kind::MethodNotAllowed, "this route does not take this method")
        })
        .fallback(|| async { Refusal::new(Kind::NotFound, "there is no such route") })
        .layer(origin::cors(&plane.config))
        .layer(middleware::from_fn_with_state(Arc::clone(plane), frame::frame))
        .with_state(Arc::clone(plane))
}

/// Runs the handler, for so long at most. One that may change something runs on when its client goes away or the time is
/// over: a change that is made is then told to everybody who waits for it.
async fn within(time: Duration, request: Request, next: Next) -> Response {
    let answered = if request.method().is_safe() {
        tokio::time::timeout(time, next.run(request)).await
    } else {
        let handler = tokio::spawn(next.run(request));
        tokio::time::timeout(time, handler).await.map(|ended| {
            ended.unwrap_or_else(|_| {
                tracing::error!("a change made the control plane panic");
                Refusal::internal().into_response()
            })
        })
    };
    answered.unwrap_or_else(|_| {
        Refusal::new(
            Kind::TimedOut,
            "the request took too long and was given up; a change may have been made all the same",
        )
        .into_response()
    })
}

/// Random bytes; without them nothing is made.
fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::internal())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Environment;
    use crate::control::plane::tests::asking_for_everything;
    use crate::control::store::DatabaseUrl;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn panic_and_lost_time_are_answers_in_the_envelope() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = asking_for_everything();
        config.database = DatabaseUrl::Sqlite(directory.path().join("sigilum.db"));
        let plane = ControlPlane::open(config, crate::clock::Clock::system()).await.unwrap();
        async fn panics() -> Refusal {
            panic!("a test wants it")
        }
        let waits = || async { std::future::pending::<Refusal>().await };
        let routes = vec![
            Route::new("/panics", axum::routing::get(panics).post(panics)),
            Route::new("/waits", axum::routing::get(waits)).within(Duration::ZERO),
        ];
        let service = hyper_util::service::TowerToHyperService::new(framed(&plane, routes));
        for (method, path, status, code) in [
            ("GET", "/panics", 500, "INTERNAL"),
            ("POST", "/panics", 500, "INTERNAL"),
            ("GET", "/waits", 503, "CONTROL_TIMEOUT"),
        ] {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(axum::body::Body::empty()).unwrap();
            let response = hyper::service::Service::call(&service, request).await.unwrap();
            assert_eq!(response.status(), status);
            assert!(response.headers().contains_key("x-request-id"));
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(told["code"], code);
        }
    }

    #[tokio::test]
    async fn change_whose_time_is_over_or_whose_client_went_away_is_made_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = asking_for_everything();
        config.database = DatabaseUrl::Sqlite(directory.path().join("sigilum.db"));
        let plane = ControlPlane::open(config, crate::clock::Clock::system()).await.unwrap();
        let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (told, mut made) = tokio::sync::mpsc::unbounded_channel();
        let (has_begun, may_go) = (Arc::clone(&begun), Arc::clone(&go));
        let changes = move || async move {
            has_begun.add_permits(1);
            may_go.acquire().await.unwrap().forget();
            told.send(()).unwrap();
        };
        let slow = Duration::from_secs(3600);
        let routes = vec![
            Route::new("/soon-over", axum::routing::delete(changes.clone())).within(Duration::ZERO),
            Route::new("/slow", axum::routing::delete(changes)).within(slow),
        ];
        let service = hyper_util::service::TowerToHyperService::new(framed(&plane, routes));
        let delete = |path| {
            let request = Request::builder().method("DELETE").uri(path);
            hyper::service::Service::call(&service, request.body(axum::body::Body::empty()).unwrap())
        };
        assert_eq!(delete("/soon-over").await.unwrap().status(), 503);
        let asked = tokio::spawn(delete("/slow"));
        begun.acquire_many(2).await.unwrap().forget();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        go.add_permits(2);
        made.recv().await.unwrap();
        made.recv().await.unwrap();
    }

    #[test]
    fn seed_is_no_route_in_production_or_where_it_was_not_switched_on() {
        let has = |config: &ControlConfig| table(config).iter().any(|route| route.path == "/v1/test/seed");
        let mut config = asking_for_everything();
        assert!(has(&config));
        config.environment = Environment::Production;
        assert!(!has(&config));
        config.environment = Environment::Local;
        config.test_seed = None;
        assert!(!has(&config));
    }
}
