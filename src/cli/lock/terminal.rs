//! The terminal on standard input: the command gets it while it runs in the foreground, so that
//! Ctrl-C, Ctrl-Z and reading from it work as if it had been started by the shell.

use nix::unistd::{Pid, getpgrp, isatty, tcgetpgrp, tcsetpgrp};
use std::io;

#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    own_group: Pid,
}

impl Terminal {
    /// None when standard input is no terminal that controls this process.
    pub(super) fn of_stdin() -> Option<Terminal> {
        let is_terminal = isatty(io::stdin()).unwrap_or(false) && tcgetpgrp(io::stdin()).is_ok();
        is_terminal.then(|| Terminal { own_group: getpgrp() })
    }

    /// Whether this process is in the foreground.
    pub(super) fn is_ours(&self) -> bool {
        tcgetpgrp(io::stdin()) == Ok(self.own_group)
    }

    /// Puts the command into the foreground.
    pub(super) fn give(&self, group: Pid) {
        // It fails when the terminal or the group is gone, and then there is nothing to do.
        let _ = tcsetpgrp(io::stdin(), group);
    }

    /// Puts this process into the foreground in place of the command.
    pub(super) fn take_back(&self, group: Pid) {
        if tcgetpgrp(io::stdin()) == Ok(group) {
            let _ = tcsetpgrp(io::stdin(), self.own_group);
        }
    }
}
