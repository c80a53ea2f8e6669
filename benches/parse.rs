//! Reading `signature-input` and `signature`.
//!
//! The parser is not public, so it is measured through `protocol::verify` with an algorithm that is refused directly
//! after it: rows 1 to 3 of the verification order, from the headers to the algorithm. Compared with `sfv` alone, which
//! makes a whole dictionary of `signature-input`, copies its strings, and reads no other header.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

mod samples;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use samples::{NOW, Sample};
use sfv::{Dictionary, Parser};
use sigilum::protocol::{Freshness, Refusal, Uncached, verify};

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, sample) in [("GET", Sample::get()), ("POST", Sample::post())] {
        let sample = sample.input_replaced("alg=\"ed25519\"", "alg=\"hs2019\"");
        let refused = verify(&sample.message(), Freshness::default(), NOW, &Uncached).unwrap_err();
        assert_eq!(refused, Refusal::AlgorithmUnsupported);
        let input = sample.header("signature-input").to_owned();
        group.bench_function(format!("{name}: rows 1 to 3"), |bencher| {
            bencher.iter(|| {
                verify(black_box(&sample.message()), Freshness::default(), NOW, &Uncached).unwrap_err()
            });
        });
        group.bench_function(format!("{name}: sfv, a whole dictionary"), |bencher| {
            bencher.iter(|| Parser::new(black_box(&input)).parse::<Dictionary>().unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
