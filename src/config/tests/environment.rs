//! Variables that stand in for settings.

use std::time::Duration;

use super::{lines_with, load_with, provider};
use crate::admin::Access;
use crate::config::environment::{LATER, VARIABLES};
use crate::connections::SecretSource;

const EMPTY: &str = "providers: []\n";

#[test]
fn variables_override_the_file() {
    let text = "\
data_dir: /file
identity: { namespace: from-file, home: /file }
listeners: [{ address: '127.0.0.1:1' }, { address: '127.0.0.1:2' }]
admin: { access: loopback, token: env:OTHER, allowed_origins: ['https://a'], timeout: 1s }
control_plane: { url: 'https://file', service_api_key: env:OTHER, auto_register_claims: false }
replay: { window: 3600s }
providers: [{ id: a, base_url: 'https://a', timeouts: { read: 7s } }, { id: b, base_url: 'https://b' }]
";
    let variables = [
        ("GATEWAY_ADDR", ":8080"),
        ("GATEWAY_DATA_DIR", "/variable"),
        ("SIGILUM_API_URL", "https://second"),
        ("SIGILUM_REGISTRY_URL", "https://variable"),
        ("SIGILUM_SERVICE_API_KEY", "canary"),
        ("GATEWAY_SIGILUM_NAMESPACE", "variable"),
        ("SIGILUM_HOME", "/variable"),
        ("GATEWAY_ALLOWED_ORIGINS", "https://b:8443, https://C:443,"),
        ("GATEWAY_TRUSTED_PROXY_CIDRS", "10.0.0.0/8,::1"),
        ("GATEWAY_LOG_PROXY_REQUESTS", "0"),
        ("GATEWAY_AUTO_REGISTER_CLAIMS", "TRUE"),
        ("GATEWAY_ADMIN_ACCESS_MODE", "token"),
        ("GATEWAY_ADMIN_TOKEN", "canary"),
        ("GATEWAY_ADMIN_TIMEOUT_SECONDS", "9"),
        ("GATEWAY_MAX_REQUEST_BODY_BYTES", "4096"),
        ("SIGILUM_TIMESTAMP_TOLERANCE_SECONDS", "60"),
        ("SIGILUM_NONCE_TTL_SECONDS", "120"),
        ("GATEWAY_SHUTDOWN_TIMEOUT_SECONDS", "3"),
        ("GATEWAY_PROXY_TIMEOUT_SECONDS", "8"),
        ("GATEWAY_CLAIM_REGISTRATION_RATE_LIMIT_PER_MINUTE", "5"),
        ("GATEWAY_CLAIMS_CACHE_TTL_SECONDS", "30"),
        ("GATEWAY_CLAIMS_CACHE_REFRESH_SECONDS", "4"),
        ("GATEWAY_CLAIMS_CACHE_MAX_APPROVED", "1000"),
        ("GATEWAY_MASTER_KEY", "canary"),
        ("GATEWAY_SERVICE_CATALOG_FILE", "/services.json"),
        ("GATEWAY_ROTATION_ENFORCEMENT", "warn"),
        ("GATEWAY_ROTATION_GRACE_DAYS", "3"),
    ];
    let settings = load_with(text, &variables).unwrap();
    let secs = Duration::from_secs;
    let addresses: Vec<String> = settings.gateway.listeners.iter().map(|l| l.address.to_string()).collect();
    assert_eq!(addresses, ["0.0.0.0:8080", "127.0.0.1:2"]);
    assert_eq!(settings.data_dir.to_str(), Some("/variable"));
    assert_eq!(settings.identity.namespace.unwrap().as_str(), "variable");
    assert_eq!(settings.identity.home.unwrap().to_str(), Some("/variable"));
    assert_eq!(settings.admin.allowed_origins, ["https://b:8443", "https://c"]);
    assert_eq!((settings.admin.access, settings.admin.timeout), (Access::Token, secs(9)));
    assert_eq!(settings.admin.token, Some(SecretSource::Env("GATEWAY_ADMIN_TOKEN".into())));
    assert_eq!(settings.gateway.trusted_proxies.len(), 2);
    assert!(!settings.log_proxy_requests);
    assert_eq!(settings.gateway.limits.body_max_bytes, 4096);
    assert_eq!(settings.gateway.freshness.created_tolerance, secs(60));
    assert_eq!((settings.replay.window, settings.gateway.drain), (secs(120), secs(3)));
    assert!(format!("{:?}", settings.vault).contains(r#"Key(Env("GATEWAY_MASTER_KEY"))"#));
    assert_eq!(settings.service_catalog.unwrap().to_str(), Some("/services.json"));
    assert_eq!(settings.gateway.rotation.grace, secs(3 * 86_400));
    let reads: Vec<_> = settings.connections.iter().map(|connection| connection.timeouts.read).collect();
    assert_eq!(reads, [secs(7), secs(8)]);
    let feed = settings.feed.unwrap();
    assert_eq!(feed.url.as_str(), "https://variable/");
    assert_eq!(feed.service_api_key, Some(SecretSource::Env("SIGILUM_SERVICE_API_KEY".into())));
    assert_eq!((feed.max_staleness, feed.refresh, feed.max_entries), (secs(30), secs(4), Some(1000)));
    assert_eq!(settings.registrar.unwrap().per_minute.get(), 5);
}

#[test]
fn variable_that_does_not_parse_is_named_with_what_it_holds_and_takes() {
    for (name, value, sentence) in [
        (
            "GATEWAY_ADDR",
            "nowhere",
            "takes an IP address and a port, such as 127.0.0.1:38100 or [::1]:38100; it holds \"nowhere\"",
        ),
        (
            "SIGILUM_NONCE_TTL_SECONDS",
            "10m",
            "takes a whole number of seconds, such as 300; it holds \"10m\"",
        ),
        (
            "GATEWAY_MAX_REQUEST_BODY_BYTES",
            "1MiB",
            "takes a whole number of bytes, such as 1048576; it holds \"1MiB\"",
        ),
        ("GATEWAY_ROTATION_GRACE_DAYS", "7d", "takes a whole number of days, such as 7; it holds \"7d\""),
        ("GATEWAY_LOG_PROXY_REQUESTS", "maybe", "takes true or false; it holds \"maybe\""),
        ("GATEWAY_ADMIN_ACCESS_MODE", "open", "takes loopback, token or hybrid; it holds \"open\""),
        (
            "GATEWAY_TRUSTED_PROXY_CIDRS",
            "10.0.0.0/33",
            "takes a network such as 10.0.0.0/8; it holds \"10.0.0.0/33\"",
        ),
        (
            "GATEWAY_CLAIM_REGISTRATION_RATE_LIMIT_PER_MINUTE",
            "0",
            "takes a whole number from 1 to 1000000; it holds \"0\"",
        ),
        ("SIGILUM_API_URL", "https://user:canary@x", "takes a URL without user and password; leave it out"),
    ] {
        assert_eq!(lines_with(EMPTY, &[(name, value)]), [format!("environment: {name}: {sentence}")]);
    }
}

#[test]
fn value_of_the_file_is_held_to_its_form_where_a_variable_overrides_it() {
    let text = "providers: []\nadmin: { token: canary, address: 127.0.0.1:1 }\ntrusted_proxies: [here]\n";
    let variables = [("GATEWAY_ADMIN_TOKEN", "canary"), ("GATEWAY_TRUSTED_PROXY_CIDRS", "10.0.0.0/8")];
    let lines = lines_with(text, &variables);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("gateway.yaml:2:17: admin.token: a secret itself never stands here"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("gateway.yaml:3:19: trusted_proxies[0]: takes a network"), "{lines:?}");
    assert!(!lines.concat().contains("canary"));
}

#[test]
fn empty_variable_counts_as_not_set() {
    let all: Vec<(&str, &str)> = VARIABLES
        .iter()
        .map(|variable| variable.name)
        .chain(LATER.iter().copied())
        .map(|name| (name, " "))
        .collect();
    assert!(load_with(EMPTY, &all).unwrap().warnings.is_empty());
}

#[test]
fn wrong_timeout_for_all_providers_is_reported_once() {
    let text = "providers: [{ id: a, base_url: 'https://a' }, { id: b, base_url: 'https://b' }]\n";
    let lines = lines_with(text, &[("GATEWAY_PROXY_TIMEOUT_SECONDS", "0")]);
    let named =
        lines.iter().filter(|line| line.starts_with("environment: GATEWAY_PROXY_TIMEOUT_SECONDS: ")).count();
    assert_eq!(named, 1, "{lines:?}");
}

#[test]
fn variable_of_what_is_not_there_yet_is_warned_of() {
    for name in LATER {
        assert_eq!(
            lines_with(EMPTY, &[(name, "canary")]),
            [format!("environment: warning: {name}: not supported yet: the variable has no effect")]
        );
    }
}

#[test]
fn unsigned_proxy_is_refused_in_enterprise_mode() {
    let text = "mode: enterprise\nproviders: []\n";
    assert_eq!(
        lines_with(text, &[("GATEWAY_ALLOW_UNSIGNED_PROXY", "true")]),
        [
            "environment: GATEWAY_ALLOW_UNSIGNED_PROXY: is for development only and refused in mode enterprise; unset it"
        ]
    );
    assert!(load_with(text, &[("GATEWAY_ALLOW_UNSIGNED_PROXY", "false")]).unwrap().warnings.is_empty());
}

#[test]
fn something_wrong_in_the_way_of_a_variable_is_still_reported() {
    let text = "listeners: here\nlimits: [1]\nproviders: 5\n";
    let variables = [
        ("GATEWAY_ADDR", "127.0.0.1:1"),
        ("GATEWAY_MAX_REQUEST_BODY_BYTES", "1"),
        ("GATEWAY_PROXY_TIMEOUT_SECONDS", "1"),
    ];
    let lines = lines_with(text, &variables);
    assert!(lines[0].starts_with("gateway.yaml:1:12: listeners: takes a list of listeners"), "{lines:?}");
    assert!(lines[1].starts_with("gateway.yaml:2:9: limits: takes a mapping"), "{lines:?}");
    assert!(lines[2].starts_with("gateway.yaml:3:12: providers: takes a list of providers"), "{lines:?}");
}

#[test]
fn secret_of_a_variable_is_in_no_debug_text() {
    let text = provider("    auth: { mode: bearer, secret: env:OPENAI_API_KEY }\n");
    let variables = [
        ("OPENAI_API_KEY", "canary"),
        ("SIGILUM_SERVICE_API_KEY", "canary"),
        ("SIGILUM_SERVICE_API_KEY_A", "canary"),
        ("GATEWAY_ADMIN_TOKEN", "canary"),
        ("SIGILUM_API_URL", "https://x"),
    ];
    let settings = load_with(&text, &variables).unwrap();
    assert!(!format!("{settings:?}").contains("canary"));
}
