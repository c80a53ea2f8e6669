//! Each fault, with its line, column, path and sentence.

use super::{KEY, lines, load_with, provider};
use crate::config::{FaultKind, Source};

/// The lines of a text that is refused or warned of, without the file's name.
fn found(text: &str) -> Vec<String> {
    lines(text)
        .into_iter()
        .map(|line| line.replacen("gateway.yaml:", "", 1).trim_start().to_owned())
        .collect()
}

/// As [`found`], without the warning that a provider without claims gets.
fn failures(text: &str) -> Vec<String> {
    found(text).into_iter().filter(|line| !line.contains(": warning: ")).collect()
}

#[test]
fn unknown_key_is_an_error_with_the_nearest_known_one() {
    assert_eq!(
        failures("providers:\n  - id: a\n    base_ulr: https://a.example\n"),
        [
            "2:5: providers[0].base_url: is needed, such as https://api.openai.com; or endpoints in its place",
            "3:5: providers[0].base_ulr: unknown key `base_ulr`; did you mean `base_url`?",
        ]
    );
    assert_eq!(
        failures("providers: []\nshutdown: { zzz: 1 }\n"),
        ["2:13: shutdown.zzz: unknown key `zzz`; known here are drain"]
    );
}

#[test]
fn several_faults_are_reported_at_once_in_the_order_of_the_file() {
    let text = "\
mode: entreprise
limits:
  header_timeout: 10 seconds
  header_bytes: 64KB
  connections: many
  body: 5
verification: { created_tolerance: 2h }
providers: []
";
    assert_eq!(
        found(text),
        [
            "1:7: mode: takes managed, enterprise or oss-local; it holds \"entreprise\"",
            "3:19: limits.header_timeout: takes a duration such as 300ms, 10s, 5m, 1h or 30d; it holds \"10 seconds\"",
            "4:17: limits.header_bytes: takes a size such as 512B, 64KiB, 1MiB or 2GiB; it holds \"64KB\"",
            "5:16: limits.connections: takes a whole number from 1 to 10000000; it holds \"many\"",
            "6:9: limits.body: takes a mapping with the keys max, window, min_rate",
            "7:36: verification.created_tolerance: takes a duration from 1s to 1h; it holds \"2h\"",
        ]
    );
}

#[test]
fn literal_secret_is_refused_and_never_echoed() {
    let text = "\
admin: { token: canary-admin }
control_plane: { url: 'https://x', service_api_key: 'canary: key' }
vault: { master_key: canary-master }
providers:
  - id: a
    base_url: https://user:canary-pass@a.example
    auth: { mode: bearer, secret: canary-secret }
  - id: b
    base_url: https://b.example/?key=canary-query
    auth: canary-auth
  - id: c
    base_url: https://c.example
    auth: { mode: bearer, secret: [canary-list], prefix: \"canary\\r\\n\" }
";
    let faults = load_with(text, &[]).unwrap_err();
    assert!(!faults.to_string().contains("canary"), "{faults}");
    assert!(!format!("{faults:?}").contains("canary"), "{faults:?}");
    assert!(!serde_json::to_string(faults.all()).unwrap().contains("canary"));
    let literal = "a secret itself never stands here; put it into an environment variable or a file, and write env:NAME or file:/path";
    let lines = failures(text);
    for place in [
        "1:17: admin.token",
        "2:53: control_plane.service_api_key",
        "3:22: vault.master_key",
        "7:35: providers[0].auth.secret",
    ] {
        assert!(lines.contains(&format!("{place}: {literal}")), "{place} is not in {lines:#?}");
    }
    assert!(lines.contains(
        &"6:15: providers[0].base_url: a base URL has no user or password; leave it out".to_owned()
    ));
}

#[test]
fn what_is_not_supported_yet_is_refused_as_that() {
    let text = "\
listeners: [{ address: '127.0.0.1:1', proxy_protocol: true }]
control_plane: { url: 'https://x', service_api_key: env:K }
replay: { store: redis, url: env:R, when_unavailable: refuse }
providers:
  - id: a
    protocol: mcp
    base_url: https://a.example
    load_balancing: least_requests
    auth: { mode: bearer, secret: store }
  - id: b
    base_url: https://b.example
    auth: { mode: bearer, secret: 'vault:secret/b#key' }
telemetry: { otlp: { endpoint: 'http://127.0.0.1:4317' } }
";
    let faults = load_with(text, &[]).unwrap_err();
    let paths: Vec<&str> = faults.all().iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "listeners[0].proxy_protocol",
            "replay.store",
            "providers[0].protocol",
            "providers[0].load_balancing",
            "providers[1].auth.secret",
            "telemetry.otlp",
        ]
    );
    for fault in faults.all() {
        assert_eq!(fault.kind, FaultKind::NotYet, "{fault:?}");
        assert!(fault.message.starts_with("not supported yet: "), "{fault:?}");
    }
}

#[test]
fn key_given_twice_names_both_lines() {
    assert_eq!(
        failures("mode: oss-local\nproviders: []\nmode: managed\n"),
        ["3:1: mode: the key `mode` stands already in line 1; leave one of them out"]
    );
    assert_eq!(
        failures("providers:\n  - id: a\n    base_url: https://a.example\n    id: b\n"),
        ["4:5: providers[0].id: the key `id` stands already in line 2; leave one of them out"]
    );
}

#[test]
fn provider_id_given_twice_names_the_first_line() {
    let text = "providers:\n  - { id: a, base_url: 'https://a' }\n  - { id: a, base_url: 'https://b' }\n";
    assert_eq!(
        failures(text),
        ["3:11: providers[1].id: the id a stands already in line 2; each provider has its own"]
    );
}

#[test]
fn text_that_is_no_yaml_or_more_than_one_document_is_refused_with_its_place() {
    let [line] = failures("providers: [\n").try_into().unwrap_or_else(|lines| panic!("{lines:?}"));
    assert!(line.starts_with("2:1: this is not YAML: "), "{line}");
    assert_eq!(
        failures("providers: []\n---\nmode: managed\n"),
        ["2:1: a second document begins here; a configuration is one document"]
    );
    assert_eq!(
        failures("providers: !fancy []\n"),
        ["1:12: providers: tags are not used here; leave this one out"]
    );
    assert_eq!(
        failures("- a\n")[0],
        "1:1: takes a mapping with the keys mode, data_dir, identity, listeners, trusted_proxies, admin, control_plane, verification, replay, vault, rotation, service_catalog, limits, providers, claims, telemetry, shutdown"
    );
}

#[test]
fn nesting_size_and_repetition_are_bounded() {
    let [line] = failures(&"- ".repeat(40)).try_into().unwrap_or_else(|lines| panic!("{lines:?}"));
    assert!(line.contains("nested more than 32 deep"), "{line}");
    let [line] =
        failures(&" ".repeat(1024 * 1024 + 1)).try_into().unwrap_or_else(|lines| panic!("{lines:?}"));
    assert_eq!(line, "the file has 1048577 bytes; at most 1048576 are read");
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (name, before) in ["b", "c", "d", "e", "f", "g"].iter().zip(["a", "b", "c", "d", "e", "f"]) {
        bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 10].join(", ")));
    }
    let line = failures(&bomb).pop().unwrap();
    assert!(line.contains("the file holds more than 200000 values"), "{line}");
    let many = failures(&(0..2_000).map(|n| format!("unknown-{n}: 1\n")).collect::<String>());
    assert_eq!(many.len(), 501);
    assert!(many.contains(&"1501 more faults are not listed".to_owned()), "{:?}", many.last());
}

#[test]
fn merge_key_is_refused_and_an_alias_is_followed() {
    let text = "providers:\n  - &one { id: a, base_url: 'https://a' }\n  - { <<: *one, id: b, base_url: 'https://b' }\n";
    assert_eq!(
        failures(text),
        [
            "3:7: providers[1].<<: merge keys are not part of YAML 1.2; write these settings out, or name a whole value by an alias"
        ]
    );
    let text = "providers:\n  - { id: a, base_url: 'https://a', timeouts: &slow { read: 5m } }\n  - { id: b, base_url: 'https://b', timeouts: *slow }\n";
    assert_eq!(failures(text), [""; 0]);
    assert_eq!(
        failures("providers: &a [*a]\n"),
        ["1:16: providers[0]: an alias cannot stand inside what it names"]
    );
}

#[test]
fn providers_must_be_given_and_may_be_empty() {
    assert_eq!(failures(""), ["1:1: providers: is needed; where there are none yet, write providers: []"]);
    assert_eq!(failures("providers: []\n"), [""; 0]);
}

#[test]
fn base_url_and_endpoints_exclude_each_other_and_endpoints_agree() {
    let text = "\
providers:
  - id: a
    base_url: https://a.example
    endpoints:
      - { url: 'https://b.example' }
  - id: b
    endpoints:
      - { url: 'https://a.example/v1' }
      - { url: 'http://b.example/v1' }
      - { url: 'https://c.example/v2', weight: 0 }
      - { url: 'https://a.example/v1/' }
  - id: c
    endpoints: []
";
    assert_eq!(
        failures(text),
        [
            "5:7: providers[0].endpoints: stands beside base_url; leave one of them out",
            "9:16: providers[1].endpoints[1].url: all endpoints of a provider share scheme and base path; this one has not those of https://a.example/v1 in line 8",
            "10:16: providers[1].endpoints[2].url: all endpoints of a provider share scheme and base path; this one has not those of https://a.example/v1 in line 8",
            "10:48: providers[1].endpoints[2].weight: takes a whole number from 1 to 1000; it holds \"0\"",
            "11:16: providers[1].endpoints[3].url: https://a.example/v1 stands already in line 8; raise that one's weight instead",
            "13:16: providers[2].endpoints: has none; name one at least",
        ]
    );
}

#[test]
fn auth_takes_what_its_mode_needs_and_nothing_else() {
    for (auth, line) in [
        (
            "{ mode: bearer }",
            "4:11: providers[0].auth.secret: is needed: where the secret is read from, such as env:OPENAI_API_KEY",
        ),
        (
            "{ mode: none, secret: env:A }",
            "4:33: providers[0].auth.secret: has no meaning with mode: none; leave it out",
        ),
        (
            "{ mode: header_key, secret: env:A }",
            "4:11: providers[0].auth.header: is needed with mode: header_key, such as X-Api-Key",
        ),
        ("{ mode: basic, secret: env:A }", "4:11: providers[0].auth.user: is needed with mode: basic"),
        (
            "{ mode: path, secret: env:A }",
            "4:11: providers[0].auth.template: is needed with mode: path, such as /bot{secret}",
        ),
        (
            "{ mode: path, secret: env:A, template: '/../{secret}' }",
            "4:50: providers[0].auth.template: takes a path with {secret} once in it, such as /bot{secret}",
        ),
        (
            "{ mode: bearer, secret: env:A, param: x }",
            "4:49: providers[0].auth.param: has no meaning with mode: bearer; leave it out",
        ),
        (
            "{ secret: env:A }",
            "4:11: providers[0].auth.mode: is needed: bearer, header_key, query_param, basic, path or none",
        ),
        (
            "{ mode: bearer, secret: env:A, header: Host }",
            "4:50: providers[0].auth.header: takes a header that does not steer the exchange itself, such as X-Api-Key; it holds \"Host\"",
        ),
        (
            "{ mode: bearer, secret: env:A, prefix: \"a\\nb\" }",
            "4:50: providers[0].auth.prefix: takes up to 64 printable ASCII characters, such as \"Token \"",
        ),
        (
            "{ mode: bearer, secret: 'env:1' }",
            "4:35: providers[0].auth.secret: env: takes the name of an environment variable (letters, digits and _), such as env:OPENAI_API_KEY",
        ),
        (
            "{ mode: query_param, param: 'a&b', secret: env:A }",
            "4:39: providers[0].auth.param: takes a query parameter's name such as api_key (letters, digits, - . _ ~); it holds \"a&b\"",
        ),
    ] {
        assert_eq!(failures(&provider(&format!("    auth: {auth}\n"))), [line]);
    }
}

#[test]
fn vault_has_one_key_from_elsewhere() {
    const EMPTY: &str = "mode: enterprise\nproviders: []\n";
    for (vault, line) in [
        (
            "{ anchor: /elsewhere/anchor }",
            "3:8: vault.master_key: is needed: where the master key is read from, such as env:GATEWAY_MASTER_KEY",
        ),
        (
            "{ master_key: env:A, passphrase: env:B }",
            "3:41: vault.passphrase: stands beside master_key; leave one of them out",
        ),
        (
            "{ master_key: 'command:helper' }",
            "3:22: vault.master_key: command: takes the absolute path of a program, and its arguments with blanks between",
        ),
        (
            "{ master_key: env:A, anchor: /var/lib/sigilum-gateway/anchor }",
            "3:37: vault.anchor: /var/lib/sigilum-gateway/anchor lies in data_dir, so an older copy of the whole would bring its own; keep it elsewhere",
        ),
        (
            "{ master_key: store }",
            "3:22: vault.master_key: a secret itself never stands here; put it into an environment variable or a file, and write env:NAME or file:/path",
        ),
    ] {
        assert_eq!(failures(&format!("{EMPTY}vault: {vault}\n")), [line]);
    }
}

#[test]
fn secret_in_the_vault_needs_one_and_is_for_providers_alone() {
    let text = provider("    auth: { mode: bearer, secret: store }\n");
    assert_eq!(
        failures(&format!("{text}mode: enterprise\n")),
        [
            "4:35: providers[0].auth.secret: store needs a vault; write vault.master_key, such as env:GATEWAY_MASTER_KEY"
        ]
    );
    assert_eq!(
        failures("providers: []\nadmin: { token: store }\n"),
        ["2:17: admin.token: store is for the secrets of providers; write env:NAME or file:/path"]
    );
}

#[test]
fn provider_at_a_metadata_address_is_refused_unless_it_is_meant() {
    let text = "providers: [{ id: a, base_url: 'http://169.254.169.254/latest' }]\n";
    assert_eq!(
        failures(text),
        [
            "1:32: providers[0].base_url: leads to 169.254.169.254, a link-local or metadata address; where that is meant, write allow_link_local: true"
        ]
    );
    let meant = text.replace("' }", "', allow_link_local: true }");
    assert!(load_with(&meant, &[]).unwrap().connections[0].allow_link_local);
}

#[test]
fn path_prefix_with_dot_segments_is_refused() {
    assert_eq!(
        failures(&provider("    path_prefix: /v1/%2e%2E\n")),
        [
            "4:18: providers[0].path_prefix: takes a path such as /v1 without . and .. in it; it holds \"/v1/%2e%2E\""
        ]
    );
}

#[test]
fn tls_needs_its_halves_and_a_use() {
    let text = "\
listeners:
  - address: 127.0.0.1:1
    tls: { client_auth: required, certificates: [{ cert: /c.pem }] }
  - address: 127.0.0.1:1
    tls: { client_ca: /ca.pem, certificates: [] }
  - address: 127.0.0.1:38101
providers:
  - { id: a, base_url: 'http://a', tls: { key: /k.pem } }
";
    assert_eq!(
        failures(text),
        [
            "3:10: listeners[0].tls.client_ca: client_auth needs it: the CAs that sign clients' certificates",
            "3:50: listeners[0].tls.certificates[0].key: is needed: the PEM file of the private key",
            "4:14: listeners[1].address: 127.0.0.1:1 is listened on already, in line 2",
            "5:23: listeners[1].tls.client_ca: has no effect without client_auth; write client_auth: optional or required",
            "5:46: listeners[1].tls.certificates: TLS needs one at least: { cert: /path.pem, key: /path.pem }",
            "6:14: listeners[2].address: 127.0.0.1:38101 is the admin sidecar's address; take another port",
            "8:41: providers[0].tls: has no effect, since the upstream is reached over http; write https or leave it out",
            "8:41: providers[0].tls.cert: is needed with key: the PEM file of the client certificate's chain",
        ]
    );
}

#[test]
fn replay_window_shorter_than_freshness_is_refused_where_it_was_set() {
    let sentence = |window: &str, fresh: &str| {
        format!(
            "replay.window of {window} is shorter than verification.created_tolerance and future_skew together, {fresh}: \
             a signature would be fresh after its nonce is forgotten; make the window at least that long"
        )
    };
    assert_eq!(
        failures("providers: []\nreplay: { window: 329s }\n"),
        [format!("2:19: replay.window: {}", sentence("329s", "330s"))]
    );
    assert_eq!(
        failures("providers: []\nverification: { created_tolerance: 10m }\n"),
        [format!("2:36: verification.created_tolerance: {}", sentence("10m", "630s"))]
    );
    assert_eq!(failures("providers: []\nreplay: { window: 330s }\n"), [""; 0]);
}

#[test]
fn static_claim_names_providers_that_exist() {
    let text = format!(
        "\
providers:
  - {{ id: openai, base_url: 'https://a' }}
claims:
  static:
    - {{ namespace: demo, public_key: '{KEY}', services: [opnai] }}
    - {{ namespace: x, public_key: 'ed25519:AAAA', services: [], scopes: [get /], expires_at: tomorrow }}
    - {{ namespace: demo, public_key: '{KEY}', services: [openai, openai] }}
    - {{}}
"
    );
    let lines = failures(&text);
    let starts = [
        "5:105: claims.static[0].services[0]: no provider has the id opnai; did you mean openai?",
        "6:20: claims.static[1].namespace: a namespace must have 3 to 64 characters, this one has 1",
        "6:35: claims.static[1].public_key: ",
        "6:61: claims.static[1].services: names no provider; a claim without one allows nothing",
        "6:74: claims.static[1].scopes[0]: a scope begins with a method in upper case, such as GET, or with *",
        "6:94: claims.static[1].expires_at: \"tomorrow\" is not a date and time of RFC 3339, such as 2027-01-01T00:00:00Z",
        "7:104: claims.static[2].services: this key of demo has a claim on openai already, in line 7; leave one out",
        "8:7: claims.static[3].namespace: is needed: the namespace of the agent",
        "8:7: claims.static[3].public_key: is needed: the agent's key, ed25519:<base64>",
        "8:7: claims.static[3].services: is needed: the ids of the providers that the agent may use",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\nis not\n{start}");
    }
}

#[test]
fn fault_of_a_provider_is_no_second_fault_of_its_claim() {
    let text = format!(
        "providers:\n  - {{ id: a, base_url: nonsense }}\nclaims:\n  static:\n    - {{ namespace: demo, public_key: '{KEY}', services: [a] }}\n"
    );
    assert_eq!(
        failures(&text),
        [
            "2:24: providers[0].base_url: takes a URL such as https://api.example.com/base; it holds \"nonsense\""
        ]
    );
}

#[test]
fn control_plane_wants_a_key_from_somewhere_and_no_clear_text() {
    assert_eq!(
        found("mode: enterprise\nproviders: []\ncontrol_plane: { url: 'http://sigilum.internal' }\n"),
        [
            "3:16: warning: control_plane.service_api_key: there is none, and no vault to store keys in: only services that have a variable SIGILUM_SERVICE_API_KEY_<ID> are opened",
            "3:23: warning: control_plane.url: the service API key and the claims travel in the clear; use https",
        ]
    );
    assert_eq!(
        found("providers: []\ncontrol_plane: { service_api_key: env:K }\n"),
        ["2:35: warning: control_plane.service_api_key: has no effect without control_plane.url"]
    );
    assert_eq!(
        found("mode: managed\nproviders: []\n"),
        ["1:1: control_plane.url: mode: managed needs it: the URL of the control plane"]
    );
    assert_eq!(
        found(
            "providers: []\ncontrol_plane: { url: 'https://x', service_api_key: env:K, claims: { refresh: 10m, max_staleness: 5m } }\n"
        ),
        [
            "2:99: control_plane.claims.max_staleness: 5m is shorter than the refresh of 10m: claims would be too old before they are asked for again"
        ]
    );
    let claims = |claims: &str| {
        found(&format!(
            "providers: []\ncontrol_plane: {{ url: 'https://x', service_api_key: env:K, claims: {claims} }}\n"
        ))
    };
    for source in ["", "source: auto, ", "source: stream, "] {
        let faults = claims(&format!("{{ {source}max_staleness: 14s }}"));
        assert!(faults.iter().any(|fault| fault.ends_with(
            "control_plane.claims.max_staleness: 14s is too short for claims that come by a stream, which is heard every 5 s and may be silent for 15s; write at least 15s, or source: poll"
        )), "{faults:?}");
        assert!(claims(&format!("{{ {source}max_staleness: 15s }}")).is_empty());
    }
    assert!(claims("{ source: poll, refresh: 1s, max_staleness: 1s }").is_empty());
}

#[test]
fn wrong_admin_settings_are_refused() {
    let text = "providers: []\nadmin: { access: token, address: here, allowed_origins: ['*', 'https://a/b'], allowed_hosts: ['*.x'] }\n";
    assert_eq!(
        found(text),
        [
            "2:8: admin.token: access: token needs it; write token: env:GATEWAY_ADMIN_TOKEN and set that variable",
            "2:34: admin.address: takes an IP address and a port, such as 127.0.0.1:38100 or [::1]:38100; it holds \"here\"",
            "2:58: admin.allowed_origins[0]: takes an origin such as https://console.example.com; it holds \"*\"",
            "2:63: admin.allowed_origins[1]: takes an origin such as https://console.example.com; it holds \"https://a/b\"",
            "2:95: admin.allowed_hosts[0]: takes a host such as admin.example.com or admin.example.com:38101; it holds \"*.x\"",
        ]
    );
}

#[test]
fn seldom_meant_combinations_are_warned_of() {
    assert_eq!(
        found(
            "providers: [{ id: a, base_url: 'https://a' }]\nlisteners: [{ address: ':80' }]\ntrusted_proxies: [0.0.0.0/0]\n"
        ),
        [
            "1:12: warning: providers: no claim can ever be approved: there is neither control_plane.url nor a claim in claims.static",
            "2:12: warning: listeners: admin.on_data_port is on, and 0.0.0.0:80 is reached from other machines: /metrics and /api/admin are too; write on_data_port: false unless that is meant",
            "3:18: warning: trusted_proxies: trusts every peer, so that any client can forge where it comes from; name the proxies' networks",
        ]
    );
}

#[test]
fn fault_serializes_with_its_place() {
    let faults = load_with("mode: x\nproviders: []\n", &[("GATEWAY_ADDR", "y")]).unwrap_err();
    assert_eq!(
        serde_json::to_value(faults.all()).unwrap(),
        serde_json::json!([
            { "source": "file", "line": 1, "column": 7, "path": "mode", "kind": "error",
              "message": "takes managed, enterprise or oss-local; it holds \"x\"" },
            { "source": "environment", "line": null, "column": null, "path": "GATEWAY_ADDR", "kind": "error",
              "message": "takes an IP address and a port, such as 127.0.0.1:38100 or [::1]:38100; it holds \"y\"" },
        ])
    );
    assert_eq!(faults.all()[1].source, Source::Environment);
}

#[test]
fn values_in_sentences_are_cut_and_escaped() {
    let line = failures(&format!("mode: \"a\\n\\u202e{}\"\nproviders: []\n", "x".repeat(500))).remove(0);
    assert!(line.contains("it holds \"a\\n\\u{202e}x") && line.ends_with("…\""), "{line}");
    assert!(line.chars().count() < 200);
}
