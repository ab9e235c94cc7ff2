//! Where a cluster is and how to reach it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_core::secret::Secret;
use postrider_core::time::Millis;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::failure::ConnectError;

/// Longest name of a keyspace, in bytes; a limit of Cassandra.
const MAX_KEYSPACE: usize = 48;

/// Where a cluster of ScyllaDB or Cassandra is, and what it is used for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Some of its nodes, as `host:port`; the others are found through them.
    pub nodes: Vec<String>,
    /// The keyspace: lower-case letters, digits and `_`, a letter first.
    pub keyspace: String,
    /// Copies of every row in each data centre; used by [`super::migrate()`].
    pub replication_factor: u16,
    /// Who to log in as, where the cluster asks.
    pub login: Option<Login>,
    /// The certificate authority of the nodes' certificates, in PEM; turns on TLS. The certificates must name the
    /// nodes' IP addresses.
    pub ca: Option<PathBuf>,
    /// The data centre that this process is in; must be given where the cluster has several.
    pub datacenter: Option<String>,
    /// How long events, attempts and dead letters are kept. A change takes effect with the next [`super::migrate()`], for
    /// what is written from then on.
    pub retention: Millis,
    /// How long a job is kept after its last change.
    pub job_retention: Millis,
}

/// A user of the cluster.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

impl Options {
    /// Refuses what can't be the name of a keyspace; it becomes part of statements.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        let name = self.keyspace.as_bytes();
        let plain = name.iter().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !plain || name.len() > MAX_KEYSPACE || !name.first().is_some_and(u8::is_ascii_lowercase) {
            return Err(ConnectError::KeyspaceName { keyspace: self.keyspace.clone(), limit: MAX_KEYSPACE });
        }
        Ok(())
    }

    pub(super) fn retention_seconds(&self) -> u64 {
        self.retention.0 / 1000
    }

    /// In seconds. Servers take no more than 20 years.
    pub(super) fn job_ttl(&self) -> i32 {
        i32::try_from(self.job_retention.0 / 1000).unwrap_or(i32::MAX).clamp(1, 20 * 365 * 86_400)
    }
}

/// Trusts what the authority in `ca` has signed, and nothing else.
pub(super) fn tls(ca: &Path) -> Result<Arc<ClientConfig>, ConnectError> {
    let unusable = |reason: String| ConnectError::Ca { file: ca.to_owned(), reason };
    let pem = fs::read(ca).map_err(|error: io::Error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(keyspace: &str) -> Options {
        Options {
            nodes: vec!["127.0.0.1:9042".to_owned()],
            keyspace: keyspace.to_owned(),
            replication_factor: 3,
            login: Some(Login { user: "postrider".to_owned(), password: Secret::new("hunter2") }),
            ca: None,
            datacenter: None,
            retention: Millis::from_secs(86_400),
            job_retention: Millis::from_secs(86_400),
        }
    }

    #[test]
    fn a_keyspace_has_a_name_that_needs_no_quotes() {
        for name in ["postrider", "p2", "a_b"] {
            assert!(options(name).check().is_ok(), "{name}");
        }
        for name in ["", "2p", "_a", "Postrider", "a-b", "a;drop", "ä", &"a".repeat(49)] {
            assert!(options(name).check().is_err(), "{name}");
        }
    }

    #[test]
    fn the_password_never_shows() {
        assert!(!format!("{:?}", options("p")).contains("hunter2"));
    }

    #[test]
    fn a_file_that_is_no_authority_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        assert!(tls(&file).unwrap_err().to_string().contains("ca.pem"));
        fs::write(&file, "nothing of use").unwrap();
        assert!(tls(&file).unwrap_err().to_string().contains("holds no certificate"));
    }
}
