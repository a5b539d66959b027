//! A fault proxy: a relay for UDP datagrams between clients and a server that loses, repeats,
//! delays and reorders them, by chance from a seed or message by message from a script. It is
//! `baton proxy`, and the scenario tests run it as a library. docs/PROXY.md is its manual.
//!
//! [`faults::Core`] decides and is pure; `relay` has the sockets and the thread.
//!
//! ```no_run
//! use baton::proxy::{Faults, Proxy, Rates, Setup};
//!
//! let lossy = Rates { drop: 0.3, ..Rates::default() };
//! let proxy = Proxy::start(
//!     "127.0.0.1:0".parse().unwrap(),
//!     "127.0.0.1:10000".parse().unwrap(),
//!     Setup {
//!         faults: Faults { requests: lossy.clone(), replies: lossy },
//!         script: "hold reply granted of 1 until request release of 2".parse().unwrap(),
//!         seed: 7,
//!     },
//! )?;
//! println!("clients use {}", proxy.addr());
//! # std::io::Result::Ok(())
//! ```

pub mod census;
pub mod faults;
pub mod message;
pub(crate) mod random;
mod relay;
pub mod script;
mod stats;

pub use faults::{Faults, Rates};
pub use script::{Pattern, Script, ScriptError};
pub use stats::{Counts, Stats};

use faults::Core;
use relay::Relay;
use std::io::{self, Write};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a proxy does to the datagrams.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// By chance.
    pub faults: Faults,
    /// To particular messages.
    pub script: Script,
    /// Where chance starts from.
    pub seed: u64,
}

/// A running proxy; ends when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    addr: SocketAddrV4,
    wake: UnixStream,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Waits for one message to come to the proxy; made by [`Proxy::watch`].
pub struct Watch {
    shared: Arc<Shared>,
    id: usize,
}

/// What the relay's thread and the handles share.
struct Shared {
    core: Mutex<Core>,
    /// Told after every datagram.
    seen: Condvar,
    is_ending: AtomicBool,
    start: Instant,
}

impl Proxy {
    /// Listens for clients and relays to `target`.
    pub fn start(listen: SocketAddrV4, target: SocketAddrV4, setup: Setup) -> io::Result<Proxy> {
        let listener = UdpSocket::bind(listen)?;
        listener.set_nonblocking(true)?;
        let SocketAddr::V4(addr) = listener.local_addr()? else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(setup.faults, setup.script, setup.seed)),
            seen: Condvar::new(),
            is_ending: AtomicBool::new(false),
            start: Instant::now(),
        });
        let relay = Relay::new(shared.clone(), listener, target, woken);
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || relay.run())?;
        Ok(Proxy { shared, addr, wake, thread: Some(thread) })
    }

    /// Where clients reach the proxy.
    pub fn addr(&self) -> SocketAddrV4 {
        self.addr
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.shared.core().stats()
    }

    /// From now on these chances count.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.core().set_faults(faults);
    }

    /// From now on this script counts; what the earlier one kept back goes on at once.
    pub fn set_script(&self, script: Script) {
        self.shared.core().set_script(script, self.shared.now_us());
        self.wake();
    }

    /// Watches, from now on, for a message such as `reply queued of 2`.
    pub fn watch(&self, pattern: &str) -> Result<Watch, ScriptError> {
        let id = self.shared.core().watch(pattern.parse()?);
        Ok(Watch { shared: self.shared.clone(), id })
    }

    /// Ends the proxy; tells why, if it had ended by itself.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        self.shared.is_ending.store(true, Ordering::Release);
        self.wake();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the proxy's thread panicked")),
            None => Ok(()),
        }
    }

    fn wake(&self) {
        // If the pipe is full the relay wakes anyway.
        let _ = (&self.wake).write(&[1]);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        let _ = self.end();
    }
}

impl Watch {
    /// Whether the message has come.
    pub fn has_come(&self) -> bool {
        self.shared.core().has_seen(self.id)
    }

    /// Waits until the message comes; false if it did not in this time.
    pub fn wait(&self, limit: Duration) -> bool {
        let core = self.shared.core();
        let waited =
            self.shared.seen.wait_timeout_while(core, limit, |core| !core.has_seen(self.id));
        let (core, _) = waited.unwrap_or_else(PoisonError::into_inner);
        core.has_seen(self.id)
    }
}

impl Shared {
    /// The core; usable even after a panic elsewhere, since each change of it is complete.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

#[cfg(test)]
mod tests;
