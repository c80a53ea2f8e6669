//! What must hold of the house, its documents and the protocol's vectors.

mod documents;
mod house;
mod protocol_vectors;
mod rust_source;
