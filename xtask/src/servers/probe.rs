//! Asks a server a question of its protocol: an open port does not mean that somebody answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long connecting, writing and reading may take, each.
const WAIT: Duration = Duration::from_secs(2);
/// Longest answer that is read. What is asked for takes less than 1 KiB.
const LONGEST: usize = 64 * 1024;

/// Whether Kafka at `address` (`IP:PORT`) knows of a broker that takes requests: a Metadata request, version 1, for no
/// topic.
pub(super) fn kafka(address: &str) -> io::Result<()> {
    const CORRELATION: [u8; 4] = [0, 0, 0, 7];
    let mut stream = connect(address)?;
    let mut request = vec![0, 0, 0, 14, 0, 3, 0, 1];
    request.extend(CORRELATION);
    request.extend([0xff, 0xff, 0, 0, 0, 0]); // no client id, no topics
    stream.write_all(&request)?;
    let length = read_length(&mut stream)?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    match answer.split_first_chunk::<4>() {
        Some((&CORRELATION, [0, 0, 0, brokers, ..])) if *brokers > 0 => Ok(()),
        Some((&CORRELATION, _)) => Err(io::Error::other("no broker is registered yet")),
        _ => Err(io::Error::other("what answers does not speak Kafka's protocol")),
    }
}

/// Whether a CQL server at `address` (`IP:PORT`) says what it supports: an OPTIONS frame, version 4.
pub(super) fn cql(address: &str) -> io::Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(&[4, 0, 0, 0, 5, 0, 0, 0, 0])?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    read_length(&mut stream)?;
    match head {
        [0x84, _, _, _, 6] => Ok(()),
        _ => Err(io::Error::other("what answers does not speak CQL")),
    }
}

/// Whether anybody at `address` (`IP:PORT`) takes connections: all that is asked of a server that speaks TLS only.
pub(super) fn anybody(address: &str) -> io::Result<()> {
    connect(address).map(drop)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(|_| io::Error::other(format!("{address:?} is not IP:PORT")))?;
    let stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    Ok(stream)
}

fn read_length(stream: &mut TcpStream) -> io::Result<usize> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    match usize::try_from(u32::from_be_bytes(length)) {
        Ok(length) if length <= LONGEST => Ok(length),
        _ => Err(io::Error::other("what answers speaks another protocol")),
    }
}
