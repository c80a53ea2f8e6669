//! All integration tests, in one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod conformance;
mod gateway;
