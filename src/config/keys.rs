//! Every setting by name: what is not here is an unknown key.

/// The keys of each section. A section in a list stands under the list's name and `[]`.
pub(super) const KNOWN: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "mode",
            "data_dir",
            "identity",
            "listeners",
            "trusted_proxies",
            "admin",
            "control_plane",
            "verification",
            "replay",
            "vault",
            "rotation",
            "service_catalog",
            "limits",
            "providers",
            "claims",
            "telemetry",
            "shutdown",
        ],
    ),
    ("identity", &["namespace", "home"]),
    ("listeners[]", &["address", "tls", "proxy_protocol"]),
    ("listeners[].tls", &["certificates", "client_auth", "client_ca", "min_version"]),
    ("listeners[].tls.certificates[]", &["cert", "key"]),
    ("admin", &["address", "access", "token", "allowed_origins", "allowed_hosts", "on_data_port", "timeout"]),
    ("control_plane", &["url", "service_api_key", "auto_register_claims", "claims", "usage"]),
    ("control_plane.claims", &["source", "refresh", "max_staleness", "max_entries"]),
    ("verification", &["created_tolerance", "future_skew"]),
    ("replay", &["store", "window", "capacity", "url", "when_unavailable"]),
    ("vault", &["master_key", "passphrase", "anchor"]),
    ("rotation", &["enforcement", "grace"]),
    (
        "limits",
        &[
            "connections",
            "requests_in_flight",
            "header_bytes",
            "header_timeout",
            "body",
            "per_namespace",
            "claim_registrations_per_minute",
            "threads",
        ],
    ),
    ("limits.body", &["max", "window", "min_rate"]),
    ("limits.per_namespace", &["requests_per_second", "concurrent"]),
    (
        "providers[]",
        &[
            "id",
            "name",
            "protocol",
            "base_url",
            "endpoints",
            "path_prefix",
            "auth",
            "load_balancing",
            "health_check",
            "tls",
            "timeouts",
            "retries",
            "limits",
            "unverified_stream",
            "reflection",
            "rotation_interval_days",
            "allow_link_local",
            "status",
        ],
    ),
    ("providers[].auth", &["mode", "secret", "header", "prefix", "param", "user", "template"]),
    ("providers[].endpoints[]", &["url", "weight"]),
    ("providers[].health_check", &["path", "interval", "healthy", "unhealthy"]),
    ("providers[].tls", &["ca", "cert", "key", "server_name"]),
    ("providers[].timeouts", &["connect", "read", "total", "idle"]),
    ("providers[].retries", &["attempts", "budget_percent"]),
    ("providers[].limits", &["requests_per_second", "concurrent"]),
    ("providers[].reflection", &["headers", "body"]),
    ("claims", &["static"]),
    ("claims.static[]", &["namespace", "public_key", "services", "expires_at", "scopes"]),
    ("telemetry", &["log", "otlp"]),
    ("telemetry.log", &["format", "level", "proxy_requests", "identities"]),
    ("telemetry.otlp", &["endpoint"]),
    ("shutdown", &["drain"]),
];

/// The keys of the section at `path`, whose indices do not matter.
pub(super) fn of(path: &str) -> &'static [&'static str] {
    let path = without_indices(path);
    KNOWN.iter().find(|(section, _)| *section == path).map_or(&[], |(_, keys)| *keys)
}

/// The known name nearest to `wrong`, where one is near enough to have been meant.
pub(super) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if wrong.len() > LONGEST {
        return None;
    }
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(wrong.len()) / 3 + 1 && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `providers[2].auth` as `providers[].auth`.
pub(super) fn without_indices(path: &str) -> String {
    let mut bare = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        inside = inside && c != ']';
        if !inside {
            bare.push(c);
        }
        inside = inside || c == '[';
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_whatever_their_index() {
        assert_eq!(without_indices("providers[12].endpoints[0]"), "providers[].endpoints[]");
        assert_eq!(of("providers[12].endpoints[0]"), ["url", "weight"]);
    }

    #[test]
    fn nearest_name_is_offered_only_when_near() {
        assert_eq!(nearest("base_ulr", of("providers[]").iter().copied()), Some("base_url"));
        assert_eq!(nearest("adress", of("admin").iter().copied()), Some("address"));
        assert_eq!(nearest("qqqq", of("admin").iter().copied()), None);
        assert_eq!(nearest(&"a".repeat(65), ["a"]), None);
    }
}
