//! A certificate authority for one server, and the certificate that it signs.

use std::fs;
use std::path::Path;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Writes `ca.pem` (the authority's certificate) and `server.pem` (key and certificates of a server on this machine, as
/// Kafka reads them from one file) into `folder`.
pub(super) fn write(folder: &Path) -> anyhow::Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "Postrider's test servers");
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    fs::write(folder.join("ca.pem"), &authority_pem)
        .and_then(|()| fs::write(folder.join("server.pem"), key.serialize_pem() + &certificate.pem() + &authority_pem))
        .with_context(|| format!("certificates can't be written to {}", folder.display()))
}
