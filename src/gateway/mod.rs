//! The data plane: it verifies, authorizes, injects the provider's secret and proxies.
//!
//! A request's way: `accept` → `identify` → `authorize` → `body` → `forward` and `inject` for each attempt → the
//! answer → `record`. Each stage takes what the one before proved.

mod accept;
mod authorize;
mod body;
mod door;
mod doorstep;
mod exchange;
mod fail;
mod forward;
mod head;
mod identify;
mod inject;
mod limits;
mod listener;
mod local;
mod path;
mod provider;
mod proxy;
mod record;
mod refusal;
mod reject;
mod relay;
mod run;
mod settings;
mod tls;
mod upstream;

pub use listener::ListenFault;
pub use run::{AdminDoor, Bound, Handles, StartFault, bind};
pub use settings::{ClientAuth, GatewayConfig, Limits, ListenerConfig, TlsConfig, TlsVersion};
pub use tls::TlsFault;
pub use upstream::UpstreamFileFault;
