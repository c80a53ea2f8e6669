//! Several replicas of the control plane on one PostgreSQL, each with a gateway: all of them processes.

mod paired_gateway;
mod scene;
mod two_gateways;
mod usage;
