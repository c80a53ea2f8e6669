//! What the upstream receives: the secret in its place, nothing of ours, everything else as the client sent it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::scene::{CONNECTION, SECRET, Scene, assert_refused};
use crate::support::agent::Agent;
use crate::support::gateway::Setup;
use crate::support::upstream::{Recorded, Reply, Upstream};

/// A scene whose connection injects by this `auth`, `secret` being added to it.
fn injecting(mut auth: Value, secret: &str, base_path: &str) -> Scene {
    auth["secret"] = json!("env:TEST_SECRET");
    Scene::before(Upstream::answering(Reply::Echo), |setup, url| {
        let provider = json!({ "id": CONNECTION, "base_url": format!("{url}{base_path}"), "auth": auth });
        setup.provider(provider).env("TEST_SECRET", secret)
    })
}

#[test]
fn secret_goes_into_its_header_with_its_prefix_once() {
    for (auth, secret, header, value) in [
        (json!({ "mode": "bearer" }), "sk-1", "authorization", "Bearer sk-1"),
        (json!({ "mode": "bearer" }), "Bearer sk-1", "authorization", "Bearer sk-1"),
        (
            json!({ "mode": "bearer", "header": "X-Token", "prefix": "Token " }),
            "sk-1",
            "x-token",
            "Token sk-1",
        ),
        (json!({ "mode": "bearer", "prefix": "" }), "sk-1", "authorization", "sk-1"),
        (json!({ "mode": "header_key", "header": "X-Api-Key" }), "sk-1", "x-api-key", "sk-1"),
        (json!({ "mode": "header_key", "header": "K", "prefix": "key=" }), "key=sk-1", "k", "key=sk-1"),
        (
            json!({ "mode": "basic", "user": "aladdin" }),
            "opensesame",
            "authorization",
            "Basic YWxhZGRpbjpvcGVuc2VzYW1l",
        ),
    ] {
        let scene = injecting(auth.clone(), secret, "");
        let received = scene.passed("/proxy/openai/v1/models?a=b");
        assert_eq!(received.all(header), [value], "{auth}");
        assert_eq!(received.target, "/v1/models?a=b");
    }
}

#[test]
fn secret_takes_the_place_of_whatever_the_client_sent_there() {
    let scene = injecting(json!({ "mode": "header_key", "header": "X-Api-Key" }), SECRET, "");
    let mut draft = scene.draft("/proxy/openai/").header("authorization", "Bearer the client's own");
    for name in ["x-api-key", "X-API-KEY", "x_api_key", "X_Api-Key", "x-api_key"] {
        draft = draft.header(name, "client");
    }
    let received = scene.passed_draft(draft.header("x-api-keys", "another").header("xapi-key", "another"));
    let like: Vec<_> = received
        .headers
        .iter()
        .filter(|(name, _)| name.to_lowercase().replace('_', "-") == "x-api-key")
        .collect();
    assert_eq!(like, [&("x-api-key".to_owned(), SECRET.to_owned())].to_vec().as_slice());
    assert_eq!(received.all("x-api-keys"), ["another"]);
    assert_eq!(received.header("authorization"), Some("Bearer the client's own"));
}

#[test]
fn bearer_secret_takes_the_place_of_every_authorization() {
    let scene = Scene::start();
    let draft =
        scene.draft("/proxy/openai/").header("Authorization", "Bearer a").header("AUTHORIZATION", "Basic b");
    let received = scene.passed_draft(draft);
    assert_eq!(received.all("authorization"), [format!("Bearer {SECRET}")]);
}

#[test]
fn secret_parameter_replaces_the_client_s_and_leaves_the_rest_byte_for_byte() {
    let scene = injecting(json!({ "mode": "query_param" }), "s&cr=t/+ 1", "");
    let own = "api_key=s%26cr%3Dt%2F%2B%201";
    for (query, rest) in [
        ("", ""),
        ("?", ""),
        ("?api_key=client", ""),
        ("?api_key", ""),
        ("?api_key=a&api_key=b&api%5Fkey=c&%61pi_key=d&ap%69%5fkey", ""),
        ("?a=b&api_key=x&c=%2f%2F+~", "a=b&c=%2f%2F+~&"),
        ("?a&&b=&=c&", "a&&b=&=c&"),
        ("?a=1?b=2&a=1", "a=1?b=2&a=1&"),
        ("?api_keys=1&xapi_key=2&API_KEY=3&a=api_key", "api_keys=1&xapi_key=2&API_KEY=3&a=api_key&"),
        ("?%zz=%&a=%", "%zz=%&a=%&"),
    ] {
        let received = scene.passed(&format!("/proxy/openai/x{query}"));
        let expected = match query {
            "?a&&b=&=c&" => format!("/x?{rest}&{own}"),
            _ => format!("/x?{rest}{own}"),
        };
        assert_eq!(received.target, expected, "{query}");
    }
}

#[test]
fn secret_parameter_takes_the_configured_name() {
    let scene = injecting(json!({ "mode": "query_param", "param": "key" }), "s-1", "/base");
    assert_eq!(scene.passed("/proxy/openai?key=client&api_key=2").target, "/base?api_key=2&key=s-1");
    assert_eq!(scene.passed("/proxy/openai/a").target, "/base/a?key=s-1");
}

#[test]
fn nothing_is_injected_where_nothing_is_to_be() {
    let scene = Scene::before(Upstream::answering(Reply::Echo), |setup, url| {
        setup.provider(json!({ "id": CONNECTION, "base_url": url, "auth": { "mode": "none" } }))
    });
    let received = scene.passed_draft(scene.draft("/proxy/openai/?api_key=1").header("authorization", "Own"));
    assert_eq!((received.header("authorization"), received.target.as_str()), (Some("Own"), "/?api_key=1"));
}

#[test]
fn nothing_between_agent_and_gateway_reaches_the_upstream() {
    let scene = Scene::start();
    let request = scene
        .agent
        .request("POST", scene.gateway.url(), "/proxy/openai/v1/chat")
        .body("{}")
        .agent_id("planner")
        .header("Sigilum-Anything", "else")
        .header("accept", "application/json")
        .header("user-agent", "agent/1")
        .sign();
    assert_eq!(scene.gateway.send(&request).status, 200);
    let received = scene.upstream.wait_for(1).remove(0);
    let names: Vec<String> = received.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    for name in &names {
        let ours = name.starts_with("sigilum") || name.starts_with("signature") || name == "content-digest";
        assert!(!ours, "{name} reached the upstream");
    }
    let bytes = String::from_utf8(scene.upstream.received()).unwrap();
    for part in [request.header("signature"), request.header("sigilum-agent-cert"), &scene.agent.public_key()]
    {
        assert!(!bytes.contains(part), "{part} reached the upstream");
    }
    assert_eq!(received.header("accept"), Some("application/json"));
    assert_eq!(received.header("user-agent"), Some("agent/1"));
    assert_eq!(received.body, b"{}");
    assert_eq!(received.all("host"), [scene.upstream.address().to_string()]);
}

#[test]
fn header_that_only_looks_like_ours_is_refused_at_the_door() {
    let scene = Scene::start();
    for name in
        ["sigilum_subject", "Sigilum-Agent_Id", "SIGNATURE_INPUT", "content_digest", "x_forwarded_host"]
    {
        let response = scene.gateway.send(&scene.draft("/proxy/openai/").sign().also(name, "x"));
        assert_refused(name, &response, 400, "REQUEST_INVALID", "");
    }
    scene.upstream.assert_zero_bytes();
}

#[test]
fn hop_by_hop_headers_end_here() {
    let scene = Scene::start();
    let draft = scene
        .draft("/proxy/openai/")
        .header("connection", "keep-alive, X-Private-Hop")
        .header("x-private-hop", "one")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("proxy-authorization", "Basic canary")
        .header("te", "trailers")
        .header("x-end-to-end", "two");
    let received = scene.passed_draft(draft);
    for name in [
        "x-private-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "connection",
    ] {
        let values = received.all(name);
        assert!(
            values.iter().all(|value| *value == "keep-alive" && name == "connection"),
            "{name}: {values:?}"
        );
    }
    assert_eq!(received.header("x-end-to-end"), Some("two"));
}

#[test]
fn hop_by_hop_headers_of_the_answer_end_here_too() {
    let reply = Reply::ok("fine")
        .with("connection", "keep-alive, X-Private-Hop")
        .with("x-private-hop", "one")
        .with("keep-alive", "timeout=5")
        .with("proxy-connection", "keep-alive")
        .with("x-end-to-end", "two");
    let scene = Scene::answering(reply, |setup| setup);
    let response = scene.get("/proxy/openai/");
    assert_eq!((response.status, response.header("x-end-to-end")), (200, Some("two")));
    for name in ["x-private-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert!(!response.all("connection").join(",").to_lowercase().contains("x-private-hop"));
}

#[test]
fn client_cannot_have_the_injected_header_dropped_as_a_hop_s() {
    let scene = injecting(json!({ "mode": "header_key", "header": "X-Api-Key" }), SECRET, "");
    let request = scene.draft("/proxy/openai/").header("connection", "X-Api-Key").header("x-api-key", "own");
    let received = scene.passed_draft(request);
    assert_eq!(received.all("x-api-key"), [SECRET]);
    assert!(!received.all("connection").join(",").to_lowercase().contains("x-api-key"));
}

#[test]
fn target_is_base_path_and_prefix_and_the_rest_as_sent() {
    let scene = Scene::before(Upstream::answering(Reply::Echo), |setup, url| {
        let base = format!("{url}/base/");
        setup.provider(
            json!({ "id": CONNECTION, "base_url": base, "path_prefix": "/v1", "auth": { "mode": "none" } }),
        )
    });
    for (sent, received) in [
        ("/proxy/openai", "/base/v1"),
        ("/proxy/openai/", "/base/v1/"),
        ("/proxy/openai?x", "/base/v1?x"),
        ("/proxy/openai/a//b/?c=d&&", "/base/v1/a//b/?c=d&&"),
        ("/proxy/openai/%41%2fb;p=1/...x?y=/../%2e%2e", "/base/v1/%41%2fb;p=1/...x?y=/../%2e%2e"),
        (
            "/proxy/openai/a'()*!$,@:~[]|^{}\\b?'()*!$,@:~[]|^`{}\\",
            "/base/v1/a'()*!$,@:~[]|^{}\\b?'()*!$,@:~[]|^`{}\\",
        ),
        ("/proxy/openai/proxy/linear/x", "/base/v1/proxy/linear/x"),
    ] {
        assert_eq!(scene.passed(sent).target, received, "{sent}");
    }
}

#[test]
fn methods_and_bodies_reach_the_upstream_as_they_are() {
    let scene = Scene::start();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let body = format!("body of {method}");
        let request = scene.agent.request(method, scene.gateway.url(), "/proxy/openai/").body(&body).sign();
        assert_eq!(scene.gateway.send(&request).status, 200, "{method}");
        let received: Recorded = scene.upstream.requests().pop().unwrap();
        assert_eq!((received.method.as_str(), received.body.as_slice()), (method, body.as_bytes()));
    }
    let head = scene.agent.request("HEAD", scene.gateway.url(), "/proxy/openai/").sign();
    assert_eq!(scene.gateway.send(&head).status, 200);
    assert_eq!(scene.upstream.requests().pop().unwrap().method, "HEAD");
}

#[test]
fn connections_do_not_share_secrets_or_upstreams() {
    let (first, second, agent) =
        (Upstream::answering(Reply::Echo), Upstream::answering(Reply::Echo), Agent::new("alice"));
    let gateway = Setup::new()
        .bearer("openai", &first.url(), "first-secret")
        .bearer("linear", &second.url(), "second-secret")
        .claim(&agent, &["openai", "linear"])
        .start();
    for (id, upstream, secret) in [("openai", &first, "first-secret"), ("linear", &second, "second-secret")] {
        let request = agent.get(gateway.url(), &format!("/proxy/{id}/"));
        assert_eq!(gateway.send(&request).status, 200);
        assert_eq!(
            upstream.wait_for(1)[0].header("authorization"),
            Some(format!("Bearer {secret}").as_str())
        );
    }
    let other = STANDARD.encode("second-secret");
    assert!(!String::from_utf8(first.received()).unwrap().contains(&other));
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[test]
fn disabled_and_unknown_connections_are_refused_before_anything_is_verified() {
    let upstream = Upstream::answering(Reply::ok(""));
    let gateway = Setup::new()
        .provider(json!({ "id": "off", "base_url": upstream.url(), "status": "disabled", "auth": { "mode": "none" } }))
        .start();
    for (path, status, code) in [
        ("/proxy/off/x", 403, "CONNECTION_DISABLED"),
        ("/proxy/unknown/x", 404, "CONNECTION_NOT_FOUND"),
        ("/proxy/OFF/x", 404, "CONNECTION_NOT_FOUND"),
        ("/proxy/o%66f/x", 404, "CONNECTION_NOT_FOUND"),
        ("/slack/x", 404, "CONNECTION_NOT_FOUND"),
    ] {
        let mut client = gateway.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert_refused(path, &client.response(), status, code, "");
    }
    upstream.assert_zero_bytes();
}
