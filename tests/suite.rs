//! The one integration binary: every behaviour that shows only over sockets, files and processes.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod support;

mod browser;
mod cli;
mod conformance;
mod control;
mod fleet;
pub mod gateway;
mod resilience;
mod security;
