//! Provider connections: where an upstream is, how it authenticates, and its secret by reference or from the vault.

mod book;
mod catalog;
mod credential;
mod document;
pub mod fields;
mod live;
mod model;
mod source;
mod view;

pub use book::{Book, BookFault, Changed, Drain};
pub use catalog::{Catalog, CatalogFault, CredentialField, Template, TestRequest};
pub use credential::{Credential, PathPart, Place, QueryPair};
pub use document::{
    ConnectionPatch, NewConnection, NewVariable, Patch, Rotation, SecretInput, TestOutcome,
    ToolPolicyDocument,
};
pub use fields::{PathTemplate, is_link_local};
pub use live::{LiveConnection, Retired, Sending};
pub use model::{
    Auth, BaseUrl, BaseUrlFault, BodyPolicy, BodyReflection, Connection, Endpoint, HealthCheck,
    LoadBalancing, Protocol, Reflection, RequestLimits, Retries, Status, Timeouts, UpstreamTls,
};
pub use source::{SecretSource, SecretUnreadable};
pub use view::{ConnectionView, ServiceKeyView, VariableView};
