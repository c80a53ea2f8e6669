//! The data plane: it verifies, authorizes, injects the provider's secret and proxies.
//!
//! A request's way: `accept` → `identify` → `authorize` → `body` → `forward` and `inject` for each attempt → the
//! answer → `record`. Each stage takes what the one before proved.

mod accept;
mod answer;
mod authorize;
mod body;
mod certificates;
mod descriptors;
mod door;
mod doorstep;
mod exchange;
mod fail;
mod forward;
mod handles;
mod head;
mod identify;
mod inject;
mod limits;
mod line;
mod listener;
mod open;
mod path;
mod pem;
mod plane;
mod probe;
mod provider;
mod proxy;
mod record;
mod reflect;
mod refusal;
mod reject;
mod relay;
mod remains;
mod resolver;
mod retries;
mod routes;
mod run;
mod settings;
mod streams;
mod tls;
mod upstream;

pub use handles::{AdminDoor, Handles};
pub use listener::ListenFault;
pub use open::OpenExchanges;
pub use pem::UpstreamFileFault;
pub use routes::{ProviderFault, Routes};
pub use run::{Bound, StartFault, bind};
pub use settings::{ClientAuth, GatewayConfig, Limits, ListenerConfig, TlsConfig, TlsVersion};
pub use tls::TlsFault;
