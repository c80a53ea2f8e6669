//! Pairing sessions.
