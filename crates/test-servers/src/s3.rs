//! A real server of S3's protocol: Versity's gateway over a folder, which `cargo xtask test` builds.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::certificates::Certificates;

/// Longest that it takes to start.
const START: Duration = Duration::from_secs(60);

/// A server with one bucket, over TLS; ended when dropped.
pub struct S3 {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    certificates: Certificates,
}

impl S3 {
    /// The bucket's name.
    pub const BUCKET: &str = "artifacts";
    /// Who may use it.
    pub const KEY_ID: &str = "postrider-tests";
    /// Their key.
    pub const KEY: &str = "s3-key-0123456789";

    /// One that is empty.
    pub async fn start() -> S3 {
        let (folder, certificates) = (tempfile::tempdir().unwrap(), Certificates::new());
        for name in ["buckets/artifacts", "metadata"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = open(address, folder.path(), &certificates);
        let mut server = S3 { child, address, folder, certificates };
        server.until_up().await;
        server
    }

    /// Ends it, `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was, with what it has kept.
    pub async fn restart(&mut self) {
        self.child = open(self.address, self.folder.path(), &self.certificates);
        self.until_up().await;
    }

    /// For `blobs.endpoint`.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What vouches for it.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// How many objects there are whose names begin with `prefix`, a folder.
    pub fn count(&self, prefix: &str) -> usize {
        files(&self.folder.path().join("buckets").join(S3::BUCKET).join(prefix))
    }

    async fn until_up(&mut self) {
        let started = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            assert!(self.child.try_wait().unwrap().is_none() && started.elapsed() < START, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn open(address: SocketAddr, folder: &Path, certificates: &Certificates) -> Child {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-s3/versitygw");
    assert!(program.exists(), "{} is missing; `cargo xtask test` builds it", program.display());
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new(program)
        .arg(format!("--port={address}"))
        .args(["--access", S3::KEY_ID, "--secret", S3::KEY, "--quiet", "--keep-alive"])
        .arg("--cert")
        .arg(certificates.certificate())
        .arg("--key")
        .arg(certificates.key())
        .args(["posix", "--sidecar"])
        .arg(folder.join("metadata"))
        .arg(folder.join("buckets"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.map(|entry| entry.unwrap()).map(|entry| if entry.file_type().unwrap().is_dir() { files(&entry.path()) } else { 1 }).sum()
}
