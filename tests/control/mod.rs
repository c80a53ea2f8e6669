//! The control plane: its API over real sockets, its store on real databases, and the gateway's side of its protocol over real sockets.

mod api_auth;
mod api_claims;
mod api_did;
mod api_feed;
mod api_limits;
mod api_openapi;
mod api_scene;
mod api_seed;
mod api_services;
mod api_signed;
mod api_token;
mod claims_feed;
mod claims_register;
mod claims_stream;
pub(crate) mod pushed;
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
