//! A URL that deliveries may be sent to, with all that sending needs worked out once.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use http::header::HeaderValue;
use rustls::pki_types::ServerName;
use url::{Host, Url};

use crate::connection::Request;
use crate::headers::Headers;

/// The longest URL that is accepted, in bytes.
pub const MAX_URL: usize = 2048;

/// A checked URL; cheap to clone. Make it once per endpoint with [`check_url`].
#[derive(Clone)]
pub struct Target(Arc<Parts>);

struct Parts {
    origin: Origin,
    host: HeaderValue,
    /// Path and query, as they go onto the request line.
    path: Uri,
    /// The rest of the request line behind the method, and `host`.
    begin: Vec<u8>,
}

/// What is done at a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads, and sends no body.
    Get,
    /// As every delivery.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Deletes.
    Delete,
}

impl Method {
    /// Every method that there is.
    pub const ALL: [Method; 5] = [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];

    /// As it stands on the request line.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// What connections are kept by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(Arc<Place>);

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) host: Address,
    pub(crate) port: u16,
    /// The name that the receiver's certificate must bear; None for plain HTTP.
    pub(crate) tls: Option<ServerName<'static>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Literal(IpAddr),
    Name(String),
}

/// Why a URL can't be delivered to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Longer than [`MAX_URL`].
    #[error("the URL is longer than {MAX_URL} bytes")]
    TooLong,
    /// Not a URL.
    #[error("not a URL: {0}")]
    Unreadable(#[from] url::ParseError),
    /// Neither `http` nor `https`.
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    /// User name or password within the URL.
    #[error("the URL must not hold a user name or password; use a header instead")]
    UserInfo,
    /// No host, or one that is not a name.
    #[error("the URL has no usable host")]
    Host,
    /// Port 0.
    #[error("the URL's port can't be connected to")]
    Port,
    /// A path or query that can't stand on a request line.
    #[error("the URL's path or query has characters that must be percent-encoded")]
    Path,
}

/// Reads a URL to deliver to. A fragment is dropped: it is never sent (RFC 9110 section 7.1).
///
/// Where the URL leads is judged when sending, not here: a name can change its address at any time.
pub fn check_url(text: &str) -> Result<Target, UrlError> {
    if text.len() > MAX_URL {
        return Err(UrlError::TooLong);
    }
    let url = Url::parse(text)?;
    let secure = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(UrlError::Scheme),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::UserInfo);
    }
    let address = match url.host().ok_or(UrlError::Host)? {
        Host::Ipv4(address) => Address::Literal(address.into()),
        Host::Ipv6(address) => Address::Literal(address.into()),
        Host::Domain(name) => Address::Name(name.to_owned()),
    };
    let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(UrlError::Port)?;
    let tls = secure.then(|| server_name(&address)).transpose()?;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = HeaderValue::from_str(&host_header(&url)).map_err(|_| UrlError::Host)?;
    let path = Uri::try_from(path).map_err(|_| UrlError::Path)?;
    let mut begin = format!(" {path} HTTP/1.1\r\nhost: ").into_bytes();
    begin.extend_from_slice(host.as_bytes());
    begin.extend_from_slice(b"\r\n");
    Ok(Target(Arc::new(Parts { begin, host, path, origin: Origin(Arc::new(Place { host: address, port, tls })) })))
}

fn server_name(host: &Address) -> Result<ServerName<'static>, UrlError> {
    match host {
        Address::Literal(address) => Ok(ServerName::from(*address)),
        // A certificate never bears the dot that ends a fully qualified name.
        Address::Name(name) => ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned()).map_err(|_| UrlError::Host),
    }
}

/// Host, and port where it is not the scheme's own.
fn host_header(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

impl Target {
    pub(crate) fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The address that it names, where it names no host to look up.
    pub fn literal(&self) -> Option<IpAddr> {
        match &self.0.origin.0.host {
            Address::Literal(address) => Some(*address),
            Address::Name(_) => None,
        }
    }

    /// The request that sends `body` here.
    pub(crate) fn request(&self, method: Method, headers: &Headers, body: Bytes) -> Request {
        let end = match method {
            // It has no body, and says nothing of one (RFC 9110 section 8.6).
            Method::Get => "\r\n".to_owned(),
            Method::Post | Method::Put | Method::Patch | Method::Delete => format!("content-length: {}\r\n\r\n", body.len()),
        };
        Request { head: [method.name().as_bytes(), &self.0.begin, headers.lines(), end.as_bytes()].concat(), body }
    }
}

impl Origin {
    pub(crate) fn place(&self) -> &Place {
        &self.0
    }
}

impl fmt::Debug for Target {
    /// Like its display.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Target {
    /// Host and path, for logs; a query is often a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", String::from_utf8_lossy(self.0.host.as_bytes()), self.0.path.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> IpAddr {
        match &check_url(text).unwrap().origin().place().host {
            Address::Literal(address) => *address,
            Address::Name(name) => panic!("{text} became the name {name}"),
        }
    }

    #[test]
    fn what_sending_needs_is_worked_out() {
        let target = check_url("https://Example.com./hook/é?a=b c#part").unwrap();
        assert_eq!(target.0.host, "example.com.");
        assert_eq!(target.0.path, "/hook/%C3%A9?a=b%20c");
        assert_eq!(target.origin().place().port, 443);
        assert_eq!(target.origin().place().tls, Some("example.com".try_into().unwrap()));

        let target = check_url("http://[2606:4700::1]:8080").unwrap();
        assert_eq!(target.0.host, "[2606:4700::1]:8080");
        assert_eq!(target.0.path, "/");
        assert_eq!(target.origin().place().tls, None);
    }

    #[test]
    fn odd_forms_of_addresses_are_read_as_the_addresses_they_are() {
        for text in ["http://2130706433/", "http://0x7f.1", "http://0177.0.0.1", "http://127.1/", "http://１２７.0.0.1"] {
            assert_eq!(literal(text), "127.0.0.1".parse::<IpAddr>().unwrap(), "{text}");
        }
        assert_eq!(literal("http://[::ffff:10.0.0.1]/"), "::ffff:10.0.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn urls_that_differ_only_in_their_path_share_connections() {
        let origin = |text| check_url(text).unwrap().origin().clone();
        assert_eq!(origin("https://a.example/1"), origin("https://A.example:443/2"));
        assert_ne!(origin("https://a.example/"), origin("http://a.example:443/"));
        assert_ne!(origin("https://a.example/"), origin("https://a.example:444/"));
    }

    #[test]
    fn urls_that_cannot_be_delivered_to_are_refused() {
        let long = format!("http://a.example/{}", "x".repeat(MAX_URL));
        for (text, error) in [
            ("ftp://a.example/", UrlError::Scheme),
            ("javascript:alert(1)", UrlError::Scheme),
            ("http://user@a.example/", UrlError::UserInfo),
            ("http://:secret@a.example/", UrlError::UserInfo),
            ("http://a.example:0/", UrlError::Port),
            ("http://", UrlError::Unreadable(url::ParseError::EmptyHost)),
            ("http://a.example:70000/", UrlError::Unreadable(url::ParseError::InvalidPort)),
            ("a.example/hook", UrlError::Unreadable(url::ParseError::RelativeUrlWithoutBase)),
            ("https://a..example/", UrlError::Host),
            (&long, UrlError::TooLong),
        ] {
            assert_eq!(check_url(text).map(|_| ()), Err(error), "{text}");
        }
    }

    #[test]
    fn a_request_is_framed_by_its_target() {
        let headers = Headers::of_owner([("x-mine", "1")]);
        let request = check_url("http://a.example/b?c").unwrap().request(Method::Post, &headers, Bytes::from_static(b"{}"));
        let head = "POST /b?c HTTP/1.1\r\nhost: a.example\r\nx-mine: 1\r\ncontent-length: 2\r\n\r\n";
        assert_eq!((request.head, &request.body[..]), (head.into(), b"{}".as_slice()));
        let request = check_url("http://a.example/b?c").unwrap().request(Method::Get, &headers, Bytes::new());
        assert_eq!(request.head, b"GET /b?c HTTP/1.1\r\nhost: a.example\r\nx-mine: 1\r\n\r\n");
    }
}
