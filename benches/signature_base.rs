//! Building the signature base.
//!
//! The builder is not public, so it is measured as a difference: `protocol::verify` with a nonce that is refused
//! directly after the base was built (rows 1 to 8), less `verify` with a component missing, which is refused directly
//! before (rows 1 to 7). The certificate is a kept one. Compared with the least that could be done: the same text put
//! together from values that are known already.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

mod samples;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use samples::{Kept, NOW, Sample};
use sigilum::protocol::{Freshness, Refusal, verify};

fn signature_base(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("signature_base");
    let kept = Kept::new();
    for (name, make) in [("GET", Sample::get as fn() -> Sample), ("POST", Sample::post)] {
        let nonce = "nonce=\"3f1c9a52-7b0e-4f6d-9e21-0a8c64d7b913\"";
        let after = make().input_replaced(nonce, "nonce=\"3f1c9a5\"");
        let before = make().input_replaced("\"@method\" ", "\"@query\" ");
        let refusal =
            |sample: &Sample| verify(&sample.message(), Freshness::default(), NOW, &kept).unwrap_err();
        assert_eq!(refusal(&after), Refusal::NonceInvalid);
        assert_eq!(refusal(&before), Refusal::ComponentMissing { component: "@method" });
        group.bench_function(format!("{name}: rows 1 to 7, without the base"), |bencher| {
            bencher.iter(|| refusal(black_box(&before)));
        });
        group.bench_function(format!("{name}: rows 1 to 8, with the base"), |bencher| {
            bencher.iter(|| refusal(black_box(&after)));
        });
        let base = make().base("get");
        let lines: Vec<&str> = base.split_inclusive('\n').collect();
        group.bench_function(format!("{name}: the least, {} bytes copied", base.len()), |bencher| {
            bencher.iter(|| black_box(&lines).concat());
        });
    }
    group.finish();
}

criterion_group!(benches, signature_base);
criterion_main!(benches);
