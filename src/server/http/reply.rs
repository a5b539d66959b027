//! An HTTP answer and its bytes.

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    Bad,
    Forbidden,
    NotFound,
    NotAllowed,
    TooLarge,
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: Status,
    pub kind: &'static str,
    pub body: Vec<u8>,
    /// Only the headers are sent.
    pub is_head: bool,
}

/// Nothing may be loaded but what comes from here, and nothing of it may be shown elsewhere.
const HEADERS: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; \
    style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n";

impl Reply {
    pub fn new(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Reply { status: Status::Ok, kind, body: body.into(), is_head: false }
    }

    /// A line for people.
    pub fn text(status: Status, line: impl Into<String>) -> Self {
        let body = line.into() + "\n";
        Reply { status, ..Reply::new("text/plain; charset=utf-8", body) }
    }

    pub fn json(document: &Value) -> Self {
        Reply::new("application/json", document.to_string() + "\n")
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = format!(
            "HTTP/1.1 {}\r\n{HEADERS}Content-Type: {}\r\nContent-Length: {}\r\n",
            self.status.line(),
            self.kind,
            self.body.len()
        );
        if self.status == Status::NotAllowed {
            bytes.push_str("Allow: GET, HEAD\r\n");
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        if !self.is_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::Bad => "400 Bad Request",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::NotAllowed => "405 Method Not Allowed",
            Status::TooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}
