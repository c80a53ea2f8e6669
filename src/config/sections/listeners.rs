//! `listeners` and `trusted_proxies`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::socket_address;
use crate::config::reader::{Reader, Section};
use crate::config::sentence::holds;
use crate::config::tree::{Node, Place};
use crate::gateway::{ClientAuth, ListenerConfig, TlsConfig, TlsVersion};

const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 38_100);

/// Reads `listeners`; one on `127.0.0.1:38100`, plain, where there are none. `admin` is taken already.
pub(in crate::config) fn listeners(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    admin: SocketAddr,
) -> Vec<ListenerConfig> {
    let Some(items) = root.list(reader, "listeners", "listeners") else {
        return vec![ListenerConfig { address: DEFAULT, tls: None }];
    };
    if items.is_empty() {
        root.error(reader, "listeners", "has none; leave it out for 127.0.0.1:38100, or name one");
    }
    let mut seen: HashMap<SocketAddr, Place> = HashMap::new();
    let mut listeners = Vec::new();
    for (node, path) in items {
        let section = Section::open(reader, Some(node), path, node.place);
        let listener = listener(reader, &section);
        if listener.address.port() != 0 {
            let taken = seen.insert(listener.address, section.place_of("address"));
            if let Some(first) = taken {
                let message = format!("{} is listened on already, in {}", listener.address, first.named());
                section.error(reader, "address", message);
            } else if listener.address == admin {
                let message = format!("{admin} is the admin sidecar's address; take another port");
                section.error(reader, "address", message);
            }
        }
        listeners.push(listener);
    }
    listeners
}

fn listener(reader: &mut Reader<'_>, section: &Section<'_>) -> ListenerConfig {
    let address =
        section.parsed(reader, "address", "an IP address and a port", &socket_address).unwrap_or(DEFAULT);
    if section.flag(reader, "proxy_protocol") == Some(true) {
        section.not_yet(reader, "proxy_protocol", "the PROXY protocol; write false");
    }
    let tls = section.section(reader, "tls");
    let tls = if section.has("tls") { Some(listener_tls(reader, &tls)) } else { None };
    ListenerConfig { address, tls }
}

fn listener_tls(reader: &mut Reader<'_>, section: &Section<'_>) -> TlsConfig {
    let auth =
        [("none", ClientAuth::None), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
    let client_auth = section.choice(reader, "client_auth", &auth).unwrap_or_default();
    let client_ca = section.file(reader, "client_ca");
    match client_auth {
        ClientAuth::None if section.has("client_ca") && !section.has("client_auth") => {
            section.error(
                reader,
                "client_ca",
                "has no effect without client_auth; write client_auth: optional or required",
            );
        }
        ClientAuth::None if section.has("client_ca") => {
            section.error(reader, "client_ca", "has no effect with client_auth: none; leave one of them out");
        }
        ClientAuth::None => {}
        ClientAuth::Optional | ClientAuth::Required => {
            section.need(
                reader,
                "client_ca",
                "client_auth needs it: the CAs that sign clients' certificates",
            );
        }
    }
    TlsConfig {
        certificates: certificates(reader, section),
        client_auth,
        client_ca,
        min_version: section
            .choice(reader, "min_version", &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)])
            .unwrap_or_default(),
    }
}

fn certificates(reader: &mut Reader<'_>, tls: &Section<'_>) -> Vec<(PathBuf, PathBuf)> {
    tls.need(reader, "certificates", "TLS needs one at least: { cert: /path.pem, key: /path.pem }");
    let items = tls.list(reader, "certificates", "certificates");
    if items.as_ref().is_some_and(Vec::is_empty) {
        tls.error(reader, "certificates", "TLS needs one at least: { cert: /path.pem, key: /path.pem }");
    }
    let pair = |(node, path): (&Node, String)| {
        let section = Section::open(reader, Some(node), path, node.place);
        section.need(reader, "cert", "is needed: the PEM file of the chain");
        section.need(reader, "key", "is needed: the PEM file of the private key");
        let (cert, key) = (section.file(reader, "cert"), section.file(reader, "key"));
        cert.zip(key)
    };
    items.unwrap_or_default().into_iter().filter_map(pair).collect()
}

/// Reads `trusted_proxies`; a bare address is a network of one.
pub(in crate::config) fn trusted_proxies(reader: &mut Reader<'_>, root: &Section<'_>) -> Vec<IpNet> {
    const TAKES: &str = "a network such as 10.0.0.0/8";
    let nets = root.list_of(reader, "trusted_proxies", TAKES, &|text| {
        let one = text.parse::<IpAddr>().map(IpNet::from).ok();
        one.or_else(|| text.parse().ok()).ok_or_else(|| holds(TAKES, text))
    });
    if nets.iter().any(|net: &IpNet| net.prefix_len() == 0) {
        let message =
            "trusts every peer, so that any client can forge where it comes from; name the proxies' networks";
        root.warn(reader, "trusted_proxies", message);
    }
    nets
}
