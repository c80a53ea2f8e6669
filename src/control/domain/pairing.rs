//! Pairing sessions: from a code that an owner copies to a durable pairing with a gateway's key.

use crate::clock::UnixTime;
use crate::names::{Namespace, SessionId};
use crate::protocol::PublicKey;
use crate::protocol::sealed::SealingPublicKey;

/// A session, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct PairingRecord {
    /// Its id.
    pub id: SessionId,
    /// The owner's namespace.
    pub namespace: Namespace,
    /// Until a gateway has come: when the code ends. After that: until when the socket is taken for open, which every
    /// heartbeat prolongs.
    pub expires_at: UnixTime,
    /// When it was started.
    pub created_at: UnixTime,
    /// How often the code was wrong; [`MOST_TRIES`] times, and the session is dead.
    pub tries: u32,
    /// The gateway, once one has come with the code.
    pub gateway: Option<PairedGateway>,
    /// When its socket was last open.
    pub last_connected_at: Option<UnixTime>,
    /// Whether a socket is open at some replica.
    pub connected: bool,
    /// When the owner revoked it.
    pub revoked_at: Option<UnixTime>,
}

/// Who came with the code.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedGateway {
    /// The gateway's id.
    pub gateway_id: String,
    /// The namespace of the gateway's identity.
    pub namespace: Namespace,
    /// The key that signs its reconnects.
    pub public_key: PublicKey,
    /// Its sealing public key, for browsers and command lines to seal to; a gateway without a vault has none.
    pub sealing_key: Option<SealingPublicKey>,
}

/// More sessions of one namespace than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the number of pairings is limited to {most}, and that many stand; revoke one first")]
pub struct TooManyPairings {
    /// The limit.
    pub most: u64,
}

/// How often a code may be wrong before its session is dead.
pub const MOST_TRIES: u32 = 5;
/// Sessions of one namespace that are not over.
pub const MOST_PAIRINGS: u64 = 100;

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairingFault {
    /// No such session.
    #[error("there is no such pairing session; start a new one")]
    NotFound,
    /// Its time is over.
    #[error("the pairing session has expired; start a new one")]
    Expired,
    /// The owner revoked it.
    #[error("the pairing was revoked by the owner; start a new one")]
    Revoked,
    /// The code is wrong, and there are tries left.
    #[error("the pair code is wrong; {}", left(*.tries_left))]
    WrongCode {
        /// So many.
        tries_left: u32,
    },
    /// The code was wrong too often.
    #[error("the pair code was wrong too often; start a new session")]
    TooManyTries,
    /// Paired already, and the caller does not sign with the paired gateway's key.
    #[error("this session is paired with another gateway; start a new one")]
    OtherGateway,
}

fn left(tries: u32) -> String {
    if tries == 1 { "1 try is left".to_owned() } else { format!("{tries} tries are left") }
}
