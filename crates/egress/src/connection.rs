//! One connection, driven by the exchange that uses it.
//!
//! A client library's connection keeps a queue of requests and buffers of its own: some 20 KB that lie in memory for as
//! long as an endpoint takes to answer, for thousands of attempts at a time. Here there is the request, until it is
//! written, and what has come of the response.

use std::future;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::fault::Fault;
use crate::response::{Answered, Reading, Response, Step};
use crate::stream::Stream;

/// Read at a time, in bytes. Most responses are smaller.
const READ: usize = 4096;

/// A request as it goes onto the wire. Without `Debug`: an owner's header is often a credential.
pub(crate) struct Request {
    /// Request line and headers, with the empty line that ends them.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Bytes,
}

/// Nothing is spawned: whoever holds it drives it, and dropping it closes it.
pub(crate) struct Connection {
    stream: Stream,
    keeps: bool,
    _open: Open,
}

/// Why an exchange came to nothing.
pub(crate) enum Broken {
    /// The connection had ended before a byte of the request was written; here it is again.
    Unsent(Request),
    /// The receiver may have seen the request.
    Failed(Fault),
}

impl Connection {
    pub(crate) fn new(stream: Stream, open: Open) -> Connection {
        Connection { stream, keeps: true, _open: open }
    }

    /// Whether another request may follow, as far as the last response said.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Whether a request may be sent now. Whatever came unasked, its end included, makes a connection useless.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.keeps && self.stream.is_quiet()
    }

    /// Sends `request` and reads its response. Cancelled, it leaves the connection unusable.
    pub(crate) async fn exchange(&mut self, request: Request, reading: Reading) -> Result<Answered, Broken> {
        self.keeps = false;
        let sending = Sending::Writing { request, written: 0 };
        let mut exchange = Exchange { stream: &mut self.stream, sending, response: Response::new(reading) };
        let answered = future::poll_fn(|cx| exchange.poll(cx)).await;
        let Exchange { sending, response, .. } = exchange;
        match (answered, sending) {
            (Ok(()), sending) => {
                let (answered, keeps) = response.answered();
                self.keeps = keeps && matches!(sending, Sending::Sent);
                Ok(answered)
            }
            (Err(Stop::Unsent), Sending::Writing { request, .. }) => Err(Broken::Unsent(request)),
            (Err(Stop::Unsent), _) => Err(Broken::Failed(Fault::ended())),
            (Err(Stop::Failed(fault)), _) => Err(Broken::Failed(fault)),
        }
    }
}

/// A request and its response, each as far as it has come. Both go on at the same time: a receiver may answer, and stop
/// reading, before it has the whole request.
struct Exchange<'a> {
    stream: &'a mut Stream,
    sending: Sending,
    response: Response,
}

enum Sending {
    /// So many bytes of it are.
    Writing {
        request: Request,
        written: usize,
    },
    /// Written, and on its way through TLS.
    Flushing,
    Sent,
    /// The receiver takes no more of it; it may have answered before.
    Refused,
}

enum Stop {
    Unsent,
    Failed(Fault),
}

impl Exchange<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        self.send(cx)?;
        let mut space = [MaybeUninit::uninit(); READ];
        loop {
            let mut read = ReadBuf::uninit(&mut space);
            if let Err(error) = ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut read)) {
                return Poll::Ready(Err(Stop::Failed(Fault::exchanging(&error))));
            }
            if read.filled().is_empty() {
                return Poll::Ready(if self.response.ended() { Ok(()) } else { Err(Stop::Failed(Fault::ended())) });
            }
            match self.response.take(read.filled()) {
                Ok(Step::More) => {}
                Ok(Step::Whole) => return Poll::Ready(Ok(())),
                Err(malformed) => return Poll::Ready(Err(Stop::Failed(Fault::malformed(&malformed)))),
            }
        }
    }

    /// Sends as far as it goes. Errors: the connection had ended before.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), Stop> {
        let mut stream = Pin::new(&mut *self.stream);
        while let Sending::Writing { request: Request { head, body }, written } = &mut self.sending {
            let parts = [IoSlice::new(&head[(*written).min(head.len())..]), IoSlice::new(&body[written.saturating_sub(head.len())..])];
            match stream.as_mut().poll_write_vectored(cx, &parts) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(count)) if count > 0 => {
                    *written += count;
                    if *written == head.len() + body.len() {
                        self.sending = Sending::Flushing;
                    }
                }
                // Within TLS something may have been written all the same.
                Poll::Ready(_) if *written == 0 && stream.is_plain() => return Err(Stop::Unsent),
                Poll::Ready(_) => self.sending = Sending::Refused,
            }
        }
        if matches!(self.sending, Sending::Flushing)
            && let Poll::Ready(flushed) = stream.poll_flush(cx)
        {
            self.sending = if flushed.is_ok() { Sending::Sent } else { Sending::Refused };
        }
        Ok(())
    }
}

/// Counts one open connection for as long as it lives.
pub(crate) struct Open(Arc<AtomicUsize>);

impl Open {
    pub(crate) fn count(counter: &Arc<AtomicUsize>) -> Open {
        counter.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(counter))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_request_comes_back_where_not_a_byte_of_it_could_be_written() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        SockRef::from(&stream).shutdown(Shutdown::Write).unwrap();
        let mut connection = Connection::new(Stream::Plain(stream), Open::count(&Arc::default()));
        let request = Request { head: b"POST".to_vec(), body: Bytes::from_static(b"{}") };
        let Err(Broken::Unsent(back)) = connection.exchange(request, Reading::DELIVERY).await else { panic!("it was not given back") };
        assert_eq!((back.head.as_slice(), &back.body[..]), (b"POST".as_slice(), b"{}".as_slice()));
        assert!(!connection.is_idle());
    }
}
