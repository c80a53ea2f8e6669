//! Two replicas on one PostgreSQL, a gateway at each, and an upstream behind both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::agent::Agent;
use crate::support::control::Owner;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::postgres::Postgres;
use crate::support::raw::{RawClient, Response};
use crate::support::replica::{Estate, Replica};
use crate::support::upstream::Upstream;

pub(super) const TARGET: &str = "/proxy/openai/v1/models";

/// What ends goes first.
pub(super) struct Fleet {
    /// Each calls the replica in the same place.
    pub(super) gateways: [Gateway; 2],
    pub(super) replicas: [Replica; 2],
    /// Decides about the claims of agents in its namespace.
    pub(super) alice: Owner,
    /// Has the gateways, and the service.
    pub(super) acme: Owner,
    _estate: Estate,
    pub(super) postgres: Postgres,
}

impl Fleet {
    /// Before this upstream, with no claim.
    pub(super) fn before(upstream: &Upstream) -> Self {
        let postgres = Postgres::start();
        let estate = Estate::on(&postgres);
        let (alice, acme) = (estate.owner("alice"), estate.owner("acme"));
        let mut replicas = [estate.replica(), estate.replica()];
        replicas.iter_mut().for_each(Replica::start);
        let service = replicas[0].service(&acme, "openai");
        let gateways = [0, 1].map(|number: usize| {
            Setup::new()
                .bearer("openai", &upstream.url(), "sk-of-the-provider")
                .set("identity.namespace", acme.namespace.as_str())
                .set("control_plane.url", replicas[number].url())
                .set("control_plane.service_api_key", "env:SERVICE_KEY")
                .env("SERVICE_KEY", &service.key)
                .start()
        });
        for gateway in &gateways {
            eventually("a gateway to be ready", || {
                (gateway.admin_get("/health/ready").status == 200).then_some(())
            });
        }
        Self { gateways, replicas, alice, acme, _estate: estate, postgres }
    }

    /// A signed request of this agent to this gateway.
    pub(super) fn get(&self, gateway: usize, agent: &Agent) -> Response {
        let gateway = &self.gateways[gateway];
        gateway.send(&agent.get(gateway.url(), TARGET))
    }

    /// Waits until this agent passes, or no longer does.
    pub(super) fn wait_until(&self, gateway: usize, agent: &Agent, status: u16) {
        eventually(&format!("{status} for {} at gateway {gateway}", agent.namespace()), || {
            (self.get(gateway, agent).status == status).then_some(())
        });
    }

    /// The claim that a refused call of this agent at this gateway asks for.
    pub(super) fn asked_for(&self, gateway: usize, agent: &Agent) -> String {
        eventually("a claim to approve", || {
            let refused = self.get(gateway, agent);
            assert_eq!((refused.status, refused.code().as_str()), (403, "AUTH_CLAIM_REQUIRED"));
            refused.json()["claim"]["claim_id"].as_str().map(str::to_owned)
        })
    }

    /// `approve` or `revoke`, at this replica.
    pub(super) fn decide(&self, replica: usize, claim: &str, decision: &str) {
        let path = format!("/v1/claims/{claim}/{decision}");
        self.replicas[replica].as_owner(&self.alice, 200, "POST", &path, None);
    }

    /// An agent whose claim is approved at the first replica, and who passes at both gateways.
    pub(super) fn approved(&self) -> (Agent, String) {
        let agent = Agent::new(&self.alice.namespace);
        let claim = self.asked_for(0, &agent);
        self.decide(0, &claim, "approve");
        self.wait_until(0, &agent, 200);
        self.wait_until(1, &agent, 200);
        (agent, claim)
    }
}

/// What became of one request of a steady load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Allowed,
    Refused,
    /// Its claim was withdrawn while it ran: the connection ended before the answer did.
    Cut,
}

/// Requests one after the other, a new one every 20 ms at most, each with the time of its sending, until told to stop.
pub(super) fn load(gateway: &Gateway, agent: &Agent, stop: &AtomicBool, made: impl Fn(Instant, Outcome)) {
    let mut client = gateway.connect();
    while !stop.load(Ordering::SeqCst) {
        let signed = agent.get(gateway.url(), TARGET).to_bytes();
        let sent = Instant::now();
        client.send(signed);
        let outcome = match client.try_response().filter(|answer| answer.complete) {
            Some(answer) if answer.status == 200 => Outcome::Allowed,
            Some(answer) => {
                assert_eq!((answer.status, answer.code().as_str()), (403, "AUTH_CLAIM_REQUIRED"));
                Outcome::Refused
            }
            None => {
                client = RawClient::connect(gateway.address());
                Outcome::Cut
            }
        };
        made(sent, outcome);
        std::thread::sleep(Duration::from_millis(20).saturating_sub(sent.elapsed()));
    }
}
