//! The control plane: its store on real databases, and the gateway's side of its protocol over real sockets.

mod claims_feed;
mod claims_register;
mod pairing_bridge;
mod pairing_relay;
mod pairing_replicas;
mod pairing_scene;
mod pairing_sessions;
mod pairing_tap;
pub(crate) mod server;
mod store_claims;
mod store_decisions;
mod store_feed;
mod store_limits;
mod store_opening;
mod store_owners;
mod store_postgres;
mod store_rules;
mod store_scene;
mod store_services;
