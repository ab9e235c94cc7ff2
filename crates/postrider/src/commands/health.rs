//! `postrider health`: whether a server can work, for supervisors that run a command and look at its exit code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;

use crate::client::{block_on, cause};
use crate::failure::Failure;
use crate::output;

/// Longest wait for the whole answer; the server looks at nothing slow for it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What `health` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The server's address for operators (server.admin_listen).
    #[arg(long, value_name = "ADDRESS", env = "POSTRIDER__SERVER__ADMIN_LISTEN", default_value = "127.0.0.1:9464")]
    admin: SocketAddr,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    block_on(ask(reachable(args.admin)))
}

/// A server that listens on every address is asked on this machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

async fn ask(admin: SocketAddr) -> Result<(), Failure> {
    let url = format!("http://{admin}/readyz");
    let advice = "name the server's server.admin_listen with --admin";
    let unreachable = |error: reqwest::Error| Failure::Unreachable { url: url.clone(), reason: cause(&error), advice };
    let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().context("the HTTP client can't start")?;
    let response = http.get(&url).send().await.map_err(unreachable)?;
    let status = response.status();
    let text = response.text().await.map_err(unreachable)?;
    output::line(text.trim_end())?;
    if !status.is_success() {
        return Err(Failure::Failed(anyhow::anyhow!("{url} answers {status}: it is not ready")));
    }
    Ok(())
}
