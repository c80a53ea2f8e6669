//! Pairing commands on their way between replicas.
