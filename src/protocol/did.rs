//! `did:sigilum:<namespace>`.
