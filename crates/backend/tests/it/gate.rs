//! A way to a server that can be shut: what is sent then gets no answer.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Gate {
    address: String,
    shut: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// Opens a way to `server`.
    pub(crate) async fn open(server: &str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (shut, state) = watch::channel(false);
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                let Ok(outside) = TcpStream::connect(&server).await else { continue };
                let ((from_inside, to_inside), (from_outside, to_outside)) = (inside.into_split(), outside.into_split());
                tokio::spawn(pass(from_inside, to_outside, state.clone()));
                tokio::spawn(pass(from_outside, to_inside, state.clone()));
            }
        });
        Gate { address, shut: Arc::new(shut) }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn shut(&self) {
        self.shut.send_replace(true);
    }

    pub(crate) fn unshut(&self) {
        self.shut.send_replace(false);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut shut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if shut.wait_for(|shut| !shut).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
