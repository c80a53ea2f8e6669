//! The bridge to a dashboard, as the sidecar sees it: it begins it, shows it and ends it.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::names::{Namespace, SessionId};
use crate::protocol::pairing::PairCode;

/// The bridge.
pub trait Pairing: Send + Sync {
    /// Begins a pairing with this session, and gives how things stand then: connecting.
    fn pair(&self, request: PairRequest) -> BoxFuture<'static, Result<PairingView, PairFault>>;

    /// How things stand.
    fn view(&self) -> PairingView;

    /// Ends the pairing and forgets it; gives what it was.
    fn stop(&self) -> BoxFuture<'static, Result<PairingView, PairFault>>;
}

/// A pairing to be begun.
#[derive(Debug, Clone)]
pub struct PairRequest {
    /// The session that the owner started.
    pub session: SessionId,
    /// Its code.
    pub code: PairCode,
    /// The owner's namespace.
    pub namespace: Namespace,
    /// The control plane's base URL.
    pub api_url: Url,
}

/// Why a pairing is not begun or not ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairFault {
    /// The gateway has no identity.
    #[error(
        "this gateway has no identity to sign with; start it with --namespace, or set identity.namespace"
    )]
    NoIdentity,
    /// Another pairing stands.
    #[error(
        "this gateway is paired with the session {0} already; end that with `sigilum gateway pair --stop` first"
    )]
    Paired(SessionId),
    /// The URL cannot be a control plane's.
    #[error("api_url must be http or https with a host, without user, query and fragment")]
    ApiUrl,
    /// It cannot be kept on disk.
    #[error("the pairing cannot be kept: {0}")]
    NotKept(String),
}

/// Where a pairing is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PairingState {
    /// There is none.
    None,
    /// The control plane is being asked.
    Connecting,
    /// The socket is open.
    Connected,
    /// The last try failed; there will be another.
    Waiting,
    /// It is over, and not tried again.
    Ended,
}

/// How a pairing stands. It holds no code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PairingView {
    /// Where it is.
    pub state: PairingState,
    /// The session.
    pub session_id: Option<String>,
    /// The owner's namespace.
    pub namespace: Option<String>,
    /// The control plane.
    pub api_url: Option<String>,
    /// Since when the socket is open, RFC 3339.
    pub connected_since: Option<String>,
    /// What went wrong last.
    pub trouble: Option<Trouble>,
    /// This gateway's id, for which secrets are sealed.
    pub gateway_id: String,
    /// What secrets are sealed to: an owner may compare it with what the dashboard shows.
    pub sealing_key: Option<SealingKeyView>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The control plane's code, or one of ours.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// A public sealing key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SealingKeyView {
    /// Its id.
    pub id: String,
    /// The key.
    pub public_key: String,
}
