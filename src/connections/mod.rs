//! Provider connections: where an upstream is, how it authenticates, and its secret by reference.

mod live;
mod model;
mod source;

pub use live::{Credential, LiveConnection, Place, QueryPair};
pub use model::{
    Auth, BaseUrl, BaseUrlFault, BodyPolicy, BodyReflection, Connection, Endpoint, HealthCheck,
    LoadBalancing, Reflection, RequestLimits, Retries, Status, Timeouts, UpstreamTls,
};
pub use source::{SecretSource, SecretUnreadable};
