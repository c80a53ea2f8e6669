//! Certificates and keys of an upstream's TLS, read and proven readable before Pingora has them.

use std::path::PathBuf;
use std::sync::Arc;

use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A PEM file of a connection that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct UpstreamFileFault {
    path: PathBuf,
    what: &'static str,
}

/// The CAs of a PEM file, for Pingora.
pub(super) fn authorities(path: &PathBuf) -> Result<Arc<CaType>, UpstreamFileFault> {
    let certificates = certificates(path)?;
    let wrapped: Vec<WrappedX509> =
        certificates.into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect();
    Ok(Arc::from(wrapped))
}

/// The certificates of a PEM file in DER, each of them readable.
fn certificates(path: &PathBuf) -> Result<Vec<Vec<u8>>, UpstreamFileFault> {
    let fault = |what| UpstreamFileFault { path: path.clone(), what };
    let parsed: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let parsed = parsed.map_err(|_| fault("cannot be read as PEM certificates"))?;
    if parsed.is_empty() {
        return Err(fault("holds no PEM certificate"));
    }
    for der in &parsed {
        // Pingora's own parser panics at what it cannot read.
        let readable = std::panic::catch_unwind(|| WrappedX509::new(der.to_vec(), parse_x509)).is_ok();
        if !readable || rustls::server::ParsedCertificate::try_from(der).is_err() {
            return Err(fault("holds a certificate that cannot be parsed"));
        }
    }
    Ok(parsed.into_iter().map(|der| der.to_vec()).collect())
}

/// A client certificate's chain and key, for Pingora.
pub(super) fn client_certificate(
    (chain, key): &(PathBuf, PathBuf),
) -> Result<Arc<CertKey>, UpstreamFileFault> {
    let chain = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|_| UpstreamFileFault { path: key.clone(), what: "holds no PEM private key" })?;
    Ok(Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
}
