//! `claims::ClaimsIndex::lookup` among 10,000 and 100,000 claims, each time of another one, so that its memory is as
//! cold as it is in service: a claim of the feed that is there, and one that is not.
//!
//! Compared with a plain map, whose key is made of owned texts for every lookup. And a change that the feed pushes: one
//! claim revoked and approved again, among 100 claims and among 100,000.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

mod samples;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ed25519_dalek::SigningKey;
use samples::NOW;
use sigilum::claims::{ClaimsIndex, Delta, Lookup};
use sigilum::names::{ConnectionId, Namespace};
use sigilum::policy::{Claim, Scopes};
use sigilum::protocol::PublicKey;

fn claim(number: u32, service: &ConnectionId) -> Claim {
    let key = SigningKey::from_bytes(&samples::seed(number)).verifying_key().to_bytes();
    Claim {
        id: format!("clm_{number}").parse().unwrap(),
        namespace: format!("agent-{number}").parse().unwrap(),
        public_key: PublicKey::from_bytes(key).unwrap(),
        service: service.clone(),
        expires_at: None,
        scopes: Scopes::default(),
    }
}

/// Numbers below `most` in an order that no prefetcher follows.
fn scattered(most: usize) -> impl FnMut() -> usize {
    let mut at = 0;
    // The step has no divisor in common with powers of ten, so every number comes.
    move || {
        at = (at + 6_700_417) % most;
        at
    }
}

fn claims(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claims");
    let service: ConnectionId = "openai".parse().unwrap();
    let other: ConnectionId = "linear".parse().unwrap();
    for count in [10_000_u32, 100_000] {
        let claims: Vec<Claim> = (0..count).map(|number| claim(number, &service)).collect();
        let asked: Vec<(Namespace, PublicKey)> =
            claims.iter().map(|claim| (claim.namespace.clone(), claim.public_key)).collect();
        let plain: HashMap<(String, [u8; 32], String), Arc<Claim>> = claims
            .iter()
            .map(|claim| (owned(&claim.namespace, &claim.public_key, &service), Arc::new(claim.clone())))
            .collect();
        let index = ClaimsIndex::new(Vec::new(), Some(Duration::from_secs(3600)));
        index.replace_feed(claims, NOW);
        let lookup = |at: usize, service| index.lookup(&asked[at].0, &asked[at].1, service, NOW);
        assert!(
            matches!(lookup(7, &service), Lookup::Found(_)) && matches!(lookup(7, &other), Lookup::Absent)
        );

        group.bench_function(BenchmarkId::new("found", count), |bencher| {
            let mut next = scattered(asked.len());
            bencher.iter(|| lookup(black_box(next()), &service));
        });
        group.bench_function(BenchmarkId::new("absent", count), |bencher| {
            let mut next = scattered(asked.len());
            bencher.iter(|| lookup(black_box(next()), &other));
        });
        group.bench_function(BenchmarkId::new("plain map of owned texts", count), |bencher| {
            let mut next = scattered(asked.len());
            bencher.iter(|| {
                let (namespace, key) = &asked[black_box(next())];
                plain.get(&owned(namespace, key, &service)).cloned()
            });
        });
    }
    group.finish();
}

fn deltas(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claims delta");
    let service: ConnectionId = "openai".parse().unwrap();
    for count in [100_u32, 100_000] {
        let claims: Vec<Claim> = (0..count).map(|number| claim(number, &service)).collect();
        let index = ClaimsIndex::new(Vec::new(), Some(Duration::from_secs(3600)));
        index.replace_feed(claims.clone(), NOW);
        group.bench_function(BenchmarkId::new("revoke and approve", count), |bencher| {
            let mut next = scattered(claims.len());
            bencher.iter(|| {
                let claim = &claims[next()];
                index.apply(vec![Delta::Withdrawn(claim.id.clone())], NOW);
                index.apply(vec![Delta::Approved(claim.clone())], NOW);
            });
        });
        assert_eq!(index.state(NOW).entries, claims.len());
    }
    group.finish();
}

fn owned(namespace: &Namespace, key: &PublicKey, service: &ConnectionId) -> (String, [u8; 32], String) {
    (namespace.to_string(), *key.as_bytes(), service.to_string())
}

criterion_group!(benches, claims, deltas);
criterion_main!(benches);
