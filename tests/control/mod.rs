//! The control plane: its store on real databases, and the gateway's side of its protocol over real sockets.

mod claims_feed;
mod claims_register;
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
mod usage_routes;
mod usage_store;
mod webhooks_delivery;
mod webhooks_outbox;
mod webhooks_routes;
