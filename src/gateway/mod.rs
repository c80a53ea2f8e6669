//! The data plane: it verifies, authorizes, injects the provider's secret and proxies.

mod settings;

pub use settings::{ClientAuth, GatewayConfig, Limits, ListenerConfig, TlsConfig, TlsVersion};
