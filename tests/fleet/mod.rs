//! Several replicas of the control plane on one PostgreSQL, each with a gateway: all of them processes.

mod scene;
mod two_gateways;
