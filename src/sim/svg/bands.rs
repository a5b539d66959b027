//! Bands on the lanes: who holds the lock, what clients have been told of that, when a server is down
//! and when it leads.

use super::{BAND, Chart, color};
use crate::sim::story::{Note, What, short};
use std::collections::BTreeMap;
use std::fmt::Write;

impl Chart {
    /// A band of this width, its middle at `x`.
    fn band(&mut self, x: f64, width: f64, (from, to): (u64, u64), fill: &str, text: &str) {
        if to < self.from || from > self.to {
            return;
        }
        let top = self.y(from.max(self.from));
        let height = (self.y(to.min(self.to)) - top).max(2.0);
        // A String takes everything.
        let _ = write!(
            self.below,
            "<rect x='{:.1}' y='{top:.1}' width='{width}' height='{height:.1}' {fill}>\
             <title>{text}</title></rect>",
            x - width / 2.0,
        );
    }

    /// Who holds the lock, on the lane of the server that leads; what servers are down, and when each
    /// leads.
    pub(super) fn server_bands(&mut self, notes: &[Note]) {
        let end = notes.last().map_or(0, |note| note.at);
        let mut held: Option<(usize, u64, u64)> = None;
        let mut leads: Option<(usize, u64)> = None;
        let mut down: BTreeMap<usize, u64> = BTreeMap::new();
        for note in notes {
            let (server, what) = match &note.what {
                What::Server(what) => (0, what.as_str()),
                What::Member { server, what } => (*server, what.as_str()),
                What::Holder { client, token, .. } => {
                    self.held(held.take(), leads, note.at);
                    held = client.map(|client| (client, *token, note.at));
                    continue;
                }
                _ => continue,
            };
            let is_leader = leads.is_none_or(|(leader, _)| leader == server);
            let begins = what.starts_with("leads");
            let ends = what.starts_with("crashes") || what.starts_with("stops");
            if begins || (ends && is_leader) {
                self.held(held, leads, note.at);
                // In a cluster the lock is held on while nobody leads.
                held = held.filter(|_| leads.is_some() || begins);
                held = held.map(|(client, token, _)| (client, token, note.at));
                self.leads(leads.take(), note.at);
                leads = begins.then_some((server, note.at));
            }
            if ends {
                // It may crash again before it serves.
                down.entry(server).or_insert(note.at);
            } else if (what == "serves" || (self.lanes.servers > 1 && what.starts_with("starts")))
                && let Some(since) = down.remove(&server)
            {
                self.down(server, (since, note.at));
            }
        }
        self.held(held, leads, end);
        self.leads(leads, end);
        down.into_iter().for_each(|(server, since)| self.down(server, (since, end)));
    }

    fn held(&mut self, held: Option<(usize, u64, u64)>, leads: Option<(usize, u64)>, to: u64) {
        let is_cluster = self.lanes.servers > 1;
        if let Some((client, token, since)) = held.filter(|_| leads.is_some() || !is_cluster) {
            let text = format!("client {client} holds the lock under {}", short(token));
            let x = self.lanes.server(leads.map_or(0, |(server, _)| server));
            let fill = format!("fill='{}' fill-opacity='{PALE}'", color(client));
            self.band(x, BAND, (since, to), &fill, &text);
        }
    }

    fn leads(&mut self, leads: Option<(usize, u64)>, to: u64) {
        if let Some((server, since)) = leads {
            let x = self.lanes.server(server) - BAND;
            self.band(x, 4.0, (since, to), "fill='#444'", "leads");
        }
    }

    fn down(&mut self, server: usize, time: (u64, u64)) {
        self.band(self.lanes.server(server), BAND, time, "fill='url(#down)'", "down");
    }

    /// What clients have been told, on their lanes: from a grant to the end of what ends it, pale once
    /// its lease is over.
    pub(super) fn client_bands(&mut self, notes: &[Note]) {
        let mut held: BTreeMap<usize, (u64, bool)> = BTreeMap::new();
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
                What::LeaseOver { client, .. } => {
                    if let Some((since, false)) = held.insert(*client, (note.at, true)) {
                        self.told(*client, (since, note.at), false);
                    }
                    continue;
                }
                _ => continue,
            };
            if begins {
                held.entry(client).or_insert((note.at, false));
            } else if ends && let Some((since, is_over)) = held.remove(&client) {
                self.told(client, (since, note.at), is_over);
            }
        }
        for (client, (since, is_over)) in held {
            self.told(client, (since, end), is_over);
        }
    }

    fn told(&mut self, client: usize, time: (u64, u64), is_over: bool) {
        let (opacity, text) = match is_over {
            true => (PALE, "its lease is over, and it does not know yet"),
            false => (1.0, "has been told so"),
        };
        let fill = format!("fill='{}' fill-opacity='{opacity}'", color(client));
        self.band(self.lanes.client(client), BAND, time, &fill, text);
    }
}

const PALE: f64 = 0.45;
