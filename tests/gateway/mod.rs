//! The data plane, through its sockets.

mod admin_listener;
mod bodies;
mod body_edges;
mod body_memory;
mod claims;
mod drain;
mod forwarded;
mod http2;
mod injection;
mod interop;
mod keep_alive;
mod limits;
mod observability;
mod openai_client;
mod request_id;
mod routes;
mod scene;
mod secret_echo;
mod secret_file;
mod streaming;
mod tls_in;
mod tls_out;
mod upstream_faults;
mod verification_order;
mod verification_pairs;
mod websocket;
