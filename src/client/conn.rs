//! The connection that programs use: the blocking loop around an [`Exchange`]; `fetch` reads.

mod fetch;

use super::call::{Answer, Call, Patience};
use super::cancel::{Canceller, Wait};
use super::clock::now_us;
use super::error::Error;
use super::exchange::{Config, Exchange};
use super::guard::Guard;
use super::lease::LeaseView;
use super::options::{Options, resolve};
use super::pace::{Kind, Pace};
use super::process::{describe, random};
use super::socket::{Burst, Socket};
use crate::limits::DATAGRAM_MAX;
use crate::protocol::Status;
use crate::types::FencingToken;
use crate::wire;
use std::borrow::Cow;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// What there is to say of a lock that was lost to an operator.
const REVOKED: &str = "an operator took the lock away and the section was discarded (not done)";
/// Datagrams taken in before looking at the clock again: a flood of noise delays no timeout.
const RECEIVE_BATCH: usize = 64;

/// A session with a server, or with several that act as one.
///
/// Calls block until they are answered; a call without any answer for the time of
/// [`Options::timeout`] gives up, and then the next call first finds out what became of it.
/// Waiting for the lock may take any time as long as a server answers.
///
/// A connection can move between threads, and serves one at a time. In a forked child every call
/// gives [`Error::NotOpen`]. Dropping a connection without [`Connection::close`] frees the socket
/// and says goodbye with a single datagram, without waiting: a held lock is given back with
/// nothing published, at the latest when its lease ends.
///
/// ```no_run
/// # fn main() -> Result<(), baton::Error> {
/// let mut connection = baton::Connection::connect("localhost:10000")?;
/// let token = connection.acquire()?;
/// connection.append("file_0", "hello world\n")?;
/// connection.release()?; // returns when the line is on stable storage
/// println!("written under token {token}");
/// connection.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connection {
    exchange: Exchange,
    /// None once closed.
    socket: Option<Arc<Socket>>,
    wait: Arc<Wait>,
    process: u32,
    pace: Pace,
    outgoing: Burst,
    incoming: Vec<u8>,
    message: Cow<'static, str>,
}

impl Connection {
    /// Registers a session with the first server that answers.
    ///
    /// `servers` lists hosts as `host[:port][,host[:port]…]`, names or IPv4 addresses; the port
    /// is 10000 where none is given.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the list is malformed or none of its hosts can be resolved,
    /// [`Error::Unavailable`] when no server answers in time, [`Error::Refused`] when the server
    /// has too many sessions, [`Error::System`] when there is no socket to be had.
    pub fn connect(servers: &str) -> Result<Connection, Error> {
        Connection::connect_with(servers, &Options::default())
    }

    /// As [`Connection::connect`], with other ports or another timeout.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), baton::Error> {
    /// use std::time::Duration;
    ///
    /// let options = baton::Options { timeout: Duration::from_secs(2), ..Default::default() };
    /// let mut connection = baton::Connection::connect_with("db1,db2:7000", &options)?;
    /// # connection.close()
    /// # }
    /// ```
    pub fn connect_with(servers: &str, options: &Options) -> Result<Connection, Error> {
        let servers = resolve(servers, options.default_port)?;
        let socket = Socket::open(options.source_port, options.spin)?;
        let exchange = Exchange::new(Config {
            servers,
            timeout_us: micros(options.timeout),
            client: describe(),
            nonce: random()?,
            seed: random()?,
        });
        let mut connection = Connection {
            exchange,
            socket: Some(Arc::new(socket)),
            wait: Arc::default(),
            process: std::process::id(),
            pace: Pace::default(),
            outgoing: Burst::default(),
            // One byte more than a datagram may have, so that a longer one is recognised.
            incoming: vec![0; DATAGRAM_MAX + 1],
            message: Cow::Borrowed(""),
        };
        connection.run(Call::Connect)?;
        connection.message = String::from_utf8_lossy(wire::CONNECTED);
        Ok(connection)
    }

    /// Takes the lock; blocks until it is granted. Returns the fencing token of the grant.
    /// When this connection holds the lock already, nothing changes.
    ///
    /// # Errors
    /// [`Error::LeaseExpired`] once when the lock was lost, with appends in it, since the last
    /// call: they are discarded, and the next acquire starts afresh.
    pub fn acquire(&mut self) -> Result<FencingToken, Error> {
        self.acquire_with(Patience::Forever)
    }

    /// Takes the lock if nobody holds it or waits for it; [`Error::WouldBlock`] otherwise.
    pub fn try_acquire(&mut self) -> Result<FencingToken, Error> {
        self.acquire_with(Patience::Try)
    }

    /// Takes the lock, waiting for it no longer than `timeout`; then [`Error::WouldBlock`], and
    /// the place in the queue is given up. A timeout of zero is [`Connection::try_acquire`].
    pub fn acquire_timeout(&mut self, timeout: Duration) -> Result<FencingToken, Error> {
        if timeout.is_zero() {
            return self.try_acquire();
        }
        self.acquire_with(Patience::Until(now_us().saturating_add(micros(timeout))))
    }

    fn acquire_with(&mut self, patience: Patience) -> Result<FencingToken, Error> {
        self.wait.begin();
        let answer = self.run(Call::Acquire(patience));
        self.wait.end();
        match answer? {
            Answer::Granted(token) => Ok(token),
            other => Err(Error::Internal(format!("an acquire was answered by {other:?}"))),
        }
    }

    /// Takes the lock as [`Connection::acquire`] does, as a value that gives it back.
    pub fn lock(&mut self) -> Result<Guard<'_>, Error> {
        let token = self.acquire()?;
        Ok(Guard::new(self, token))
    }

    /// Stages bytes for the end of a file. They become visible by [`Connection::release`]. Any
    /// length up to the server's limit for a section is one append.
    ///
    /// # Errors
    /// [`Error::FileNotFound`] when no data file has that name, [`Error::NotHolder`],
    /// [`Error::LeaseExpired`], [`Error::TooLarge`], [`Error::Refused`].
    pub fn append(&mut self, file: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<(), Error> {
        self.run(Call::Append { file: file.as_ref(), data: data.as_ref() }).map(drop)
    }

    /// Publishes what was appended since the grant, all at once, and gives the lock back. When
    /// this returns `Ok`, it is on stable storage.
    ///
    /// # Errors
    /// [`Error::NotHolder`], [`Error::LeaseExpired`]; [`Error::Refused`] when the server has no
    /// room, and then the lock is still held and the call can be made again.
    pub fn release(&mut self) -> Result<(), Error> {
        self.run(Call::Release).map(drop)
    }

    /// Discards what was appended since the grant and gives the lock back.
    pub fn abort(&mut self) -> Result<(), Error> {
        self.run(Call::Abort).map(drop)
    }

    /// Renews the lease. Every call made while the lock is held does so too.
    pub fn renew(&mut self) -> Result<(), Error> {
        self.run(Call::Renew).map(drop)
    }

    /// Ends the session. A held lock is released as by [`Connection::release`], publishing what
    /// was appended. The socket is freed whatever the result; every later call gives
    /// [`Error::NotOpen`].
    ///
    /// # Errors
    /// [`Error::TimedOut`] when no server answered: at the call's timeout when the lock may have
    /// been held, after at most two seconds otherwise. [`Error::LeaseExpired`] when the lock was
    /// lost with appends in it.
    pub fn close(&mut self) -> Result<(), Error> {
        let result = self.run(Call::Close).map(drop);
        if self.process == std::process::id() {
            self.socket = None;
        }
        if result.is_ok() {
            self.message = String::from_utf8_lossy(wire::DISCONNECTED);
        }
        result
    }

    /// The token under which this connection holds the lock, as far as it knows.
    pub fn fencing_token(&self) -> Option<FencingToken> {
        self.exchange.token()
    }

    /// How long the server surely keeps the lock for this connection; zero when it is not held.
    /// Beyond it the lock stays held until somebody else wants it.
    pub fn lease_remaining(&self) -> Duration {
        self.exchange.lease().remaining()
    }

    /// The token and the lease for other threads, which can look at them while a call blocks.
    pub fn watch(&self) -> Arc<LeaseView> {
        Arc::clone(self.exchange.lease())
    }

    /// Ends an acquire of this connection from another thread, which leaves the queue: so that a
    /// wait can be given up at any time.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), baton::Error> {
    /// let mut connection = baton::Connection::connect("localhost:10000")?;
    /// let canceller = connection.canceller();
    /// let waiting = std::thread::spawn(move || connection.acquire());
    /// canceller.cancel(); // whoever waits gets Error::WouldBlock
    /// # drop(waiting);
    /// # Ok(())
    /// # }
    /// ```
    pub fn canceller(&self) -> Canceller {
        self.wait.canceller(self.socket.as_ref().map(Arc::downgrade).unwrap_or_default())
    }

    /// What the server or the library last had to say, for people: "Connected!",
    /// "Disconnected!", "ok" or the text of an error.
    pub fn last_message(&self) -> &str {
        &self.message
    }

    /// The number that the server gave this session, greater than 0.
    pub fn client_id(&self) -> i32 {
        // Numbers beyond what the C struct can hold come round to small ones: it is for display.
        (self.exchange.client_id() & i32::MAX as u32) as i32
    }

    /// The socket's descriptor; -1 once closed. For looking, not for reading or writing.
    pub fn socket_fd(&self) -> i32 {
        self.socket.as_ref().map_or(-1, |socket| socket.raw_fd())
    }

    /// The server in use.
    pub fn send_addr(&self) -> SocketAddrV4 {
        self.exchange.server()
    }

    /// Where the last reply came from.
    pub fn recv_addr(&self) -> SocketAddrV4 {
        self.exchange.heard_from()
    }

    /// What the last read or look brought.
    pub(super) fn read_data(&self) -> &[u8] {
        self.exchange.read_data()
    }

    /// Makes one call: sends what the exchange wants sent and feeds it what comes, until the
    /// call has ended.
    pub(super) fn run(&mut self, call: Call<'_>) -> Result<Answer, Error> {
        if self.process != std::process::id() {
            return Err(Error::NotOpen);
        }
        let result = match &self.socket {
            None => Err(Error::NotOpen),
            Some(socket) => {
                let (kind, begun) = (Kind::of(&call), now_us());
                self.exchange.begin(call, begun);
                let buffers = (&mut self.outgoing, &mut self.incoming[..]);
                let is_quick = self.pace.is_quick(kind, socket.spin_us());
                let result = drive(&mut self.exchange, (socket, &self.wait), buffers, is_quick);
                self.pace.note(kind, now_us() - begun);
                result
            }
        };
        if let Err(Error::System(_)) = &result {
            self.exchange.break_off();
            // The descriptor is no socket of ours any more; it may be somebody else's by now.
            if let Some(socket) = self.socket.take() {
                Socket::disown(socket);
            }
        }
        self.message = match &result {
            Ok(_) => Cow::Borrowed(Status::Ok.text()),
            Err(Error::LeaseExpired) if self.exchange.is_revoked() => Cow::Borrowed(REVOKED),
            Err(error) => Cow::Owned(error.to_string()),
        };
        result
    }

    /// Says goodbye without waiting for an answer. Appends of a section that the program did not
    /// finish are not published.
    fn say_goodbye(&mut self) {
        let Some(socket) = &self.socket else { return };
        if self.process != std::process::id() || self.exchange.is_busy() {
            return;
        }
        let is_held = self.exchange.token().is_some();
        let now = now_us();
        self.exchange.begin(if is_held { Call::Abort } else { Call::Close }, now);
        if let Some(to) = self.exchange.poll_transmit(now, self.outgoing.next()) {
            self.outgoing.add(socket, to);
            self.outgoing.leave(socket);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}

fn drive(
    exchange: &mut Exchange,
    (socket, wait): (&Socket, &Wait),
    (outgoing, incoming): (&mut Burst, &mut [u8]),
    is_quick: bool,
) -> Result<Answer, Error> {
    loop {
        if wait.is_cancelled() {
            exchange.handle_cancel(now_us());
        }
        while let Some(to) = exchange.poll_transmit(now_us(), outgoing.next()) {
            outgoing.add(socket, to);
        }
        outgoing.leave(socket);
        if let Some(outcome) = exchange.poll_outcome() {
            return outcome;
        }
        // A call that has not ended has a time at which it gives up.
        let until_us = exchange.poll_timeout().unwrap_or(0);
        let mut received = socket.receive_until(until_us, incoming, is_quick)?;
        for _ in 0..RECEIVE_BATCH {
            let Some((len, from)) = received else { break };
            exchange.handle_datagram(now_us(), from, &incoming[..len]);
            if let Some(outcome) = exchange.poll_outcome() {
                return outcome;
            }
            received = socket.receive(incoming)?;
        }
        exchange.handle_timeout(now_us());
    }
}

fn micros(time: Duration) -> u64 {
    // Far enough ahead to never come, with room for adding to it.
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Connection>();
};
