//! Claims pushed to the real gateway: changes at once, none lost, and whatever the control plane does instead.

use serde_json::{Value, json};
use sigilum::clock::Clock;

use super::pushed::Streaming;
use super::server::{Behaviour, Server};
use crate::gateway::admin_scene::ask;
use crate::support::agent::Agent;
use crate::support::control::Control;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::upstream::{Reply, Upstream};

/// A gateway behind a control plane that pushes, with the connections `openai` and `slack`.
struct Town {
    server: Server,
    gateway: Gateway,
    upstream: Upstream,
}

impl Town {
    /// Its control plane as `prepare` leaves it, its set-up changed. It need not be ready.
    fn prepared(prepare: impl FnOnce(&Server), change: impl FnOnce(Setup) -> Setup) -> Self {
        let (server, upstream) = (Server::start(&Clock::system()), Upstream::answering(Reply::ok("")));
        server.stream(Streaming::Live);
        prepare(&server);
        let setup = Setup::new()
            .bearer("openai", &upstream.url(), "s")
            .bearer("slack", &upstream.url(), "s")
            .set("control_plane.url", server.url().to_string())
            .set("control_plane.service_api_key", server.key_source().to_string())
            .set("control_plane.claims.refresh", "1s");
        Self { gateway: change(setup).start(), server, upstream }
    }

    /// Ready, with these claims.
    fn with(claims: Vec<Value>) -> Self {
        let town = Self::prepared(|server| server.set_claims(claims), |setup| setup);
        town.wait_until_ready();
        town
    }

    fn wait_until_ready(&self) {
        eventually("the first claims", || (self.state()["ready"] == true).then_some(()));
    }

    fn status(&self, agent: &Agent, service: &str) -> u16 {
        self.gateway.send(&agent.get(self.gateway.url(), &format!("/proxy/{service}/v1/chat"))).status
    }

    fn wait_for(&self, what: &str, agent: &Agent, service: &str, status: u16) {
        eventually(what, || (self.status(agent, service) == status).then_some(()));
    }

    /// `claims` of `GET /api/admin/gateway`.
    fn state(&self) -> Value {
        self.gateway.admin_get("/api/admin/gateway").json()["claims"].clone()
    }

    fn wait_for_problem(&self, part: &str) {
        eventually(part, || self.state()["problem"].as_str()?.contains(part).then_some(()));
    }

    fn asked(&self, beginning: &str) -> Vec<String> {
        let targets = self.server.seen().into_iter().map(|seen| seen.target);
        targets.filter(|target| target.starts_with(beginning)).collect()
    }

    fn pages(&self) -> Vec<String> {
        self.asked("/v1/namespaces/claims?")
    }

    fn streams(&self) -> Vec<String> {
        self.asked("/v1/namespaces/claims/stream?")
    }

    /// The keys that the requests for streams of this service came with.
    fn keys(&self, service: &str) -> Vec<String> {
        let named = format!("service={service}&");
        let seen = self.server.seen().into_iter();
        let streams = seen.filter(|seen| seen.target.contains("/stream?") && seen.target.contains(&named));
        streams.map(|seen| seen.headers["authorization"].to_str().unwrap().to_owned()).collect()
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> u16 {
        ask(self.gateway.admin_address(), method, path, Some(body)).status
    }

    fn add(&self, id: &str) {
        let body =
            json!({ "id": id, "base_url": self.upstream.url(), "secrets": { "api_key": "sk-canary" } });
        assert_eq!(self.admin("POST", "/api/admin/connections", &body), 201);
    }
}

fn claim(id: &str, agent: &Agent, service: &str) -> Value {
    json!({
        "claim_id": id, "namespace": agent.namespace(), "public_key": agent.public_key(),
        "service": service, "subject": "root", "approved_at": "2026-01-01T00:00:00Z",
        "expires_at": null, "scopes": ["*"],
    })
}

#[test]
fn approval_and_revocation_arrive_without_a_poll() {
    let town = Town::with(vec![]);
    let agent = Agent::new("alice");
    assert_eq!(town.status(&agent, "openai"), 403);
    let claim = claim("cl_1", &agent, "openai");
    town.server.approve(claim.clone());
    town.wait_for("the approval", &agent, "openai", 200);
    assert_eq!(town.status(&agent, "slack"), 403);
    town.server.revoke(&claim);
    town.wait_for("the revocation", &agent, "openai", 403);
    assert_eq!(town.pages().len(), 2, "one for each service: {:?}", town.pages());
    assert_eq!(town.streams().len(), 1, "one key, one stream");
    town.gateway.wait_for_metric("sigilum_gateway_claim_revocation_lag_seconds_count", 1.0);
    let state = town.state();
    assert_eq!((&state["source"], &state["connected"]), (&json!("stream"), &json!(true)));
    assert!(state["last_event_at"].is_string() && state["problem"].is_null(), "{state}");
    assert_eq!(state["without_key"], json!([]));
}

#[test]
fn stream_that_was_cut_is_resumed_without_a_gap() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let first = claim("cl_1", &alice, "openai");
    let town = Town::with(vec![first.clone()]);
    assert_eq!(town.status(&alice, "openai"), 200);
    let cursor = town.streams()[0].rsplit_once("since=").unwrap().1.to_owned();
    town.server.stream(Streaming::Status(503));
    town.server.cut();
    town.wait_for_problem("503");
    assert_eq!(town.status(&alice, "openai"), 200, "what was received serves on");
    town.server.revoke(&first);
    town.server.approve(claim("cl_2", &robert, "slack"));
    town.server.stream(Streaming::Live);
    town.wait_for("the approval", &robert, "slack", 200);
    assert_eq!(town.status(&alice, "openai"), 403, "both come at once");
    assert_eq!(town.pages().len(), 2, "nothing is read anew");
    assert!(town.streams().pop().unwrap().ends_with(&format!("since={cursor}")));
}

#[test]
fn change_while_pages_are_read_is_not_lost() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let mut claims: Vec<Value> =
        (1_000..2_100).map(|n| claim(&format!("cl_{n}"), &Agent::new("carol"), "openai")).collect();
    claims.push(claim("cl_0", &alice, "openai"));
    let town = Town::prepared(
        |server| {
            server.set_claims(claims.clone());
            server.behave(Behaviour::HoldAnswer);
        },
        |setup| setup,
    );
    eventually("the first page", || (town.pages().len() == 1).then_some(()));
    // The first page, with Alice's claim, is on its way.
    town.server.revoke(&claims[1_100]);
    town.server.approve(claim("cl_00", &robert, "openai"));
    town.server.release();
    town.wait_until_ready();
    assert_eq!(town.status(&alice, "openai"), 403);
    assert_eq!(town.status(&robert, "openai"), 200);
    town.gateway.wait_for_metric("sigilum_gateway_claims_entries", 1_101.0);
    assert_eq!(town.pages().iter().filter(|page| page.contains("service=openai")).count(), 3);
}

#[test]
fn where_only_a_stream_will_do_pages_count_only_once_it_has_caught_up() {
    let agent = Agent::new("alice");
    let prepare = |server: &Server| {
        server.set_claims(vec![claim("cl_1", &agent, "openai")]);
        server.stream(Streaming::Heartless);
    };
    let town = Town::prepared(prepare, |setup| setup.set("control_plane.claims.source", "stream"));
    eventually("the stream", || (town.streams().len() == 1).then_some(()));
    town.server.cut();
    eventually("another stream", || (town.streams().len() == 2).then_some(()));
    assert_eq!(town.status(&agent, "openai"), 503);
    assert_eq!(town.state()["ready"], false);
    town.server.stream(Streaming::Live);
    town.server.cut();
    town.wait_until_ready();
    assert_eq!(town.status(&agent, "openai"), 200);
}

#[test]
fn claims_are_polled_while_the_stream_is_silent_and_the_stream_goes_on_where_the_pages_were() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let first = claim("cl_1", &alice, "openai");
    let prepare = |server: &Server| {
        server.set_claims(vec![first.clone()]);
        server.stream(Streaming::Heartless);
    };
    let town = Town::prepared(prepare, |setup| setup.set("control_plane.claims.refresh", "10s"));
    eventually("the stream", || (town.streams().len() == 1).then_some(()));
    assert_eq!(town.status(&alice, "openai"), 503, "nothing counts while the stream may still catch up");
    // It is given up when claims are to be polled.
    town.wait_until_ready();
    assert_eq!(town.status(&alice, "openai"), 200);
    town.wait_for_problem("the stream of claims was silent");
    let state = town.state();
    assert_eq!((&state["source"], &state["connected"]), (&json!("poll"), &json!(true)), "{state}");
    eventually("another try", || (town.streams().len() >= 2).then_some(()));
    let pages = town.pages().len();
    town.server.revoke(&first);
    town.server.approve(claim("cl_2", &robert, "slack"));
    town.server.stream(Streaming::Live);
    town.server.cut();
    town.wait_for("the approval", &robert, "slack", 200);
    assert_eq!(town.status(&alice, "openai"), 403);
    eventually("the stream", || (town.state()["source"] == "stream").then_some(()));
    assert!(town.state()["problem"].is_null());
    assert!(town.pages().len() <= pages + 2, "at most one poll of both");
}

#[test]
fn stream_that_stays_silent_is_given_up_as_often_as_claims_are_to_be_polled() {
    let alice = Agent::new("alice");
    let first = claim("cl_1", &alice, "openai");
    let prepare = |server: &Server| {
        server.set_claims(vec![first.clone()]);
        server.stream(Streaming::Heartless);
    };
    let town = Town::prepared(prepare, |setup| setup);
    town.wait_until_ready();
    assert_eq!(town.status(&alice, "openai"), 200);
    // And not after 15 s, as one that has been heard: a stream has 3 s to be opened, and claims are to be polled after 1.
    town.wait_for_problem("the stream of claims was silent for 3 s");
    town.server.revoke(&first);
    town.wait_for("a poll", &alice, "openai", 403);
    let state = town.state();
    assert_eq!((&state["source"], &state["connected"]), (&json!("poll"), &json!(true)), "{state}");
    assert!(town.pages().len() >= 4 && town.streams().len() >= 2);
}

#[test]
fn service_that_is_added_while_another_stream_is_refused_is_polled_beside_the_open_one() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let (first, second) = (claim("cl_1", &alice, "openai"), claim("cl_2", &robert, "gitlab"));
    let town = Town::with(vec![first.clone(), second.clone()]);
    town.server.stream(Streaming::Status(503));
    town.add("gitlab");
    town.wait_for("its claims", &robert, "gitlab", 200);
    town.wait_for_problem("503");
    let state = town.state();
    assert_eq!((&state["source"], &state["connected"]), (&json!("poll"), &json!(true)), "{state}");
    town.server.revoke(&second);
    town.wait_for("a later poll", &robert, "gitlab", 403);
    town.server.revoke(&first);
    town.wait_for("a revocation by the open stream", &alice, "openai", 403);
    let of_gitlab = |target: &String| target.contains("gitlab");
    assert_eq!(town.streams().iter().filter(|stream| !of_gitlab(stream)).count(), 1, "it was never cut");
    assert_eq!(
        town.pages().iter().filter(|page| !of_gitlab(page)).count(),
        2,
        "the others were never polled"
    );
    town.server.stream(Streaming::Live);
    eventually("one stream of all", || (town.state()["source"] == "stream").then_some(()));
    let pages = town.pages().len();
    town.server.approve(claim("cl_3", &robert, "gitlab"));
    town.wait_for("an approval by it", &robert, "gitlab", 200);
    assert_eq!(town.pages().len(), pages);
}

#[test]
fn claims_are_polled_while_the_stream_is_refused_or_none() {
    for (streaming, problem) in [
        (Streaming::Status(503), "503"),
        (Streaming::Status(403), "403"),
        (Streaming::Html, "is not text/event-stream"),
    ] {
        let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
        let first = claim("cl_1", &alice, "openai");
        let prepare = |server: &Server| {
            server.set_claims(vec![first.clone()]);
            server.stream(streaming);
        };
        let town = Town::prepared(prepare, |setup| setup);
        town.wait_until_ready();
        assert_eq!(town.status(&alice, "openai"), 200);
        town.wait_for_problem(problem);
        assert_eq!(town.state()["connected"], true);
        town.server.revoke(&first);
        town.wait_for("a poll", &alice, "openai", 403);
        town.server.stream(Streaming::Live);
        eventually("the stream", || (town.state()["source"] == "stream").then_some(()));
        let pages = town.pages().len();
        town.server.approve(claim("cl_2", &robert, "slack"));
        town.wait_for("the approval", &robert, "slack", 200);
        assert_eq!(town.pages().len(), pages, "{problem}");
    }
}

#[test]
fn stream_that_is_away_for_a_moment_is_opened_again() {
    for status in [404, 405, 501] {
        let alice = Agent::new("alice");
        let town = Town::with(vec![]);
        town.server.stream(Streaming::Status(status));
        town.server.cut();
        town.wait_for_problem(&status.to_string());
        town.server.stream(Streaming::Live);
        eventually("the stream", || town.state()["problem"].is_null().then_some(()));
        assert_eq!(town.state()["source"], "stream");
        let pages = town.pages().len();
        town.server.approve(claim("cl_1", &alice, "openai"));
        town.wait_for("the approval", &alice, "openai", 200);
        assert_eq!(town.pages().len(), pages, "{status}");
    }
}

#[test]
fn open_stream_is_followed_while_another_one_is_opened_and_outlives_its_failure() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let first = claim("cl_1", &alice, "openai");
    let claims = vec![first.clone(), claim("cl_2", &robert, "gitlab")];
    let refresh = |setup: Setup| setup.set("control_plane.claims.refresh", "10s");
    let town = Town::prepared(|server| server.set_claims(claims), refresh);
    town.wait_until_ready();
    town.server.stream(Streaming::Heartless);
    town.add("gitlab");
    eventually("another stream", || (town.streams().len() == 2).then_some(()));
    town.server.revoke(&first);
    town.wait_for("a revocation by the first stream", &alice, "openai", 403);
    assert_eq!(town.streams().len(), 2, "the second one has not caught up");

    town.server.stream(Streaming::Status(503));
    // The second stream is given up when the new service is to be polled, and tried again.
    eventually("a third try", || (town.streams().len() > 2).then_some(()));
    let second = claim("cl_3", &alice, "slack");
    town.server.approve(second.clone());
    town.wait_for("an approval by the first stream", &alice, "slack", 200);
    town.server.revoke(&second);
    town.wait_for("a revocation by the first stream", &alice, "slack", 403);
    let without = |stream: &String| !stream.contains("gitlab");
    assert_eq!(town.streams().iter().filter(|stream| without(stream)).count(), 1, "it was never cut");
    town.server.stream(Streaming::Live);
    town.wait_for("the new service", &robert, "gitlab", 200);
    eventually("one stream of all", || (!without(town.streams().last()?)).then_some(()));
    eventually("no problem", || town.state()["problem"].is_null().then_some(()));
}

#[test]
fn service_that_is_deleted_has_no_claims_any_more_and_the_others_keep_their_stream() {
    let (alice, robert, carol) = (Agent::new("alice"), Agent::new("robert"), Agent::new("carol"));
    let town = Town::with(vec![claim("cl_1", &alice, "openai"), claim("cl_2", &robert, "slack")]);
    assert_eq!(town.status(&robert, "slack"), 200);
    town.server.delete("slack");
    town.server.cut();
    town.wait_for("the end of its claims", &robert, "slack", 403);
    town.wait_for_problem("404 Not Found SERVICE_NOT_FOUND for the claims of slack");
    eventually("a stream without it", || (!town.streams().pop()?.contains("slack")).then_some(()));
    assert_eq!(town.status(&alice, "openai"), 200);
    let pages = || town.pages().iter().filter(|page| page.contains("service=openai")).count();
    let read = pages();
    town.server.approve(claim("cl_3", &carol, "openai"));
    town.wait_for("an approval", &carol, "openai", 200);
    assert_eq!((pages(), town.state()["source"].clone()), (read, json!("stream")));
}

#[test]
fn service_that_is_deleted_at_the_control_plane_leaves_the_others_their_stream() {
    let (control, upstream) = (Control::start(), Upstream::answering(Reply::ok("")));
    let (acme, owner) = (control.owner("acme"), control.owner("alice"));
    let (openai, slack) = (control.service(&acme, "openai"), control.service(&acme, "slack"));
    let (alice, robert) = (Agent::new("alice"), Agent::new("alice"));
    control.approved(&owner, &alice, &slack);
    let gateway = ["openai", "slack", "ai"]
        .into_iter()
        .fold(Setup::new(), |setup, id| setup.bearer(id, &upstream.url(), "s"))
        .set("control_plane.url", control.origin())
        .set("control_plane.service_api_key", "env:SERVICE_KEY")
        .env("SERVICE_KEY", &control.all_services_key(&acme, &openai).key)
        .start();
    let status =
        |agent: &Agent, id: &str| gateway.send(&agent.get(gateway.url(), &format!("/proxy/{id}/v1"))).status;
    eventually("readiness, though no service can have the id ai", || {
        (gateway.admin_get("/health/ready").status == 200).then_some(())
    });
    assert_eq!(status(&alice, "slack"), 200);
    let path = format!("/v1/services/{}", slack.id);
    assert_eq!(control.as_owner(&acme, "DELETE", &path, None).status, 204);
    eventually("the end of its claims", || (status(&alice, "slack") == 403).then_some(()));
    control.approved(&owner, &robert, &openai);
    eventually("an approval", || (status(&robert, "openai") == 200).then_some(()));
    // Until the next try they are polled.
    eventually("their stream", || {
        let state = gateway.admin_get("/api/admin/gateway").json()["claims"].clone();
        (state["source"] == "stream").then_some(())
    });
}

#[test]
fn gateway_that_is_refused_for_every_service_is_not_ready() {
    let prepare = |server: &Server| {
        ["openai", "slack"].iter().for_each(|id| server.give_key(id, "sk_live_another"));
    };
    let town = Town::prepared(prepare, |setup| setup);
    town.wait_for_problem("SERVICE_NOT_YOURS");
    assert_eq!(town.state()["ready"], false);
    assert_eq!(town.gateway.admin_get("/health/ready").status, 503);
    town.server.give_key("slack", "sk_live_first");
    town.wait_until_ready();
}

#[test]
fn snapshot_is_read_anew_where_the_control_plane_asks_for_it() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let town = Town::with(vec![claim("cl_1", &alice, "openai")]);
    // No event tells of this.
    town.server.set_claims(vec![claim("cl_2", &robert, "openai")]);
    town.server.forget_cursors();
    town.server.cut();
    town.wait_for("the new claim", &robert, "openai", 200);
    assert_eq!(town.status(&alice, "openai"), 403);
    assert_eq!(town.pages().len(), 4);
}

#[test]
fn control_plane_without_a_stream_is_polled() {
    for status in [404, 405, 501] {
        let agent = Agent::new("alice");
        let town = Town::prepared(|server| server.stream(Streaming::Status(status)), |setup| setup);
        town.wait_until_ready();
        assert_eq!(town.status(&agent, "openai"), 403);
        town.server.set_claims(vec![claim("cl_1", &agent, "openai")]);
        town.wait_for("a poll", &agent, "openai", 200);
        let state = town.state();
        assert_eq!((&state["source"], &state["connected"]), (&json!("poll"), &json!(true)), "{status}");
    }
}

#[test]
fn where_only_a_stream_will_do_nothing_is_polled() {
    let town = Town::prepared(
        |server| server.stream(Streaming::Status(404)),
        |setup| setup.set("control_plane.claims.source", "stream"),
    );
    town.wait_for_problem("control_plane.claims.source is stream");
    let state = town.state();
    assert_eq!((&state["ready"], &state["source"]), (&json!(false), &json!("stream")));
    town.server.stream(Streaming::Live);
    town.wait_until_ready();
}

#[test]
fn claim_that_cannot_be_understood_is_left_out_and_what_came_before_goes() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let first = claim("cl_1", &alice, "openai");
    let town = Town::with(vec![first.clone()]);
    let mut other = first;
    other["scopes"] = json!(["read everything"]);
    town.server.push("claim.approved", other);
    town.wait_for("the other form", &alice, "openai", 403);
    town.server.approve(claim("cl_2", &robert, "openai"));
    town.wait_for("the next event", &robert, "openai", 200);
    assert_eq!(town.streams().len(), 1, "the stream goes on");
}

#[test]
fn withdrawal_that_cannot_be_understood_has_all_read_anew() {
    let alice = Agent::new("alice");
    let town = Town::with(vec![claim("cl_1", &alice, "openai")]);
    town.server.set_claims(vec![]);
    town.server.push("claim.revoked", json!({ "service": "openai" }));
    town.wait_for("the pages", &alice, "openai", 403);
    assert_eq!(town.pages().len(), 4);
}

#[test]
fn stream_that_is_none_is_refused_and_the_gateway_goes_on() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let town = Town::with(vec![claim("cl_1", &alice, "openai")]);
    for (streaming, problem) in [
        (Streaming::Html, "is not text/event-stream"),
        (Streaming::Endless("xxxxxxxxxxxxxxxx"), "a line of the stream of claims has more than 65536 bytes"),
        (Streaming::Endless("data: x\n"), "an event of the stream of claims has more than 262144 bytes"),
        (Streaming::Text("id: \u{1}\ndata: x\n\n".to_owned()), "visible ASCII characters, as a cursor is"),
        (Streaming::Status(403), "403"),
    ] {
        town.server.stream(streaming);
        town.server.cut();
        town.wait_for_problem(problem);
        assert_eq!(town.status(&alice, "openai"), 200, "{problem}");
    }
    town.server.approve(claim("cl_2", &robert, "slack"));
    town.server.stream(Streaming::Live);
    town.wait_for("a good stream", &robert, "slack", 200);
}

#[test]
fn connection_made_at_run_time_has_its_claims_and_the_others_do_not_notice() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let first = claim("cl_1", &alice, "openai");
    let town = Town::with(vec![first.clone(), claim("cl_2", &robert, "gitlab")]);
    town.add("gitlab");
    town.wait_for("its claims", &robert, "gitlab", 200);
    let pages = town.pages();
    assert_eq!(pages.len(), 3, "of the new one alone: {pages:?}");
    assert!(pages[2].contains("service=gitlab"));
    assert_eq!(
        (town.state()["ready"].clone(), town.state()["connected"].clone()),
        (json!(true), json!(true))
    );
    town.server.revoke(&first);
    town.wait_for("a change of another service", &alice, "openai", 403);
    assert_eq!(town.admin("DELETE", "/api/admin/connections/gitlab", &json!({})), 204);
    eventually("a stream without it", || (!town.streams().pop()?.contains("gitlab")).then_some(()));
    town.gateway.wait_for_metric("sigilum_gateway_claims_entries", 0.0);
}

#[test]
fn service_without_a_key_is_left_out_until_one_is_stored() {
    let agent = Agent::new("alice");
    let prepare = |server: &Server| {
        server.give_key("slack", "sk_live_slack");
        server.set_claims(vec![claim("cl_1", &agent, "slack")]);
    };
    let without = |setup: Setup| setup.set("control_plane.service_api_key", Value::Null);
    let town = Town::prepared(prepare, without);
    town.wait_until_ready();
    assert_eq!(town.state()["without_key"], json!(["openai", "slack"]));
    assert_eq!(town.status(&agent, "slack"), 503);
    let put = |key: &str| {
        assert_eq!(town.admin("PUT", "/api/admin/service-api-keys/slack", &json!({ "key": key })), 200);
    };
    put("sk_live_slack");
    town.wait_for("the stored key", &agent, "slack", 200);
    assert_eq!(town.keys("slack"), ["Bearer sk_live_slack"]);
    assert_eq!(town.state()["without_key"], json!(["openai"]));

    // The key is changed at the control plane, and then here.
    town.server.give_key("slack", "sk_live_rotated");
    put("sk_live_rotated");
    eventually("the rotated key", || (town.keys("slack").last()? == "Bearer sk_live_rotated").then_some(()));
    let robert = Agent::new("robert");
    town.server.approve(claim("cl_2", &robert, "slack"));
    town.wait_for("a change by the new stream", &robert, "slack", 200);
    assert_eq!(town.status(&agent, "slack"), 200);
    town.gateway.assert_silent_about("sk_live_slack");
}

#[test]
fn key_of_a_variable_goes_before_a_stored_one_and_that_before_the_common_one() {
    let agent = Agent::new("alice");
    let prepare = |server: &Server| {
        server.give_key("slack", "sk_live_variable");
        server.give_key("openai", "sk_live_stored");
        server.set_claims(vec![claim("cl_1", &agent, "slack"), claim("cl_2", &agent, "openai")]);
    };
    let town =
        Town::prepared(prepare, |setup| setup.env("SIGILUM_SERVICE_API_KEY_SLACK", "sk_live_variable"));
    town.wait_for("the variable's key", &agent, "slack", 200);
    let put = |service: &str| {
        let path = format!("/api/admin/service-api-keys/{service}");
        assert_eq!(town.admin("PUT", &path, &json!({ "key": "sk_live_stored" })), 200);
    };
    put("slack");
    put("openai");
    town.wait_for("the stored key", &agent, "openai", 200);
    town.wait_until_ready();
    assert_eq!(town.keys("slack"), ["Bearer sk_live_variable"]);
    assert_eq!(town.keys("openai"), ["Bearer sk_live_stored"]);
}

#[test]
fn service_that_is_refused_does_not_hold_up_the_others() {
    let agent = Agent::new("alice");
    let prepare = |server: &Server| {
        server.give_key("slack", "sk_live_another");
        server.set_claims(vec![claim("cl_1", &agent, "openai"), claim("cl_2", &agent, "slack")]);
    };
    let town = Town::prepared(prepare, |setup| setup);
    town.wait_for("the claims of one", &agent, "openai", 200);
    town.wait_for_problem("403 Forbidden SERVICE_NOT_YOURS for the claims of slack");
    assert_eq!(town.status(&agent, "slack"), 403, "AUTH_CLAIMS_LOOKUP_FAILED");
    town.wait_until_ready();
    assert_eq!(town.gateway.admin_get("/health/ready").status, 200);
    town.server.give_key("slack", "sk_live_first");
    town.wait_for("the claims of the other", &agent, "slack", 200);
    assert_eq!(town.pages().iter().filter(|page| page.contains("service=openai")).count(), 1);
}

#[test]
fn service_that_was_refused_for_a_while_has_missed_nothing_afterwards() {
    let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
    let first = claim("cl_1", &alice, "slack");
    let town = Town::with(vec![first.clone()]);
    town.server.give_key("slack", "sk_live_another");
    town.server.forget_cursors();
    town.server.cut();
    town.wait_for_problem("SERVICE_NOT_YOURS for the claims of slack");
    assert_eq!(town.status(&alice, "slack"), 200, "what was received serves on");
    town.server.revoke(&first);
    town.server.approve(claim("cl_2", &robert, "openai"));
    town.wait_for("a later change of another service", &robert, "openai", 200);
    town.server.give_key("slack", "sk_live_first");
    town.wait_for("the change that was missed", &alice, "slack", 403);
}

#[test]
fn caller_whose_claim_was_revoked_is_registered_anew_at_once() {
    let agent = Agent::new("alice");
    let town = Town::with(vec![]);
    let registrations = || town.asked("/v1/claims").len();
    assert_eq!(town.status(&agent, "openai"), 403);
    assert_eq!((town.status(&agent, "openai"), registrations()), (403, 1), "once is enough");
    let claim = claim("cl_1", &agent, "openai");
    town.server.approve(claim.clone());
    town.wait_for("the approval", &agent, "openai", 200);
    town.server.revoke(&claim);
    town.wait_for("the revocation", &agent, "openai", 403);
    // That may have been a request which ran when the revocation came, and was cut.
    assert_eq!((town.status(&agent, "openai"), registrations()), (403, 2));
}

#[test]
fn services_beyond_two_hundred_take_a_second_stream() {
    let agent = Agent::new("alice");
    let ids = || (100..299).map(|n| format!("service-{n}"));
    let prepare = |server: &Server| {
        server.set_claims(ids().map(|id| claim(&format!("cl_{id}"), &agent, &id)).collect());
    };
    let town = Town::prepared(prepare, |setup| {
        ids().fold(setup, |setup, id| setup.provider(json!({ "id": id, "base_url": "http://127.0.0.1:9" })))
    });
    town.wait_until_ready();
    town.gateway.wait_for_metric("sigilum_gateway_claims_entries", 199.0);
    let mut services: Vec<usize> =
        town.streams().iter().map(|stream| stream.matches("service=").count()).collect();
    services.sort_unstable();
    assert_eq!(services, [1, 200]);
}
