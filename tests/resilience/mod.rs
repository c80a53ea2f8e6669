//! What the gateway endures: slow and many clients, hostile upstreams, too few descriptors.

mod hostile_upstream;
mod overload;
mod panics;
mod slow_clients;
