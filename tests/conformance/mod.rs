mod interop_python;
mod protocol_properties;
mod protocol_rfc9421;
mod protocol_vectors;
mod protocol_wycheproof;
