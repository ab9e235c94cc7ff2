//! The receivers of the demo and their endpoints.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use hyper::StatusCode;
use postrider_core::pattern::Pattern;
use postrider_core::secret::Secret;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::client::{Client, Endpoint};
use crate::failure::Failure;
use crate::receiver::{Arrival, Behaviour, Failing, Receiver};

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    /// Answers at once.
    Healthy,
    /// Fails one delivery in three at its first attempt.
    Flaky,
    /// Takes its time.
    Slow,
    /// Refuses connections.
    Dead,
}

/// In the order in which they are shown.
pub(crate) const TEMPERS: [Temper; 4] = [Temper::Healthy, Temper::Flaky, Temper::Slow, Temper::Dead];

/// A receiver, registered as an endpoint.
pub(crate) struct Member {
    /// How it behaves.
    pub(crate) temper: Temper,
    /// The events it wants.
    pub(crate) events: Vec<Pattern>,
    /// Its endpoint's id.
    pub(crate) endpoint: String,
    /// The port it listens on; the dead one on none.
    pub(crate) port: u16,
    receiver: Option<Receiver>,
    /// Held without listening, so that nothing else takes the port that refuses.
    _refusing: Option<socket2::Socket>,
}

impl Temper {
    /// A word for tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Temper::Healthy => "healthy",
            Temper::Flaky => "flaky",
            Temper::Slow => "slow",
            Temper::Dead => "dead",
        }
    }

    /// The events it wants. The dead one's are so few that its breaker, which needs ten attempts to judge, lets all of
    /// them run through their schedule within the demo.
    fn events(self) -> &'static [&'static str] {
        match self {
            Temper::Healthy => &["*"],
            Temper::Flaky => &["order.*", "payment.*", "stock.*"],
            Temper::Slow => &["batch.*", "generation.*", "persona.*"],
            Temper::Dead => &["usage.limit_exceeded"],
        }
    }

    /// The retry schedule; the default where none is named.
    fn schedule(self) -> Option<[u32; 2]> {
        match self {
            Temper::Healthy | Temper::Flaky | Temper::Slow => None,
            Temper::Dead => Some([1, 1]),
        }
    }

    fn behaviour(self, secret: &Secret) -> Option<Behaviour> {
        let (delay, failing) = match self {
            Temper::Healthy => (0, Failing::Never),
            Temper::Flaky => (0, Failing::FirstAttempts { one_in: 3 }),
            Temper::Slow => (400, Failing::Never),
            Temper::Dead => return None,
        };
        Some(Behaviour { secret: Some(secret.clone()), delay: Duration::from_millis(delay), status: StatusCode::OK, failing })
    }
}

impl Member {
    /// Starts the receiver and registers it.
    pub(crate) async fn join(temper: Temper, client: &Client, arrivals: mpsc::Sender<Arrival>) -> Result<Member, Failure> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("the system has no randomness to make a secret from")?;
        let secret = Secret::from_random(bytes);
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (receiver, refusing, address) = match temper.behaviour(&secret) {
            Some(behaviour) => {
                let receiver = Receiver::start(anywhere, behaviour, arrivals).await.context("a receiver can't listen")?;
                let address = receiver.address();
                (Some(receiver), None, address)
            }
            None => {
                let (socket, address) = refusing(anywhere).context("no port can be held")?;
                (None, Some(socket), address)
            }
        };
        let body = json!({
            "url": format!("http://{address}/{}", temper.name()),
            "events": temper.events(),
            "secret": secret.reveal(),
            "description": format!("the demo's {} receiver", temper.name()),
            "retry": temper.schedule().map_or(Value::Null, |schedule| json!({ "schedule": schedule })),
        });
        let endpoint: Endpoint = client.post(&["v1", "webhooks"], &body).await?;
        let events = temper.events().iter().map(|text| text.parse().expect("the patterns above are patterns")).collect();
        Ok(Member { temper, events, endpoint: endpoint.id, port: address.port(), receiver, _refusing: refusing })
    }

    /// Stops receiving.
    pub(crate) async fn leave(self) {
        if let Some(receiver) = self.receiver {
            receiver.stop().await;
        }
    }
}

/// A port of this machine that is taken and refuses connections.
fn refusing(address: SocketAddr) -> std::io::Result<(socket2::Socket, SocketAddr)> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().expect("bound to an internet address");
    Ok((socket, bound))
}
