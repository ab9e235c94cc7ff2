//! An authority of a test's own, and what it signs.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A certificate for this machine that only an authority of its own vouches for, as PEM files; gone when dropped.
pub struct Certificates(TempDir);

impl Certificates {
    /// New ones.
    pub fn new() -> Certificates {
        let certificates = Certificates(tempfile::tempdir().unwrap());
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "A test's own authority");
        let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        fs::write(certificates.authority(), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issuer = Issuer::new(authority, authority_key);
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        fs::write(certificates.certificate(), certificate.pem()).unwrap();
        fs::write(certificates.key(), key.serialize_pem()).unwrap();
        certificates
    }

    /// What a client must trust, such as `egress.extra_ca`.
    pub fn authority(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    /// The server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.0.path().join("server.pem")
    }

    /// The server's key.
    pub fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates::new()
    }
}
