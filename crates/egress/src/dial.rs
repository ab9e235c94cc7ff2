//! Making a connection to where a target says, if the guard permits.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use postrider_core::attempt::Failure;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::fault::{Deadline, Fault};
use crate::guard::Guard;
use crate::options::{EgressError, Options};
use crate::stream::Stream;
use crate::target::{Address, Place};
use crate::tls;

/// A name may have many addresses; more than these are not tried.
const MAX_ADDRESSES: usize = 8;

/// The longest a name that was not found is taken for missing, so that a mended name is soon found.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);

/// Looks up, checks, connects and shakes hands.
pub(crate) struct Dialer {
    guard: Guard,
    resolver: TokioResolver,
    tls: Arc<ClientConfig>,
}

impl Dialer {
    pub(crate) fn new(options: &Options) -> Result<Dialer, EgressError> {
        let unusable = |error: hickory_resolver::net::NetError| EgressError::Resolver { reason: error.to_string() };
        let mut resolver = TokioResolver::builder_tokio().map_err(unusable)?;
        let settings = resolver.options_mut();
        settings.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        settings.cache_size = options.max_cached_names;
        settings.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
        Ok(Dialer {
            guard: Guard::new(options.allow.clone()),
            resolver: resolver.build().map_err(unusable)?,
            tls: tls::client_config(options.extra_ca.as_deref())?,
        })
    }

    /// A new connection to `place`. `connect_timeout` is for TCP, over all its addresses; `deadline` for everything.
    pub(crate) async fn dial(&self, place: &Place, connect_timeout: Duration, deadline: Deadline) -> Result<Stream, Fault> {
        let addresses = self.permitted(place, deadline).await?;
        let stream = connect(&addresses, place.port, deadline.at_most(connect_timeout)).await?;
        match &place.tls {
            None => Ok(Stream::Plain(stream)),
            Some(name) => self.shake_hands(stream, name.clone(), deadline).await,
        }
    }

    /// The addresses of `place` that deliveries may reach; at least one.
    async fn permitted(&self, place: &Place, deadline: Deadline) -> Result<Vec<IpAddr>, Fault> {
        let all = match &place.host {
            Address::Literal(address) => vec![*address],
            Address::Name(name) => deadline.hold("the name was not looked up", self.look_up(name)).await??,
        };
        let permitted: Vec<IpAddr> = all.iter().copied().filter(|address| self.guard.permits(*address)).take(MAX_ADDRESSES).collect();
        if permitted.is_empty() {
            tracing::debug!(host = ?place.host, addresses = ?all, "refused: no address is permitted");
            return Err(Fault::forbidden());
        }
        Ok(permitted)
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Fault> {
        match self.resolver.lookup_ip(name).await {
            Ok(found) if found.iter().next().is_some() => Ok(found.iter().collect()),
            Ok(_) => Err(Fault::new(Failure::Dns, "the host name has no address")),
            Err(error) if error.is_no_records_found() => Err(Fault::new(Failure::Dns, "the host name has no address")),
            Err(error) => {
                // The error can name our name servers, so it is for the operator only.
                tracing::debug!(name, %error, "name look-up failed");
                Err(Fault::new(Failure::Dns, "the host name could not be looked up"))
            }
        }
    }

    async fn shake_hands(&self, stream: TcpStream, name: ServerName<'static>, deadline: Deadline) -> Result<Stream, Fault> {
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        match deadline.hold("no TLS handshake", handshake).await? {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(Fault::handshake(&error)),
        }
    }
}

/// Tries the addresses in turn; each may use an equal share of the time that is left.
async fn connect(addresses: &[IpAddr], port: u16, limit: Duration) -> Result<TcpStream, Fault> {
    let end = Instant::now() + limit;
    let mut last = Fault::new(Failure::Timeout, format!("no connection within {limit:?}"));
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let share = (end - now) / u32::try_from(addresses.len() - tried).expect("at most MAX_ADDRESSES");
        match timeout_at(now + share, open(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(%address, port, %error, "could not connect");
                last = Fault::connecting(&error);
            }
            Err(_) => last = Fault::new(Failure::Timeout, format!("no connection within {limit:?}")),
        }
    }
    Err(last)
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A request is written whole; holding its end back for an acknowledgement would only delay it.
    stream.set_nodelay(true)?;
    Ok(stream)
}
