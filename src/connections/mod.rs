//! Provider connections: where an upstream is, how it authenticates, and its secret by reference or from the vault.

mod book;
mod catalog;
mod document;
mod live;
mod model;
mod source;
mod view;

pub use book::{Book, BookFault, Changed, Drain};
pub use catalog::{Catalog, CatalogFault, CredentialField, Template, TestRequest};
pub use document::{
    ConnectionPatch, NewConnection, NewVariable, Patch, Rotation, SecretInput, TestOutcome,
    ToolPolicyDocument,
};
pub use live::{Credential, LiveConnection, Place, QueryPair};
pub use model::{
    Auth, BaseUrl, BaseUrlFault, BodyPolicy, BodyReflection, Connection, Endpoint, HealthCheck,
    LoadBalancing, Reflection, RequestLimits, Retries, Status, Timeouts, UpstreamTls,
};
pub use source::{SecretSource, SecretUnreadable};
pub use view::{ConnectionView, ServiceKeyView, VariableView};
