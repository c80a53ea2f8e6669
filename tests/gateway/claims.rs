//! Who may do what: claims of the configuration, claims of a control plane, and what a caller without one is told.

use serde_json::{Value, json};
use sigilum::clock::Clock;

use super::scene::{CONNECTION, assert_refused, seconds};
use crate::control::server::{Behaviour, Nobody, Seen, Server};
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::Response;
use crate::support::upstream::{Reply, Upstream};

const TARGET: &str = "/proxy/openai/v1/chat";

/// A gateway behind a control plane.
struct Town {
    server: Server,
    upstream: Upstream,
    gateway: Gateway,
    agent: Agent,
}

/// A set-up that polls this control plane every second.
fn polling(server: &Server, upstream: &Upstream) -> Setup {
    Setup::new()
        .bearer(CONNECTION, &upstream.url(), "s")
        .set("control_plane.url", server.url().to_string())
        .set("control_plane.service_api_key", server.key_source().to_string())
        .set("control_plane.claims", json!({ "source": "poll", "refresh": "1s" }))
}

fn approved(agent: &Agent, more: Value) -> Value {
    let mut claim = json!({
        "claim_id": "cl_17", "namespace": agent.namespace(), "public_key": agent.public_key(),
        "service": CONNECTION, "subject": "root", "approved_at": "2026-01-01T00:00:00Z",
        "expires_at": null, "scopes": ["*"],
    });
    for (key, value) in more.as_object().unwrap() {
        claim[key] = value.clone();
    }
    claim
}

impl Town {
    fn start(change: impl FnOnce(Setup) -> Setup, claims: impl FnOnce(&Agent) -> Vec<Value>) -> Self {
        let (server, upstream) = (Server::start(&Clock::system()), Upstream::answering(Reply::ok("")));
        let agent = Agent::new("alice");
        server.set_claims(claims(&agent));
        let gateway = change(polling(&server, &upstream)).start();
        let town = Self { server, upstream, gateway, agent };
        eventually("the first claims", || (town.raw("GET", "/health/ready").status == 200).then_some(()));
        town
    }

    fn raw(&self, method: &str, path: &str) -> Response {
        let mut client = self.gateway.connect();
        client.send(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        client.response()
    }

    fn get(&self) -> Response {
        self.gateway.send(&self.agent.get(self.gateway.url(), TARGET))
    }

    fn submissions(&self) -> Vec<Seen> {
        self.server.seen().into_iter().filter(|seen| seen.target == "/v1/claims").collect()
    }
}

/// A gateway that knows only this claim.
fn with_scopes(scopes: Value) -> (Upstream, Gateway, Agent) {
    let (upstream, agent) = (Upstream::answering(Reply::ok("")), Agent::new("alice"));
    let mut claim = agent.claim(&[CONNECTION]);
    claim["scopes"] = scopes;
    let base = format!("{}/base", upstream.url());
    let gateway = Setup::new().bearer(CONNECTION, &base, "s").claim_entry(claim).start();
    (upstream, gateway, agent)
}

#[test]
fn scopes_bound_method_and_upstream_path() {
    let (upstream, gateway, agent) =
        with_scopes(json!(["GET /base/v1/models", "POST /base/v1/chat/**", "* /base/v1/*/x", "tool:*"]));
    let ask = |method: &str, rest: &str| {
        gateway.send(&agent.request(method, gateway.url(), &format!("/proxy/openai{rest}")).sign())
    };
    for (method, rest) in [
        ("GET", "/v1/models"),
        ("GET", "/v1/models?any=query/../x"),
        ("POST", "/v1/chat"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/chat/a/b/c%20d"),
        ("DELETE", "/v1/a/x"),
    ] {
        assert_eq!(ask(method, rest).status, 200, "{method} {rest}");
    }
    let let_through = upstream.wait_for(6).len();
    for (method, rest) in [
        ("POST", "/v1/models"),
        ("HEAD", "/v1/models"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/Models"),
        ("GET", "/v1//models"),
        ("GET", "/v1/mod%65ls"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/chats"),
        ("GET", "/v1/a/b/x"),
        ("GET", "/v1/a%2Fb/x"),
        ("GET", "/v1/a%2fb/x"),
        ("GET", "/other/v1/models"),
        ("GET", ""),
    ] {
        let response = ask(method, rest);
        if method == "HEAD" {
            assert_eq!(response.status, 403);
        } else {
            assert_refused(&format!("{method} {rest}"), &response, 403, "AUTH_SCOPE_DENIED", "");
        }
    }
    assert_eq!(upstream.requests().len(), let_through);
}

#[test]
fn claim_of_everything_and_claim_without_scopes_allow_all() {
    for scopes in [json!(["*"]), json!([])] {
        let (_upstream, gateway, agent) = with_scopes(scopes);
        let request = agent.request("DELETE", gateway.url(), "/proxy/openai/any/a%2Fb").sign();
        assert_eq!(gateway.send(&request).status, 200);
    }
}

#[test]
fn claim_that_has_not_ended_yet_holds() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("")), Agent::new("alice"));
    let mut claim = agent.claim(&[CONNECTION]);
    claim["expires_at"] = json!("2100-01-01T00:00:00Z");
    let gateway = Setup::new().bearer(CONNECTION, &upstream.url(), "s").claim_entry(claim).start();
    assert_eq!(gateway.send(&agent.get(gateway.url(), TARGET)).status, 200);
}

#[test]
fn polled_claim_lets_through_and_withdrawn_refuses_from_the_next_poll_on() {
    let town = Town::start(|setup| setup, |agent| vec![approved(agent, json!({}))]);
    assert_eq!(town.get().status, 200);
    let decision = &town.gateway.wait_for_decisions(1)[0];
    assert_eq!((&decision["decision"], &decision["claim"]), (&json!("allow"), &json!("cl_17")));
    // The server proves each request's signature and key before it keeps it.
    assert!(town.server.seen().iter().all(|seen| seen.namespace.as_str() == "test-gateway"));
    town.server.set_claims(vec![]);
    let refused = eventually("the withdrawal", || Some(town.get()).filter(|answer| answer.status != 200));
    assert_eq!(refused.code(), "AUTH_CLAIM_REQUIRED");
    let count = town.upstream.requests().len();
    assert_eq!(town.get().status, 403);
    assert_eq!(town.upstream.requests().len(), count);
    town.server.set_claims(vec![approved(&town.agent, json!({}))]);
    eventually("the claim's return", || (town.get().status == 200).then_some(()));
}

#[test]
fn metrics_show_how_many_claims_there_are_and_how_old() {
    let other = approved(&Agent::new("bob-1"), json!({ "claim_id": "cl_18" }));
    let both = |agent: &Agent| vec![approved(agent, json!({})), other];
    let town = Town::start(|setup| setup.claim(&Agent::new("carol"), &[CONNECTION]), both);
    town.gateway.wait_for_metric("sigilum_gateway_claims_entries", 3.0);
    let age = town.gateway.metric("sigilum_gateway_claims_age_seconds").unwrap();
    assert!(age.is_finite() && age >= 0.0, "{age}");

    let (server, upstream) = (Server::start(&Clock::system()), Upstream::answering(Reply::ok("")));
    server.behave(Behaviour::Refuse(500));
    let waiting = polling(&server, &upstream).start();
    assert_eq!(waiting.metric("sigilum_gateway_claims_age_seconds"), Some(f64::INFINITY));
}

#[test]
fn polled_claim_s_scopes_and_end_are_enforced() {
    let scoped = |agent: &Agent| vec![approved(agent, json!({ "scopes": ["POST /v1/chat"] }))];
    let town = Town::start(|setup| setup, scoped);
    assert_refused("scope", &town.get(), 403, "AUTH_SCOPE_DENIED", "");
    let post = town.agent.post(town.gateway.url(), TARGET, "{}");
    assert_eq!(town.gateway.send(&post).status, 200);
    let ended = json!({ "expires_at": "2020-01-01T00:00:00Z" });
    town.server.set_claims(vec![approved(&town.agent, ended)]);
    let refused = eventually("the end", || {
        Some(town.gateway.send(&town.agent.post(town.gateway.url(), TARGET, "{}")))
            .filter(|a| a.status != 200)
    });
    assert_eq!(refused.code(), "AUTH_CLAIM_REQUIRED");
}

#[test]
fn claims_that_were_never_received_are_unavailable_and_the_gateway_is_not_ready() {
    let (server, upstream) = (Server::start(&Clock::system()), Upstream::answering(Reply::ok("")));
    let (agent, fixed, nobody) = (Agent::new("alice"), Agent::new("bob-1"), Nobody::there());
    let gateway = polling(&server, &upstream)
        .set("control_plane.url", nobody.url().to_string())
        .claim(&fixed, &[CONNECTION])
        .start();
    let refused = gateway.send(&agent.get(gateway.url(), TARGET));
    assert_refused("never received", &refused, 503, "AUTH_CLAIMS_UNAVAILABLE", "");
    assert!(seconds(&refused) >= 1);
    let mut client = gateway.connect();
    client.send("GET /health/ready HTTP/1.1\r\nhost: x\r\n\r\n");
    let ready = client.response();
    assert_refused("readiness", &ready, 503, "NOT_READY", "");
    assert_eq!(ready.json()["error"], "the gateway is not ready: it waits for the approved claims");
    let admin = gateway.admin_get("/health/ready");
    assert_eq!((admin.status, &admin.json()["error"]), (503, &ready.json()["error"]));
    upstream.assert_zero_bytes();
    // A claim of the configuration needs no control plane.
    assert_eq!(gateway.send(&fixed.get(gateway.url(), TARGET)).status, 200);
}

#[test]
fn readiness_comes_with_the_first_claims() {
    let (server, upstream, agent) =
        (Server::start(&Clock::system()), Upstream::answering(Reply::ok("")), Agent::new("alice"));
    server.behave(Behaviour::Refuse(503));
    server.set_claims(vec![approved(&agent, json!({}))]);
    let gateway = polling(&server, &upstream).start();
    let status = || {
        let mut client = gateway.connect();
        client.send("GET /health/ready HTTP/1.1\r\nhost: x\r\n\r\n");
        client.response().status
    };
    assert_eq!(status(), 503);
    server.behave(Behaviour::Serve);
    eventually("readiness", || (status() == 200).then_some(()));
    assert_eq!(gateway.send(&agent.get(gateway.url(), TARGET)).status, 200);
}

#[test]
fn control_plane_that_refuses_the_gateway_is_a_failed_lookup() {
    let (server, upstream, agent) =
        (Server::start(&Clock::system()), Upstream::answering(Reply::ok("")), Agent::new("alice"));
    server.accept_key("sk_live_another");
    let gateway = polling(&server, &upstream).start();
    let refused = eventually("the failed reading", || {
        let response = gateway.send(&agent.get(gateway.url(), TARGET));
        Some(response).filter(|response| response.code() != "AUTH_CLAIMS_UNAVAILABLE")
    });
    assert_refused("key refused", &refused, 403, "AUTH_CLAIMS_LOOKUP_FAILED", "");
    upstream.assert_zero_bytes();
    server.write_key("sk_live_another");
    server.set_claims(vec![approved(&agent, json!({}))]);
    eventually("the rotated key", || {
        (gateway.send(&agent.get(gateway.url(), TARGET)).status == 200).then_some(())
    });
}

#[test]
fn last_good_claims_serve_while_the_control_plane_is_gone_until_they_are_too_old() {
    let stale = |setup: Setup| {
        let claims = json!({ "source": "poll", "refresh": "1s", "max_staleness": "4s" });
        setup.set("control_plane.claims", claims)
    };
    let mut town = Town::start(stale, |agent| vec![approved(agent, json!({}))]);
    let _nobody = town.server.stop();
    assert_eq!(town.get().status, 200);
    let refused = eventually("staleness", || Some(town.get()).filter(|answer| answer.status != 200));
    assert_refused("stale", &refused, 503, "AUTH_CLAIMS_UNAVAILABLE", "");
}

#[test]
fn caller_without_claim_is_registered_once_and_told_where_it_is_approved() {
    let town = Town::start(|setup| setup, |_| vec![]);
    let request =
        town.agent.request("GET", town.gateway.url(), TARGET).subject("user-17").agent_id("planner");
    let refused = town.gateway.send(&request.sign());
    assert_refused("no claim", &refused, 403, "AUTH_CLAIM_REQUIRED", "");
    let claim = &refused.json()["claim"];
    let id = claim["claim_id"].as_str().unwrap().to_owned();
    assert_eq!(claim["status"], "pending");
    assert_eq!(claim["approve_url"], format!("https://example.com/claims/{id}"));
    assert_eq!(claim.as_object().unwrap().len(), 3);

    let submission = town.submissions().remove(0);
    assert_eq!(submission.namespace.as_str(), "test-gateway");
    assert_eq!(submission.headers["x-sigilum-claim-binding"], "namespace-only");
    for (name, value) in [
        ("namespace", "alice"),
        ("public_key", &town.agent.public_key()),
        ("service", CONNECTION),
        ("agent_ip", "127.0.0.1"),
        ("subject", "user-17"),
        ("agent_id", "planner"),
    ] {
        assert_eq!(submission.body[name], value, "{name}");
    }
    let again = town.get();
    assert_eq!(again.json()["claim"]["claim_id"], id);
    assert_eq!(town.submissions().len(), 1);
    town.upstream.assert_zero_bytes();
}

#[test]
fn language_model_is_told_on_a_page_what_to_do() {
    let town = Town::start(|setup| setup, |_| vec![]);
    let request = |accept: &str| {
        town.gateway
            .send(&town.agent.request("GET", town.gateway.url(), TARGET).header("accept", accept).sign())
    };
    for accept in ["text/markdown", "text/html, Text/Markdown;q=0.9"] {
        let page = request(accept);
        assert_eq!((page.status, page.header("content-type")), (403, Some("text/markdown; charset=utf-8")));
        let text = page.text();
        let id = page.header("x-request-id").unwrap();
        for part in [
            "AUTH_CLAIM_REQUIRED",
            "`openai`",
            "pending",
            "https://example.com/claims/cl_",
            "Ask your user",
            id,
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains("alice") && !text.contains(&town.agent.public_key()), "{text}");
    }
    assert_eq!(request("application/json").header("content-type"), Some("application/json"));
}

#[test]
fn answer_comes_while_the_control_plane_holds_the_submission() {
    let town = Town::start(|setup| setup, |_| vec![]);
    town.server.behave(Behaviour::Hold);
    let refused = town.get();
    assert_refused("held", &refused, 403, "AUTH_CLAIM_REQUIRED", "");
    assert_eq!(refused.json()["claim"], json!({ "status": "unregistered" }));
    eventually("the held submission", || (town.submissions().len() == 1).then_some(()));
    // What the server answers at last is for the next caller.
    town.server.release();
    let told = eventually("the answer of the server", || {
        Some(town.get().json()["claim"].clone()).filter(|claim| claim["status"] == "pending")
    });
    assert!(told["claim_id"].as_str().unwrap().starts_with("cl_"));
    assert_eq!(town.submissions().len(), 1);
}

#[test]
fn registrations_beyond_the_rate_are_refused_and_forgotten_by_nobody() {
    let town = Town::start(|setup| setup.set("limits.claim_registrations_per_minute", 1), |_| vec![]);
    assert_eq!(town.get().code(), "AUTH_CLAIM_REQUIRED");
    let second = Agent::new("bob-1");
    let refused = town.gateway.send(&second.get(town.gateway.url(), TARGET));
    assert_refused("beyond the rate", &refused, 429, "AUTH_CLAIM_SUBMIT_RATE_LIMITED", "");
    assert!((1..=61).contains(&seconds(&refused)));
    // Who is registered already is told so, whatever the rate.
    assert_eq!(town.get().json()["claim"]["status"], "pending");
    assert_eq!(town.submissions().len(), 1);
    town.upstream.assert_zero_bytes();
}

#[test]
fn nobody_is_registered_where_that_is_off_or_the_signature_is_wrong() {
    let off = Town::start(|setup| setup.set("control_plane.auto_register_claims", false), |_| vec![]);
    assert_eq!(off.get().json()["claim"], json!({ "status": "unregistered" }));
    assert!(off.submissions().is_empty());

    let on = Town::start(|setup| setup, |_| vec![]);
    let forged = on.agent.get(on.gateway.url(), TARGET).method_swapped("DELETE");
    assert_eq!(on.gateway.send(&forged).reason(), "SIG_VERIFICATION_FAILED");
    assert!(on.submissions().is_empty());
}
