//! `protocol::verify`, the whole of it, with the certificate kept (as the gateway keeps it) and proven anew.
//!
//! Compared with its limit: one Ed25519 verification of a message as long as the signature base, by `Agent::signed` and
//! by dalek's own `verify_strict`. What `verify` takes beyond `Agent::signed` is our own work. Also the two requests
//! that cost two verifications: a method signed as it was sent, and a signature that does not fit.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

mod samples;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ed25519_dalek::{Signer as _, SigningKey};
use samples::{Kept, NOW, Sample};
use sigilum::protocol::{Certificate, Certificates, Freshness, Uncached, verify};

fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify");
    let kept = Kept::new();
    let cases: [(&str, Sample, &dyn Certificates, bool); 6] = [
        ("GET, certificate kept", Sample::get(), &kept, true),
        ("POST, certificate kept", Sample::post(), &kept, true),
        ("GET, certificate proven anew", Sample::get(), &Uncached, true),
        ("POST, certificate proven anew", Sample::post(), &Uncached, true),
        ("GET, method signed as sent", Sample::get().method_signed_as_sent(), &kept, true),
        ("GET, forged", Sample::get().forged(), &kept, false),
    ];
    for (name, sample, certificates, holds) in cases {
        let run = || verify(black_box(&sample.message()), Freshness::default(), NOW, certificates);
        assert_eq!(run().is_ok(), holds, "{name}");
        group.bench_function(name, |bencher| bencher.iter(run));
    }
    group.finish();
}

fn ed25519_alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify/ed25519 alone");
    let identity = samples::identity(1);
    let agent = Certificate::from_header(identity.certificate_header()).unwrap().prove(NOW).unwrap();
    let key = SigningKey::from_bytes(&samples::seed(1));
    let base = Sample::get().base("get");
    let signature = key.sign(base.as_bytes());
    let bytes = signature.to_bytes();
    assert!(agent.signed(base.as_bytes(), &bytes));
    group.bench_function(format!("Agent::signed, {} bytes", base.len()), |bencher| {
        bencher.iter(|| agent.signed(black_box(base.as_bytes()), black_box(&bytes)));
    });
    let verifying = key.verifying_key();
    group.bench_function(format!("verify_strict of dalek, {} bytes", base.len()), |bencher| {
        bencher.iter(|| verifying.verify_strict(black_box(base.as_bytes()), black_box(&signature)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, whole, ed25519_alone);
criterion_main!(benches);
