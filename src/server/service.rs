//! The daemon as a service: the signals, the service manager, the watchdog. The main thread's life
//! once the server runs; it sleeps until a signal or, where a watchdog is set, its next look.

use super::ServerConfig;
use super::config::ConfigError;
use super::threads::Server;
use crate::limits::DATAGRAM_MAX;
use crate::protocol::{Op, Outcome, Request, Status};
use crate::types::{Attempt, FencingToken, LockId, RequestNumber, SessionId, Stamp};
use crate::wire;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use sd_notify::NotifyState;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::level_filters::LevelFilter;
use tracing::{error, info, warn};

/// What the server asks of the program around it.
pub struct Operator<'a> {
    /// Reads the configuration again.
    pub reread: &'a dyn Fn() -> Result<ServerConfig, ConfigError>,
    /// Traces from this level on.
    pub retrace: &'a dyn Fn(LevelFilter),
}

/// The signals that the main thread waits for.
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks them in this thread and in all that it starts.
    pub fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Signals { fd: SignalFd::new(&set)? })
    }

    /// Whether the server is to end, waiting so long for that; for a server that does not serve yet.
    /// The service manager does not wait for it: it cannot know how long that takes.
    pub fn is_ending(&self, patience: Duration) -> io::Result<bool> {
        notify(&[NotifyState::Ready, NotifyState::Watchdog]);
        let signal = self.wait(Some(patience))?;
        Ok(signal.is_some_and(|signal| signal != Signal::SIGHUP))
    }

    /// The next signal; none when there was none for that time.
    fn wait(&self, patience: Option<Duration>) -> io::Result<Option<Signal>> {
        let timeout = patience.map_or(PollTimeout::NONE, |patience| {
            PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let signal = self.fd.read_signal()?;
        Ok(signal.and_then(|signal| Signal::try_from(signal.ssi_signo as i32).ok()))
    }
}

/// Tells the service manager that the server is ready, and returns when it is to end.
pub fn run(
    server: &Arc<Server>,
    addr: SocketAddr,
    mut config: ServerConfig,
    operator: &Operator<'_>,
    signals: &Signals,
) -> io::Result<()> {
    notify(&[NotifyState::Ready]);
    let mut watchdog = sd_notify::watchdog_enabled().map(|limit| Watchdog::new(limit, addr));
    loop {
        match signals.wait(watchdog.as_ref().map(Watchdog::patience))? {
            None => {}
            Some(Signal::SIGHUP) => reload(server, &mut config, operator),
            Some(signal) => {
                info!(%signal, "stopping");
                notify(&[NotifyState::Stopping]);
                return Ok(());
            }
        }
        if let Some(watchdog) = &mut watchdog {
            watchdog.look_if_due();
        }
    }
}

/// Nobody may be listening; the server works all the same.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot reach the service manager");
    }
}

fn reload(server: &Arc<Server>, config: &mut ServerConfig, operator: &Operator<'_>) {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now().ok());
    notify(&states);
    match (operator.reread)() {
        Ok(newer) => {
            let changes = config.take_over(&newer);
            server.apply(config.settings());
            (operator.retrace)(config.trace);
            for change in &changes.made {
                info!(key = change.key, old = change.old, new = change.new, "setting changed");
            }
            for change in &changes.left {
                warn!(
                    key = change.key,
                    in_force = change.old,
                    asked = change.new,
                    "this setting changes only with a restart"
                );
            }
            info!(changed = changes.made.len(), left = changes.left.len(), "configuration reread");
        }
        Err(error) => error!(%error, "the configuration stays as it was"),
    }
    notify(&[NotifyState::Ready]);
}

/// Tells the service manager, as often as it wants, that the server serves: by asking it as a
/// client would. When no answer comes, or the answer is that the log has failed, it says nothing,
/// and the service manager starts the server anew.
struct Watchdog {
    addr: SocketAddr,
    every: Duration,
    due: Instant,
    asked: u64,
    is_silent: bool,
}

/// A lost question is asked again, this often, ...
const QUESTIONS: u32 = 3;
/// ... with this much of the interval between two looks for each.
const SHARE: u32 = 6;

impl Watchdog {
    fn new(limit: Duration, listen: SocketAddr) -> Self {
        let ip = match listen.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        let addr = SocketAddr::new(ip, listen.port());
        // Twice within the limit, and the time for an answer.
        let every = limit / 3;
        info!(seconds = limit.as_secs(), "the service manager's watchdog is on");
        Watchdog { addr, every, due: Instant::now(), asked: 0, is_silent: false }
    }

    fn patience(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    fn look_if_due(&mut self) {
        if self.due > Instant::now() {
            return;
        }
        self.due = Instant::now() + self.every;
        match self.is_serving() {
            Ok(()) => {
                if std::mem::take(&mut self.is_silent) {
                    info!("the server serves again");
                }
                notify(&[NotifyState::Watchdog]);
            }
            Err(why) => {
                self.is_silent = true;
                error!(%why, "not serving: the watchdog is not told otherwise");
            }
        }
    }

    fn is_serving(&mut self) -> io::Result<()> {
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))?;
        socket.set_read_timeout(Some((self.every / SHARE).max(Duration::from_millis(1))))?;
        socket.connect(self.addr)?;
        let mut error = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..QUESTIONS {
            self.asked += 1;
            match ask(&socket, self.asked) {
                Ok(()) => return Ok(()),
                Err(why) => error = why,
            }
        }
        Err(error)
    }
}

/// Asks in the name of a session that there cannot be, which is to be refused.
fn ask(socket: &UdpSocket, number: u64) -> io::Result<()> {
    let request = Request {
        session: SessionId(u64::MAX),
        number: RequestNumber(number),
        attempt: Attempt(1),
        after: Attempt(0),
        stamp: Stamp(number),
        token: FencingToken(0),
        lock: LockId(0),
        op: Op::Renew,
    };
    let mut bytes = Vec::new();
    wire::encode_request(&request, &mut bytes);
    socket.send(&bytes)?;
    let mut buffer = [0; DATAGRAM_MAX];
    loop {
        let len = socket.recv(&mut buffer)?;
        let Ok(reply) = wire::decode_reply(&buffer[..len]) else { continue };
        if reply.stamp != request.stamp {
            continue;
        }
        return match reply.outcome {
            Outcome::Refused { status: Status::Unavailable, .. } => {
                Err(io::Error::other("the server acknowledges nothing any more"))
            }
            _ => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Reason, Reply};

    /// What the watchdog finds where every question is answered so, or not at all.
    fn looked_at(outcome: Option<Outcome<'static>>) -> io::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut watchdog =
            Watchdog::new(Duration::from_millis(1_800), socket.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut buffer = [0; DATAGRAM_MAX];
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            let request = wire::decode_request(&buffer[..len]).unwrap();
            let Some(outcome) = outcome else { return };
            let mut bytes = Vec::new();
            for stamp in [Stamp(99), request.stamp] {
                let reply = Reply {
                    session: request.session,
                    number: request.number,
                    attempt: request.attempt,
                    stamp,
                    is_consumed: false,
                    outcome: outcome.clone(),
                };
                wire::encode_reply(&reply, &mut bytes);
                socket.send_to(&bytes, from).unwrap();
            }
        });
        let found = watchdog.is_serving();
        server.join().unwrap();
        found
    }

    #[test]
    fn only_a_server_that_can_acknowledge_serves() {
        let refused = |status, reason| Some(Outcome::Refused { status, reason });
        looked_at(refused(Status::SessionLost, Reason::None)).unwrap();
        looked_at(refused(Status::Unavailable, Reason::LogFailed)).unwrap_err();
        looked_at(None).unwrap_err();
    }
}
