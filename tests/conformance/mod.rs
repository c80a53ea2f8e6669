//! What must hold of the house, its documents and the protocol's vectors.

mod documents;
mod house;
mod interop_python;
mod protocol_properties;
mod protocol_rfc9421;
mod protocol_vectors;
mod protocol_wycheproof;
mod rust_source;
