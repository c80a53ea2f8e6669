//! A secret replaced while requests run: none fails, and none that begins after the answer carries the old one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::gateway::admin_scene::ask;
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::gateway::Setup;
use crate::support::upstream::{Reply, Upstream};

const CONNECTION: &str = "openai";
const CALLERS: usize = 4;
const ROTATIONS: usize = 5;

#[test]
fn rotation_fails_no_request_and_leaves_the_old_secret_behind() {
    let upstream = Upstream::answering(Reply::Echo);
    let agent = Agent::new("alice");
    // From the YAML, so that the claim can name it; its secret is in the vault.
    let provider = json!({
        "id": CONNECTION, "base_url": upstream.url(), "auth": { "mode": "bearer", "secret": "store" },
    });
    let gateway = Setup::new().provider(provider).claim(&agent, &[CONNECTION]).start();
    let rotate = |number: usize| {
        let body = json!({ "secrets": { "api_key": format!("sk-generation-{number}") } });
        let path = format!("/api/admin/connections/{CONNECTION}/rotate");
        let answer = ask(gateway.admin_address(), "POST", &path, Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    rotate(0);
    let agent = Arc::new(agent);
    let current = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (url, address) = (gateway.url().to_owned(), gateway.address());
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (agent, url) = (Arc::clone(&agent), url.clone());
            let (current, stop) = (Arc::clone(&current), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut client = crate::support::raw::RawClient::connect(address);
                let target = format!("/proxy/{CONNECTION}/x");
                let mut made = 0_usize;
                while !stop.load(Ordering::SeqCst) {
                    let at_least = current.load(Ordering::SeqCst).to_string();
                    let signed = agent.request("GET", &url, &target).header("x-at-least", &at_least).sign();
                    client.send(signed.to_bytes());
                    assert_eq!(client.response().status, 200);
                    made += 1;
                }
                made
            })
        })
        .collect();
    for number in 1..=ROTATIONS {
        let before = upstream.requests().len();
        eventually("requests between two rotations", || {
            (upstream.requests().len() > before + 100).then_some(())
        });
        rotate(number);
        current.store(number, Ordering::SeqCst);
    }
    let before = upstream.requests().len();
    eventually("requests after the last", || (upstream.requests().len() > before + 100).then_some(()));
    stop.store(true, Ordering::SeqCst);
    let made: usize = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    for request in upstream.requests() {
        let sent = request.header("authorization").unwrap().strip_prefix("Bearer sk-generation-").unwrap();
        let at_least = request.header("x-at-least").unwrap();
        assert!(sent >= at_least, "generation {sent} was sent after the answer about {at_least}");
    }
    println!("{made} requests, {ROTATIONS} rotations, no failure");
}
