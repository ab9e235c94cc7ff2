//! Registers the endpoints of a run and removes them again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use postrider_core::secret::Secret;
use serde::Deserialize;
use serde_json::json;

use crate::endpoints::{EndpointNo, Endpoints};
use crate::receiver::Receiver;
use crate::server::Address;
use crate::wire::Message;

/// Requests at a time.
const AT_ONCE: usize = 16;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the server answers to a registration.
#[derive(Deserialize)]
struct Registered {
    id: String,
    secret: Secret,
}

/// The endpoints as the server knows them.
pub(crate) struct Registration {
    ids: Vec<String>,
}

impl Registration {
    /// Registers `endpoints` with the receiver at `receiver`, each for its own event type, and keeps their secrets.
    pub(crate) fn make(server: &Address, api_key: &str, receiver: SocketAddr, endpoints: &mut Endpoints) -> anyhow::Result<Registration> {
        let numbers: Vec<EndpointNo> = (0..endpoints.len() as u32).map(EndpointNo).collect();
        let registered = at_once(server, api_key, &numbers, |api, endpoint| {
            let body = json!({
                "url": Receiver::url(receiver, *endpoint),
                "events": [format!("load.e{}", endpoint.0)],
                "description": "load test",
            });
            let (status, body) = api.call("POST", "/v1/webhooks", &body.to_string())?;
            if status != 201 {
                bail!("registering an endpoint was answered {status}: {}", String::from_utf8_lossy(&body));
            }
            serde_json::from_slice::<Registered>(&body).context("the answer to a registration can't be read")
        })?;
        let (ids, secrets) = registered.into_iter().map(|Registered { id, secret }| (id, secret)).unzip();
        endpoints.set_secrets(secrets);
        Ok(Registration { ids })
    }

    /// Deletes the endpoints, so that a later run on the same server does not send to a receiver that is gone.
    pub(crate) fn remove(self, server: &Address, api_key: &str) -> anyhow::Result<()> {
        at_once(server, api_key, &self.ids, |api, id| {
            let (status, body) = api.call("DELETE", &format!("/v1/webhooks/{id}"), "")?;
            if !(200..300).contains(&status) {
                bail!("deleting endpoint {id} was answered {status}: {}", String::from_utf8_lossy(&body));
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Makes `call` for each of `items`, several at a time; gives what they gave, in order.
fn at_once<T: Sync, R: Send>(
    server: &Address,
    api_key: &str,
    items: &[T],
    call: impl Fn(&mut Api, &T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let share = items.len().div_ceil(AT_ONCE).max(1);
    let part = &|items: &[T]| {
        let mut api = Api::connect(server, api_key)?;
        items.iter().map(|item| call(&mut api, item)).collect::<anyhow::Result<Vec<R>>>()
    };
    let parts = thread::scope(|scope| {
        let threads: Vec<_> = items.chunks(share).map(|items| scope.spawn(move || part(items))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a part does not panic")).collect::<anyhow::Result<Vec<_>>>()
    })?;
    Ok(parts.into_iter().flatten().collect())
}

/// A connection for requests off the hot path.
struct Api {
    socket: TcpStream,
    head: String,
}

impl Api {
    fn connect(server: &Address, api_key: &str) -> anyhow::Result<Api> {
        let socket = TcpStream::connect_timeout(&server.socket, TIMEOUT).with_context(|| format!("cannot reach the server at {server}"))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        socket.set_nodelay(true)?;
        let head = format!("host: {}\r\nauthorization: Bearer {api_key}\r\ncontent-type: application/json\r\n", server.host);
        Ok(Api { socket, head })
    }

    /// Sends one request; gives status and body.
    fn call(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let request = format!("{method} {path} HTTP/1.1\r\n{}content-length: {}\r\n\r\n{body}", self.head, body.len());
        self.socket.write_all(request.as_bytes()).with_context(|| format!("cannot send {method} {path}"))?;
        let mut inbox = Vec::new();
        let mut part = [0; 4096];
        loop {
            if let Some(message) = Message::parse(&inbox)? {
                return Ok((message.status()?, message.body.into_owned()));
            }
            match self.socket.read(&mut part).with_context(|| format!("no answer to {method} {path}"))? {
                0 => bail!("the server ended the connection instead of answering {method} {path}"),
                count => inbox.extend_from_slice(&part[..count]),
            }
        }
    }
}
