//! What must hold of the wire form, the house and its documents.

mod documents;
mod house;
mod interop_python;
mod protocol_properties;
mod protocol_rfc9421;
mod protocol_vectors;
mod protocol_wycheproof;
mod rust_source;
