//! Pairing sessions: from a code that an owner copies to a durable pairing with a gateway's key.

use subtle::ConstantTimeEq as _;

use crate::clock::UnixTime;
use crate::names::{Namespace, SessionId};
use crate::protocol::PublicKey;
use crate::protocol::pairing::code_digest;
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

/// Why a gateway is not let in, and what is to be kept of its coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAdmitted {
    /// Why.
    pub fault: PairingFault,
    /// The number of wrong codes, where this was one more.
    pub tries: Option<u32>,
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

impl PairingRecord {
    /// Decides about a gateway that comes, whose signature was proven. The first one is let in by the code, of which
    /// `code_sha256` is kept; after that the key of the one that is paired opens the session, and a code counts nothing.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn admits(
        &self,
        code_sha256: Option<&str>,
        code: Option<&str>,
        comer: &PairedGateway,
        now: UnixTime,
    ) -> Result<(), NotAdmitted> {
        let refused = |fault| Err(NotAdmitted { fault, tries: None });
        if self.revoked_at.is_some() {
            return refused(PairingFault::Revoked);
        }
        if let Some(paired) = &self.gateway {
            let same = paired.public_key == comer.public_key && paired.namespace == comer.namespace;
            return if same { Ok(()) } else { refused(PairingFault::OtherGateway) };
        }
        if self.expires_at <= now {
            return refused(PairingFault::Expired);
        }
        if self.tries >= MOST_TRIES {
            return refused(PairingFault::TooManyTries);
        }
        let sent = code_digest(&self.id, code.unwrap_or_default());
        if bool::from(code_sha256.unwrap_or_default().as_bytes().ct_eq(sent.as_bytes())) {
            return Ok(());
        }
        let tries = self.tries + 1;
        let fault = match MOST_TRIES.saturating_sub(tries) {
            0 => PairingFault::TooManyTries,
            tries_left => PairingFault::WrongCode { tries_left },
        };
        Err(NotAdmitted { fault, tries: Some(tries) })
    }
}

fn left(tries: u32) -> String {
    if tries == 1 { "1 try is left".to_owned() } else { format!("{tries} tries are left") }
}
