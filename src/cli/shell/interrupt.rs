//! Ctrl-C while a command of the shell runs: it ends a wait, not the shell.

use crate::client::Canceller;
use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What Ctrl-C is to end.
#[derive(Debug, Default)]
pub(super) struct Interrupt {
    state: Mutex<State>,
    pressed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_pressed: bool,
    /// The wait for the lock that is under way.
    canceller: Option<Canceller>,
}

impl Interrupt {
    /// Takes SIGINT for itself, in a thread that lives as long as the process.
    pub(super) fn listen() -> io::Result<Arc<Interrupt>> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.thread_block()?;
        let interrupt = Arc::<Interrupt>::default();
        let listener = Arc::clone(&interrupt);
        thread::Builder::new().name("interrupt".into()).spawn(move || {
            while signals.wait().is_ok() {
                listener.press();
            }
        })?;
        Ok(interrupt)
    }

    fn press(&self) {
        let mut state = self.state();
        state.is_pressed = true;
        if let Some(canceller) = &state.canceller {
            canceller.cancel();
        }
        self.pressed.notify_all();
    }

    /// Runs a wait for the lock that Ctrl-C ends.
    pub(super) fn around<T>(&self, canceller: Canceller, wait: impl FnOnce() -> T) -> T {
        self.state().canceller = Some(canceller);
        let result = wait();
        self.state().canceller = None;
        result
    }

    /// What was pressed so far ends nothing that begins now.
    pub(super) fn forget(&self) {
        self.state().is_pressed = false;
    }

    /// Sleeps until the time is over or Ctrl-C is pressed, or was since [`Interrupt::forget`].
    pub(super) fn sleep(&self, time: Duration) {
        drop(self.pressed.wait_timeout_while(self.state(), time, |state| !state.is_pressed));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
