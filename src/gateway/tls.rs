//! TLS of a listener: certificates by SNI, client certificates, versions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pingora_core::listeners::tls::Acceptor;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::settings::{ClientAuth, TlsConfig, TlsVersion};

/// Why a listener's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFault {
    /// A PEM file that cannot be read or used.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// Client certificates are asked for without a CA to verify them by.
    #[error("client_auth needs client_ca: the CAs that sign clients' certificates")]
    NoClientCa,
    /// There is no certificate.
    #[error("a TLS listener needs at least one certificate with its key")]
    NoCertificate,
}

/// The acceptor of a TLS listener; HTTP/2 and HTTP/1.1 are offered.
pub(super) fn acceptor(config: &TlsConfig) -> Result<Acceptor, TlsFault> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(config.min_version))
        .map_err(|_| TlsFault::NoCertificate)?;
    let builder = match client_verifier(config, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::new(Certificates::load(config, &provider)?));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Acceptor::from_server_config(Arc::new(server)))
}

fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    const FROM_1_2: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    const FROM_1_3: &[&SupportedProtocolVersion] = &[&version::TLS13];
    match least {
        TlsVersion::V1_2 => FROM_1_2,
        TlsVersion::V1_3 => FROM_1_3,
    }
}

fn client_verifier(
    config: &TlsConfig,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>, TlsFault> {
    if config.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let path = config.client_ca.as_ref().ok_or(TlsFault::NoClientCa)?;
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| file_fault(path, &error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder =
        if config.client_auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map(Some).map_err(|error| file_fault(path, &error.to_string()))
}

/// Certificates by the name that the client asks for; the first one where none fits or none is asked for.
#[derive(Debug)]
struct Certificates {
    /// By names in lower case; `*.` stands for one label. Of several with one name the first counts.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl Certificates {
    fn load(config: &TlsConfig, provider: &rustls::crypto::CryptoProvider) -> Result<Self, TlsFault> {
        let mut by_name = HashMap::new();
        let mut default = None;
        for (cert, key) in &config.certificates {
            let certified = Arc::new(certified_key(cert, key, provider)?);
            for name in dns_names(&certified) {
                by_name.entry(name).or_insert_with(|| Arc::clone(&certified));
            }
            default.get_or_insert(certified);
        }
        default.map(|default| Self { by_name, default }).ok_or(TlsFault::NoCertificate)
    }

    fn named(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            let (_, domain) = name.split_once('.')?;
            self.by_name.get(&format!("*.{domain}"))
        })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named(name));
        Some(Arc::clone(named.unwrap_or(&self.default)))
    }
}

fn certified_key(
    cert: &Path,
    key: &Path,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<CertifiedKey, TlsFault> {
    let chain = chain(cert)?;
    let der = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| file_fault(key, &format!("no PEM private key: {error}")))?;
    CertifiedKey::from_der(chain, der, provider)
        .map_err(|error| file_fault(cert, &format!("the certificate and its key cannot be used: {error}")))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file_fault(path, &format!("no PEM certificates: {error}")))?;
    if chain.is_empty() { Err(file_fault(path, "it holds no PEM certificate")) } else { Ok(chain) }
}

fn file_fault(path: &Path, what: &str) -> TlsFault {
    TlsFault::File { path: path.to_owned(), what: what.to_owned() }
}

/// The names of a certificate (`subjectAltName`) in lower case.
fn dns_names(certified: &CertifiedKey) -> Vec<String> {
    let Some(der) = certified.cert.first() else { return Vec::new() };
    webpki::EndEntityCert::try_from(der)
        .map(|cert| cert.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}
