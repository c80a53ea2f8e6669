//! `x-request-id`: the client's where it is safe, ours where not, and on every answer.

use std::collections::HashSet;

use super::scene::Scene;
use crate::support::raw::Response;
use crate::support::upstream::Reply;

fn id(response: &Response) -> String {
    assert_eq!(response.all("x-request-id").len(), 1, "{:?}", response.headers);
    response.header("x-request-id").unwrap().to_owned()
}

fn is_ours(id: &str) -> bool {
    id.strip_prefix("req_").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[test]
fn safe_id_is_taken_over_and_another_one_replaced() {
    let scene = Scene::start();
    let ask = |sent: &str| {
        id(&scene.gateway.send(&scene.draft("/proxy/openai/").header("x-request-id", sent).sign()))
    };
    let longest = "a".repeat(128);
    for safe in ["client-1", "0123_ABC.def-xyz", longest.as_str()] {
        assert_eq!(ask(safe), safe);
    }
    let longer = "a".repeat(129);
    for unsafe_one in [
        "",
        "seven-7",
        longer.as_str(),
        "with space",
        "a,b,c,d,e,f",
        "<script>x",
        "\"quoted-id\"",
        "m\u{fc}ller-id",
    ] {
        let given = ask(unsafe_one);
        assert!(is_ours(&given), "{unsafe_one:?} became {given}");
    }
}

#[test]
fn every_answer_has_one_and_each_its_own() {
    let scene = Scene::answering(Reply::ok("").with("x-request-id", "the-upstream-s"), |setup| setup);
    let mut seen = HashSet::new();
    let mut client = scene.gateway.connect();
    for request in [
        scene.draft("/proxy/openai/").sign().to_bytes(),
        scene.draft("/proxy/openai/").sign().without("signature").to_bytes(),
        scene.draft("/proxy/unknown/").sign().to_bytes(),
        b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".to_vec(),
        b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".to_vec(),
        b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"GET /broken HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n".to_vec(),
    ] {
        client.send(&request);
        let given = id(&client.response());
        assert!(is_ours(&given), "{given}");
        assert!(seen.insert(given), "an id came twice");
    }
}

#[test]
fn id_is_on_answers_of_the_gateway_to_a_broken_upstream_too() {
    let scene = Scene::answering(Reply::Unanswered, |setup| setup);
    let draft = scene
        .agent
        .request("POST", scene.gateway.url(), "/proxy/openai/")
        .header("x-request-id", "client-17");
    let response = scene.gateway.send(&draft.body("{}").sign());
    assert_eq!((response.status, id(&response).as_str()), (502, "client-17"));
    assert_eq!(response.json()["request_id"], "client-17");
    assert_eq!(scene.gateway.wait_for_decision("client-17")["code"], "UPSTREAM_ERROR");
}

#[test]
fn id_is_the_same_in_answer_envelope_and_log() {
    let scene = Scene::start();
    let response = scene.gateway.send(&scene.draft("/proxy/openai/").sign().without("signature"));
    let given = id(&response);
    assert_eq!(response.json()["request_id"], *given);
    assert_eq!(scene.gateway.wait_for_decision(&given)["decision"], "deny");
}
