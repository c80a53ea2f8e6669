//! What right configurations mean.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{KEY, load_with, provider, settings};
use crate::admin::Access;
use crate::claims::FeedSource;
use crate::clock::UnixTime;
use crate::config::{FaultKind, Mode, Settings, check};
use crate::connections::{Auth, BodyPolicy, LoadBalancing, Retries, SecretSource, Status, Timeouts};
use crate::gateway::{ClientAuth, Limits, TlsVersion};
use crate::policy::RotationEnforcement;
use crate::telemetry::LogFormat;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn everything_but_providers_has_a_default() {
    let settings = settings("providers: []\n");
    assert_eq!(settings.mode, Mode::OssLocal);
    assert_eq!(settings.data_dir, Path::new("/var/lib/sigilum-gateway"));
    assert_eq!(settings.gateway.listeners[0].address.to_string(), "127.0.0.1:38100");
    assert_eq!(settings.gateway.listeners[0].tls, None);
    assert_eq!(settings.gateway.freshness.created_tolerance, secs(300));
    assert_eq!(settings.gateway.freshness.future_skew, secs(30));
    assert_eq!(settings.gateway.limits, Limits::default());
    assert_eq!(settings.gateway.drain, secs(15));
    assert_eq!((settings.replay.window, settings.replay.capacity), (secs(600), 20_000_000));
    assert_eq!(settings.admin.address.to_string(), "127.0.0.1:38101");
    assert_eq!((settings.admin.access, settings.admin.timeout), (Access::Hybrid, secs(20)));
    assert!(settings.feed.is_none() && settings.registrar.is_none() && settings.static_claims.is_empty());
    assert_eq!((settings.log.format, settings.log.level), (LogFormat::Json, tracing::Level::INFO));
    assert!(settings.log_proxy_requests && !settings.log_identities_plain);
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

#[test]
fn mode_sets_defaults_that_can_be_overridden() {
    let on_data_port = |text: &str| settings(text).admin.on_data_port;
    assert!(on_data_port("mode: oss-local\nproviders: []\n"));
    assert!(!on_data_port("mode: enterprise\nproviders: []\n"));
    assert!(on_data_port("mode: enterprise\nproviders: []\nadmin: { on_data_port: true }\n"));
    let managed =
        "mode: managed\nproviders: []\ncontrol_plane: { url: 'https://x', service_api_key: env:K }\n";
    assert!(on_data_port(managed));
}

#[test]
fn vault_stands_in_the_data_directory_and_its_key_is_named_or_made() {
    let vault = |text: &str| {
        let settings = settings(&format!("data_dir: /d\nproviders: []\n{text}"));
        settings.vault.map(|vault| format!("{vault:?}"))
    };
    assert_eq!(vault("mode: enterprise\n"), None);
    for (text, parts) in [
        ("", [r#""/d/vault""#, r#"Generated("/d/vault.key")"#]),
        ("vault: { master_key: env:K, anchor: /a/anchor }\n", [r#"Key(Env("K"))"#, r#"Some("/a/anchor")"#]),
        (
            "vault: { master_key: 'command:/bin/key --id 7' }\n",
            [r#"Key(Command(["/bin/key", "--id", "7"]))"#, "None"],
        ),
        ("mode: enterprise\nvault: { passphrase: file:/p }\n", [r#"Passphrase(File("/p")"#, "None"]),
    ] {
        let shown = vault(text).unwrap();
        assert!(parts.iter().all(|part| shown.contains(part)), "{shown}");
    }
}

#[test]
fn rotation_has_a_rule_and_each_provider_its_interval() {
    let text = "\
rotation: { enforcement: block, grace: 7d }
providers: [{ id: a, base_url: 'https://a', rotation_interval_days: 90 }, { id: b, base_url: 'https://b' }]
";
    let settings = settings(text);
    assert_eq!(settings.gateway.rotation.enforcement, RotationEnforcement::Block);
    assert_eq!(settings.gateway.rotation.grace, secs(7 * 86_400));
    let days: Vec<_> =
        settings.connections.iter().map(|connection| connection.rotation_interval_days).collect();
    assert_eq!(days, [90, 0]);
}

#[test]
fn missing_master_key_is_an_error_of_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    std::fs::write(&file, "providers: []\nvault: { master_key: env:NO_KEY }\n").unwrap();
    let report = check(&file, &|_| None).to_string();
    assert!(report.contains("vault.master_key: the environment variable NO_KEY is not set here"), "{report}");
}

#[test]
fn data_directory_follows_the_environment() {
    let data_dir = |variables: &[(&str, &str)]| load_with("providers: []\n", variables).unwrap().data_dir;
    assert_eq!(data_dir(&[("HOME", "/home/a")]), Path::new("/home/a/.local/share/sigilum-gateway"));
    assert_eq!(data_dir(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "/d")]), Path::new("/d/sigilum-gateway"));
    assert_eq!(data_dir(&[("XDG_DATA_HOME", "relative")]), Path::new("/var/lib/sigilum-gateway"));
}

#[test]
fn auth_modes_become_what_is_injected() {
    let auth = |auth: &str| {
        let mut settings = settings(&provider(&format!("    auth: {auth}\n")));
        let connection = settings.connections.remove(0);
        (connection.auth, connection.secret.map(|secret| secret.to_string()))
    };
    let header = |name: &'static str, prefix: &str| Auth::Header {
        name: http::HeaderName::from_static(name),
        prefix: prefix.to_owned(),
    };
    let env = || Some("env:A".to_owned());
    assert_eq!(auth("{ mode: bearer, secret: env:A }"), (header("authorization", "Bearer "), env()));
    assert_eq!(auth("{ mode: bearer, secret: env:A, prefix: '' }"), (header("authorization", ""), env()));
    assert_eq!(auth("{ mode: header_key, secret: env:A, header: X-Key }"), (header("x-key", ""), env()));
    assert_eq!(
        auth("{ mode: query_param, secret: env:A }"),
        (Auth::Query { param: "api_key".into() }, env())
    );
    assert_eq!(auth("{ mode: basic, secret: env:A, user: u }"), (Auth::Basic { user: "u".into() }, env()));
    let template = "/bot{secret}".parse().unwrap();
    assert_eq!(auth("{ mode: path, secret: env:A, template: /bot }"), (Auth::Path { template }, env()));
    let stored = auth("{ mode: bearer, secret: store }");
    assert_eq!(stored, (header("authorization", "Bearer "), Some("store".to_owned())));
    assert_eq!(auth("{ mode: none }"), (Auth::None, None));
    assert_eq!(auth("~"), (Auth::None, None));
}

#[test]
fn provider_has_its_settings() {
    let text = "\
providers:
  - id: no
    endpoints: [{ url: 'https://a:8443/x/', weight: 3 }, { url: 'https://b:8443/x' }]
    path_prefix: /v1/
    load_balancing: consistent
    health_check: {}
    tls: { ca: ca.pem, cert: /c.pem, key: /k.pem, server_name: llm.internal }
    timeouts: { connect: 1s, read: 2s, total: 3s, idle: 4s }
    retries: { attempts: 1, budget_percent: 0 }
    limits: { requests_per_second: 200, concurrent: 0 }
    unverified_stream: refuse
    status: disabled
  - { id: b, base_url: 'https://b' }
";
    let settings = settings(text);
    let [first, second] = settings.connections.as_slice() else { panic!("{:?}", settings.connections) };
    assert_eq!((first.id.as_str(), first.name.as_str()), ("no", "no"));
    assert_eq!(first.endpoints[0].url.to_string(), "https://a:8443/x");
    assert_eq!((first.endpoints[0].weight, first.endpoints[1].weight), (3, 1));
    assert_eq!(first.path_prefix, "/v1");
    assert_eq!(first.load_balancing, LoadBalancing::Consistent);
    assert_eq!(first.health_check.as_ref().unwrap().path, "/health");
    assert_eq!(first.tls.ca.as_deref(), Some(Path::new("ca.pem")));
    assert_eq!(first.tls.client_cert, Some((PathBuf::from("/c.pem"), PathBuf::from("/k.pem"))));
    assert_eq!(first.tls.server_name.as_deref(), Some("llm.internal"));
    assert_eq!(
        first.timeouts,
        Timeouts { connect: secs(1), read: secs(2), total: Some(secs(3)), idle: secs(4) }
    );
    assert_eq!(first.retries, Retries { attempts: 1, budget_percent: 0 });
    assert_eq!((first.limits.requests_per_second, first.limits.concurrent), (NonZeroU32::new(200), None));
    assert_eq!((first.unverified_stream, first.status), (BodyPolicy::Refuse, Status::Disabled));
    assert_eq!((second.timeouts, second.retries), (Timeouts::default(), Retries::default()));
    assert_eq!(second.health_check, None);
}

#[test]
fn listener_has_its_tls() {
    let text = "\
listeners:
  - address: '[::1]:38443'
    tls:
      certificates: [{ cert: /a.pem, key: /a.key }, { cert: /b.pem, key: /b.key }]
      client_auth: optional
      client_ca: /ca.pem
      min_version: 1.3
trusted_proxies: [10.0.0.0/8, 192.0.2.7]
providers: []
";
    let gateway = settings(text).gateway;
    let tls = gateway.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates.len(), 2);
    assert_eq!((tls.client_auth, tls.min_version), (ClientAuth::Optional, TlsVersion::V1_3));
    assert_eq!(tls.client_ca.as_deref(), Some(Path::new("/ca.pem")));
    assert!(gateway.trusted_proxies[1].contains(&"192.0.2.7".parse::<std::net::IpAddr>().unwrap()));
    assert!(!gateway.trusted_proxies[1].contains(&"192.0.2.8".parse::<std::net::IpAddr>().unwrap()));
}

#[test]
fn static_claim_stands_for_each_of_its_services() {
    let text = format!(
        "\
providers: [{{ id: a, base_url: 'https://a' }}, {{ id: b, base_url: 'https://b' }}]
claims:
  static:
    - {{ namespace: demo, public_key: '{KEY}', services: [a, b], expires_at: 2027-01-01T00:00:00Z, scopes: [GET /v1/*] }}
    - {{ namespace: other, public_key: '{KEY}', services: [a], expires_at: null }}
"
    );
    let claims = settings(&text).static_claims;
    let ids: Vec<&str> = claims.iter().map(|claim| claim.id.as_str()).collect();
    assert_eq!(ids, ["static-0-a", "static-0-b", "static-1-a"]);
    assert_eq!(claims[0].expires_at, Some(UnixTime::from_secs(1_798_761_600)));
    assert!(claims[1].scopes.cover("GET", "/v1/x") && !claims[1].scopes.cover("POST", "/v1/x"));
    assert_eq!(claims[2].expires_at, None);
    assert!(claims[2].scopes.cover("POST", "/v1/x"));
}

#[test]
fn control_plane_gives_feed_and_registrar_as_wanted() {
    let of = |rest: &str| {
        let text = format!(
            "providers: [{{ id: a-b, base_url: 'https://a' }}]\ncontrol_plane: {{ url: 'https://x/y', service_api_key: env:K{rest} }}\n"
        );
        let settings = load_with(&text, &[]).unwrap();
        assert_eq!(settings.service_api_key, Some(SecretSource::Env("K".into())));
        (settings.feed, settings.registrar)
    };
    let (Some(feed), Some(registrar)) = of("") else {
        panic!("feed and registrar are both wanted by default")
    };
    assert_eq!(feed.url.as_str(), "https://x/y");
    assert_eq!((feed.refresh, feed.max_staleness, feed.max_entries), (secs(10), secs(3600), None));
    assert_eq!(feed.source, FeedSource::Auto);
    assert_eq!(registrar.per_minute.get(), 30);
    let (feed, registrar) = of(", auto_register_claims: false");
    assert!(feed.is_some() && registrar.is_none());
    for (word, source) in [("stream", FeedSource::Stream), ("poll", FeedSource::Poll)] {
        assert_eq!(of(&format!(", claims: {{ source: {word} }}")).0.unwrap().source, source);
    }
    let (feed, registrar) = of(", claims: { source: none }");
    assert!(feed.is_none() && registrar.is_some());
}

#[test]
fn relative_files_begin_at_the_files_directory() {
    let text = provider("    auth: { mode: bearer, secret: 'file:secrets/a' }\n");
    let settings = crate::config::load(&text, Path::new("/etc/sigilum/gateway.yaml"), &|_| None).unwrap();
    assert_eq!(settings.connections[0].secret, Some(SecretSource::File("/etc/sigilum/secrets/a".into())));
}

#[test]
fn defaults_need_no_file() {
    let variables = |name: &str| (name == "GATEWAY_ADDR").then(|| "127.0.0.1:9".to_owned());
    let settings = Settings::defaults(Mode::Enterprise, &variables).unwrap();
    assert_eq!(settings.mode, Mode::Enterprise);
    assert!(settings.connections.is_empty() && !settings.admin.on_data_port);
    assert_eq!(settings.gateway.listeners[0].address.port(), 9);
    let with_url = |name: &str| (name == "SIGILUM_REGISTRY_URL").then(|| "https://api.sigilum.id".to_owned());
    let managed = Settings::defaults(Mode::Managed, &with_url).unwrap();
    assert!(
        managed.vault.is_some(),
        "services' keys and connections that come over the admin API need a place"
    );
    assert!(managed.warnings.is_empty(), "{:?}", managed.warnings);
    let faults = Settings::defaults(Mode::Managed, &|_| None).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "defaults: control_plane.url: mode: managed needs it: the URL of the control plane"
    );
}

#[test]
fn check_looks_for_files_and_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    let text = "\
mode: enterprise
listeners: [{ address: '127.0.0.1:1', tls: { certificates: [{ cert: cert.pem, key: key.pem }] } }]
control_plane: { url: 'https://x', service_api_key: env:SET }
providers:
  - { id: a, base_url: 'https://a', auth: { mode: bearer, secret: env:UNSET } }
  - { id: b, base_url: 'https://b', auth: { mode: bearer, secret: 'file:gone' } }
";
    std::fs::write(&file, text).unwrap();
    std::fs::write(directory.path().join("cert.pem"), "").unwrap();
    let env = |name: &str| (name == "SET").then(|| "canary".to_owned());
    let report = check(&file, &env);
    let found: Vec<_> = report.faults.iter().map(|fault| (fault.path.as_str(), fault.kind)).collect();
    assert_eq!(
        found,
        [
            ("listeners[0].tls.certificates[0].key", FaultKind::Error),
            ("providers[0].auth.secret", FaultKind::Warning),
            ("providers[1].auth.secret", FaultKind::Warning),
        ]
    );
    assert!(!report.ok);
    assert!(report.to_string().ends_with("gateway.yaml: 1 fault, 2 warnings"), "{report}");
    std::fs::write(directory.path().join("key.pem"), "").unwrap();
    let report = check(&file, &env);
    assert!(report.ok);
    let last = report.to_string().lines().last().unwrap().to_owned();
    assert!(
        last.starts_with("[ok] ")
            && last.ends_with("enterprise, 1 listener, 2 providers, 0 static claims, 2 warnings"),
        "{last}"
    );
}

#[test]
fn file_that_cannot_be_read_is_a_fault_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let report = check(&directory.path().join("gone.yaml"), &|_| None);
    assert!(
        !report.ok && report.to_string().contains("gone.yaml: cannot be read: No such file or directory"),
        "{report}"
    );
    let latin = directory.path().join("latin.yaml");
    std::fs::write(&latin, b"mode: oss-local\nname: \xe4\n").unwrap();
    let report = check(&latin, &|_| None);
    assert!(report.to_string().contains("latin.yaml:2:7: is not UTF-8 here"), "{report}");
}

#[test]
fn claim_on_a_connection_of_the_admin_api_is_kept_where_there_is_a_vault() {
    let text = |mode: &str| {
        format!(
            "mode: {mode}\nproviders: []\nclaims:\n  static:\n    - {{ namespace: demo, public_key: '{KEY}', services: [stored] }}\n"
        )
    };
    let with_vault = settings(&text("oss-local"));
    assert_eq!(with_vault.static_claims.len(), 1);
    let [warning] = &with_vault.warnings[..] else { panic!("{:?}", with_vault.warnings) };
    assert_eq!(warning.path, "claims.static");
    assert!(warning.message.contains("no provider has the id stored;"), "{}", warning.message);
    let without = load_with(&text("enterprise"), &[]).unwrap_err().to_string();
    assert!(without.contains("no provider has the id stored; add it under providers"), "{without}");
}
