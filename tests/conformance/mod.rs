//! What the project promises about its wire form, its house and its documents.

mod documents;
mod house;
mod rust_source;
