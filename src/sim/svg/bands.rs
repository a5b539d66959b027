//! Bands on the lanes: who holds the lock, what clients have been told of that, when the server is
//! down.

use super::{BAND, Chart, color};
use crate::sim::story::{Note, What, short};
use std::collections::BTreeMap;
use std::fmt::Write;

impl Chart {
    fn band(&mut self, x: f64, (from, to): (u64, u64), client: usize, opacity: f64, text: &str) {
        if to < self.from || from > self.to {
            return;
        }
        let top = self.y(from.max(self.from));
        let height = (self.y(to.min(self.to)) - top).max(2.0);
        // A String takes everything.
        let _ = write!(
            self.below,
            "<rect x='{:.1}' y='{top:.1}' width='{BAND}' height='{height:.1}' fill='{}' \
             fill-opacity='{opacity}'><title>{text}</title></rect>",
            x - BAND / 2.0,
            color(client)
        );
    }

    /// Who holds the lock, on the server's lane; grey where there is no server.
    pub(super) fn bands(&mut self, notes: &[Note]) {
        let mut held: Option<(usize, u64, u64)> = None;
        let mut down: Option<u64> = None;
        let end = notes.last().map_or(0, |note| note.at);
        let x = self.server_x();
        for note in notes {
            let is_down = matches!(&note.what, What::Server(what) if what.starts_with("crashes"));
            let is_holder = matches!(note.what, What::Holder { .. });
            if (is_holder || is_down)
                && let Some((client, token, since)) = held.take()
            {
                let text = format!("client {client} holds the lock under {}", short(token));
                self.band(x, (since, note.at), client, 0.45, &text);
            }
            match &note.what {
                What::Holder { client: Some(client), token, .. } => {
                    held = Some((*client, *token, note.at));
                }
                What::Server(what) if what == "serves" => {
                    if let Some(since) = down.take() {
                        self.down(x, since, note.at);
                    }
                }
                What::Server(_) if is_down => {
                    // It may crash again before it serves.
                    down.get_or_insert(note.at);
                }
                _ => {}
            }
        }
        if let Some(since) = down {
            self.down(x, since, end);
        }
        if let Some((client, token, since)) = held {
            self.band(x, (since, end), client, 0.45, &short(token));
        }
    }

    fn down(&mut self, x: f64, from: u64, to: u64) {
        if to < self.from || from > self.to {
            return;
        }
        let (top, bottom) = (self.y(from.max(self.from)), self.y(to.min(self.to)));
        let _ = write!(
            self.below,
            "<rect x='{:.1}' y='{top:.1}' width='{BAND}' height='{:.1}' fill='url(#down)'/>",
            x - BAND / 2.0,
            (bottom - top).max(2.0)
        );
    }

    /// What clients have been told, on their lanes: from a grant to the end of what ends it.
    pub(super) fn client_bands(&mut self, notes: &[Note]) {
        let mut held: BTreeMap<usize, u64> = BTreeMap::new();
        let end = notes.last().map_or(0, |note| note.at);
        for note in notes {
            let (client, begins, ends) = match &note.what {
                What::Returned { client, call, result } => {
                    let is_over = matches!(
                        result.as_str(),
                        "LeaseExpired" | "SessionLost" | "NotHolder" | "WouldBlock"
                    );
                    let gives_back = matches!(call.as_str(), "release" | "abort" | "close");
                    (*client, result.starts_with("Granted"), is_over || gives_back)
                }
                What::Client { client, what: "crashes" } => (*client, false, true),
                _ => continue,
            };
            if begins {
                held.entry(client).or_insert(note.at);
            } else if ends && let Some(since) = held.remove(&client) {
                self.band(self.x(client), (since, note.at), client, 1.0, "has been told so");
            }
        }
        for (client, since) in held {
            self.band(self.x(client), (since, end), client, 1.0, "has been told so");
        }
    }
}
