//! The secret of a connection, as every request needs it: `LiveConnection::credential`, and its header set on a request.
//!
//! The gateway's own stage is not public; this is the part of it that is. Compared with a header value that is formatted
//! and checked anew for each request.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

mod samples;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use pingora_http::RequestHeader;
use sigilum::connections::{Auth, Connection, Endpoint, LiveConnection, Place, SecretSource};

const SECRET: &str = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz";

fn connection(secret: SecretSource) -> LiveConnection {
    LiveConnection::open(Connection {
        endpoints: vec![Endpoint { url: "https://api.example.com".parse().unwrap(), weight: 1 }],
        auth: Auth::Header { name: AUTHORIZATION, prefix: "Bearer ".to_owned() },
        secret: Some(secret),
        ..Connection::named("openai".parse().unwrap())
    })
}

fn request() -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/v1/responses?limit=20", Some(16)).unwrap();
    for (name, value) in &samples::Sample::get().headers {
        if !name.as_str().starts_with("sig") {
            request.insert_header(name.clone(), value.clone()).unwrap();
        }
    }
    request.insert_header("authorization", "Bearer of the client").unwrap();
    request
}

fn inject(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let live = connection(SecretSource::File(file));
    let mut group = criterion.benchmark_group("inject");
    group.bench_function("the credential of a connection", |bencher| {
        bencher.iter(|| live.credential().unwrap())
    });
    let ready = request();
    group.bench_function("the credential, and its header set", |bencher| {
        bencher.iter_batched_ref(
            || ready.clone(),
            |request| {
                let credential = live.credential().unwrap().unwrap();
                let Place::Header(name, value) = credential.place() else { unreachable!("it is a header") };
                request.insert_header(name.clone(), value.clone()).unwrap();
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("a header formatted anew, and set", |bencher| {
        bencher.iter_batched_ref(
            || ready.clone(),
            |request| {
                let mut value = HeaderValue::try_from(format!("Bearer {}", black_box(SECRET))).unwrap();
                value.set_sensitive(true);
                request.insert_header(AUTHORIZATION, value).unwrap();
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, inject);
criterion_main!(benches);
