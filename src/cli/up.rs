//! `sigilum up`: the local stack.

pub mod echo;
