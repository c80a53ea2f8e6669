//! Who signs, and on whose behalf: for `sign`, `curl` and `agent`.

use super::place::Place;
use super::{Exit, Failure, Global};
use crate::agent::{Signer, SignerFault};
use crate::clock::Clock;

/// On whose behalf a request is signed.
#[derive(Debug, clap::Args)]
pub(super) struct Principal {
    /// Who triggered the action, a stable id [default: the namespace]
    #[arg(long, value_name = "ID")]
    pub(super) subject: Option<String>,
    /// The agent's name
    #[arg(long, value_name = "NAME")]
    pub(super) agent_id: Option<String>,
}

/// A signer with the identity of `place` that the flags choose.
pub(super) fn signer(place: &Place, global: &Global, principal: &Principal) -> Result<Signer, Failure> {
    let (subject, agent_id) = (principal.subject.clone(), principal.agent_id.clone());
    Signer::new(place.identity(global)?, subject, agent_id, Clock::system()).map_err(unsigned)
}

/// What cannot be signed was not meant to be typed.
pub(super) fn unsigned(fault: SignerFault) -> Failure {
    match fault {
        SignerFault::Sign(_) => Failure::new(Exit::Usage, fault),
        _ => fault.into(),
    }
}
