//! The polled feed.
use std::collections::HashMap;
use std::time::Duration;

use crate::connections::SecretSource;
use crate::names::ConnectionId;

/// Where approved claims are read from.
#[derive(Debug, Clone)]
pub struct FeedConfig {
    /// The control plane's base URL.
    pub url: url::Url,
    /// The services to ask for: the ids of the connections.
    pub services: Vec<ConnectionId>,
    /// The service API key, sent as bearer.
    pub service_api_key: SecretSource,
    /// Keys of single services, which go before the one above.
    pub service_api_keys: HashMap<ConnectionId, SecretSource>,
    /// How often it is asked.
    pub refresh: Duration,
    /// How old the last good state may become before requests are refused.
    pub max_staleness: Duration,
    /// Claims held at the most (`GATEWAY_CLAIMS_CACHE_MAX_APPROVED`); `None`: no limit.
    pub max_entries: Option<usize>,
}

/// stub
#[derive(Debug)]
pub struct Feed { _private: () }
/// stub
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct FeedFault;
