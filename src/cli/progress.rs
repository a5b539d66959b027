//! How far long work is, shown on a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Bytes done so far; shows nothing unless standard error is a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `total` is the number of bytes to be done, where it is known.
    pub(super) fn new(total: Option<u64>, done: &'static str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress::none();
        }
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let template = match total {
            Some(_) => "{bar:40} {bytes}/{total_bytes} {msg}, {eta} left",
            None => "{spinner} {bytes} {msg}, {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(done);
        Progress { bar }
    }

    /// Shows nothing.
    pub(super) fn none() -> Progress {
        Progress { bar: ProgressBar::hidden() }
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
