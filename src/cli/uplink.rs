//! What ties a gateway to its control plane: the claims that it receives, those that it asks for, and the usage that it
//! tells.

use std::sync::Arc;

use anyhow::Context as _;

use super::Failure;
use super::ground::Ground;
use crate::claims::{ClaimsIndex, Feed, FeedConfig, Registrar, RegistrarConfig, Services};
use crate::clock::Clock;
use crate::gateway::OpenExchanges;
use crate::policy::Claim;
use crate::protocol::Identity;
use crate::telemetry::Metrics;
use crate::usage::{self, Reporter, Usage, UsageConfig};

/// What is wanted of the control plane, and the claims that need none.
pub(super) struct Wanted {
    pub(super) static_claims: Vec<Claim>,
    pub(super) feed: Option<FeedConfig>,
    pub(super) registrar: Option<RegistrarConfig>,
    pub(super) usage: Option<UsageConfig>,
}

/// The ties, not in use yet. Without a control plane there are only the claims of the configuration.
pub(super) struct Uplink {
    pub(super) claims: Arc<ClaimsIndex>,
    /// What runs under those claims.
    pub(super) open: OpenExchanges,
    pub(super) registrar: Option<Arc<Registrar>>,
    pub(super) feed: Option<Feed>,
    pub(super) usage: Option<Usage>,
    pub(super) reporter: Option<Reporter>,
}

impl Uplink {
    /// Makes what is wanted; its calls are signed by `identity`, and carry the keys of `services`.
    pub(super) fn assemble(
        ground: &Ground,
        wanted: Wanted,
        services: &Services,
        identity: Option<&Arc<Identity>>,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, Failure> {
        let Wanted { static_claims, feed, registrar, usage } = wanted;
        let signer = || {
            identity.cloned().context("control_plane needs identity.namespace: the gateway signs its calls")
        };
        let registrar = match registrar {
            Some(config) => {
                let runtime = ground.runtime().handle().clone();
                let made = Registrar::new(config, services.clone(), signer()?, clock.clone(), runtime)?;
                Some(Arc::new(made))
            }
            None => None,
        };
        let open = OpenExchanges::new();
        let staleness = feed.as_ref().map(|feed| feed.max_staleness);
        let claims = Arc::new(index(static_claims, staleness, &open, registrar.as_ref()));
        let feed = match feed {
            Some(config) => {
                let (index, metrics) = (Arc::clone(&claims), Arc::clone(metrics));
                Some(Feed::new(config, services.clone(), index, signer()?, clock.clone(), metrics)?)
            }
            None => None,
        };
        let told = match usage {
            Some(config) => {
                Some(usage::open(config, services.clone(), signer()?, clock.clone(), Arc::clone(metrics))?)
            }
            None => None,
        };
        let (usage, reporter) = told.unzip();
        Ok(Self { claims, open, registrar, feed, usage, reporter })
    }
}

/// The index; a claim that it withdraws ends what runs under it, and its agent may ask for another at once.
fn index(
    static_claims: Vec<Claim>,
    staleness: Option<std::time::Duration>,
    open: &OpenExchanges,
    registrar: Option<&Arc<Registrar>>,
) -> ClaimsIndex {
    let open = open.clone();
    let claims = ClaimsIndex::new(static_claims, staleness).on_withdrawn(move |claim| open.withdrawn(claim));
    match registrar.cloned() {
        Some(registrar) => claims.on_withdrawn(move |claim| registrar.forget(claim)),
        None => claims,
    }
}
