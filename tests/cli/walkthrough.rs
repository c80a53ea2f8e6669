//! The walk through a local stack as the field's documents show it, command by command, in one directory. Only the ports
//! are others: the documents' own may be taken.

use serde_json::Value;

use super::household::{Household, behind};
use super::stage::{Ended, end, mode};
use crate::support::eventually;
use crate::support::upstream::{Reply, Upstream};

/// A provider of the documents: how it is added, and what it must then be sent.
struct Provider {
    slug: &'static str,
    flags: &'static [&'static str],
    /// What the provider is to find, in the header of this name or in its target.
    header: Option<&'static str>,
    sent: &'static str,
}

const PROVIDERS: [Provider; 4] = [
    Provider {
        slug: "openai",
        flags: &[
            "--service-name",
            "OpenAI",
            "--auth-mode",
            "bearer",
            "--upstream-secret-env",
            "OPENAI_API_KEY",
        ],
        header: Some("authorization"),
        sent: "Bearer sk-of-the-variable",
    },
    Provider {
        slug: "figma",
        flags: &[
            "--auth-mode",
            "header_key",
            "--upstream-header",
            "X-API-Key",
            "--upstream-secret-file",
            "figma.txt",
        ],
        header: Some("x-api-key"),
        sent: "figd-of-the-file",
    },
    Provider {
        slug: "typefully",
        flags: &[
            "--auth-mode",
            "query_param",
            "--upstream-header",
            "TYPEFULLY_API_KEY",
            "--upstream-secret-key",
            "api_key",
            "--upstream-secret",
            "tfy-of-the-line",
        ],
        header: None,
        sent: "TYPEFULLY_API_KEY=tfy-of-the-line",
    },
    // Auth mode and source are left away: a bearer token, and a secret that is made.
    Provider { slug: "linear", flags: &[], header: Some("authorization"), sent: "Bearer " },
];

struct Walk {
    house: Household,
    upstream: Upstream,
}

impl Walk {
    fn done(&self, line: &str) -> String {
        self.house.done(&line.split(' ').collect::<Vec<_>>())
    }

    /// Adds a provider; what the command said.
    fn add(&self, provider: &Provider) -> Ended {
        let url = self.upstream.url();
        let mut add = self.house.command(&["service", "add", "--service-slug", provider.slug]);
        add.args(["--mode", "gateway", "--upstream-base-url", &url]).args(provider.flags);
        let added = end(add.env("OPENAI_API_KEY", "sk-of-the-variable"));
        assert_eq!(added.code, Some(0), "{added:?}");
        added
    }

    /// A call of the workspace's agent to a provider.
    fn call(&self, slug: &str) -> String {
        let gateway = self.house.workspace()["gateway_url"].as_str().unwrap().to_owned();
        self.house.run(&["curl", "-i", &format!("{gateway}/proxy/{slug}/v1/x")]).out
    }

    /// What the provider was sent at an allowed call: the header, or else the target.
    fn sent(&self, slug: &str, header: Option<&str>) -> String {
        eventually("the approved agent to pass", || {
            self.call(slug).starts_with("HTTP/1.1 200 ").then_some(())
        });
        let seen = self.upstream.requests().pop().unwrap();
        match header {
            Some(header) => seen.header(header).unwrap_or_default().to_owned(),
            None => seen.target.clone(),
        }
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn local_walk_of_the_documents_works_command_by_command() {
    let walk = Walk { house: Household::new(), upstream: Upstream::answering(Reply::ok("hello")) };
    walk.house.stage.file("figma.txt", b"figd-of-the-file\n");

    let up = walk.house.up(&[]);
    for part in ["[ok] Control plane listening on ", "[ok] Gateway listening on "] {
        let origin = behind(&up, part).unwrap();
        walk.house.pasted(&format!("/usr/bin/curl -sf {origin}/health"));
    }

    for provider in &PROVIDERS {
        let added = walk.add(provider);
        assert!(
            added.out.starts_with(&format!("[ok] Service registered: {}\nmode: gateway\n", provider.slug))
        );
        assert!(!added.out.contains("-of-the-"), "{added:?}");
        let refused = walk.call(provider.slug);
        let envelope = json(refused.split("\r\n\r\n").last().unwrap());
        assert_eq!(envelope["code"], "AUTH_CLAIM_REQUIRED", "{envelope}");
        walk.house.done(&["claim", "approve", envelope["claim"]["claim_id"].as_str().unwrap()]);
        let sent = walk.sent(provider.slug, provider.header);
        assert!(sent.contains(provider.sent) && sent.len() > "Bearer ".len(), "{}: {sent}", provider.slug);
    }
    walk.done("service add --service-slug my-native-service --mode native");

    let listed = walk.done("service list");
    assert!(listed.starts_with("[ok] Services for namespace: local\n"), "{listed}");
    let services = json(&walk.done("service list --json"))["services"].as_array().unwrap().clone();
    let mut slugs: Vec<&str> = services.iter().filter_map(|service| service["slug"].as_str()).collect();
    slugs.sort_unstable();
    assert_eq!(slugs, ["figma", "linear", "my-native-service", "openai", "typefully"]);
    assert!(slugs.iter().all(|slug| listed.contains(&format!("{slug} (svc_"))), "{listed}");

    walk.house.stage.file("linear.txt", b"lin-of-another-file");
    let set = walk.done("service secret set --service-slug linear --upstream-secret-file linear.txt");
    assert!(set.starts_with("[ok] Secret updated for service: linear\n") && !set.contains("lin-of"), "{set}");
    assert_eq!(walk.sent("linear", Some("authorization")), "Bearer lin-of-another-file");
    let shown = walk.done(
        "service secret set --service-slug typefully --upstream-secret-key api_key \
         --upstream-secret-file linear.txt --reveal-secrets",
    );
    assert!(shown.contains("secret_key: api_key\nsecret_value: lin-of-another-file\n"), "{shown}");
    assert!(walk.sent("typefully", None).contains("TYPEFULLY_API_KEY=lin-of-another-file"));

    for login in ["auth login --mode oss-local --namespace local", "login --mode oss-local --namespace local"]
    {
        let token_ready = walk.done(login);
        assert!(
            token_ready.starts_with("[ok] Namespace-owner token ready.\nmode: oss-local\nnamespace: local\n")
        );
    }
    let token = walk.done("auth login --mode oss-local --namespace local --token-only");
    assert_eq!(walk.done("auth show --namespace local"), token);
    let refreshed = walk.done("auth refresh");
    assert!(refreshed.starts_with("[ok] Namespace-owner token ready.\n"), "{refreshed}");
    let kept = walk.house.stage.path("user/.openclaw/.sigilum/owner-token-local.jwt");
    assert_eq!(mode(&kept), 0o600);

    let doctor = walk.done("doctor");
    assert!(!doctor.contains("[fail]"), "{doctor}");
    let findings = json(&walk.done("doctor --json"));
    assert!(findings.as_array().unwrap().iter().all(|finding| finding["status"] != "fail"), "{findings}");
    walk.done("doctor --fix");
    assert!(walk.done("status").contains("[ok]"));
    walk.done("down");
    assert_eq!(walk.house.run(&["status"]).code, Some(4), "nothing runs any more");
}

#[test]
fn ports_are_those_of_the_documents_where_nobody_says_others() {
    let help = Household::new().done(&["up", "--help"]);
    for port in ["127.0.0.1:8787", "127.0.0.1:38100", "127.0.0.1:38101"] {
        assert!(help.contains(port), "{help}");
    }
}
