//! Where the lanes are: servers in the middle, so that no arrow crosses more lanes than it must.

use super::color;
use crate::sim::story::{Note, What};
use std::fmt::Write;

pub(super) struct Lanes {
    pub clients: usize,
    pub servers: usize,
    /// Room for texts beside the outermost lanes.
    margins: (f64, f64),
    between: f64,
}

impl Lanes {
    pub fn of(notes: &[Note]) -> Lanes {
        let (mut clients, mut servers) = (1, 1);
        for note in notes {
            match &note.what {
                What::Sent { client, server, .. } => {
                    (clients, servers) = (clients.max(client + 1), servers.max(server + 1));
                }
                What::Member { server, .. } => servers = servers.max(server + 1),
                What::Told { from, to, .. } => servers = servers.max(1 + from.max(to)),
                _ => {}
            }
        }
        let between = if clients <= 4 { 290.0 } else { 220.0 };
        let mut lanes = Lanes { clients, servers, margins: (0.0, 0.0), between };
        let longest = |lane: usize| {
            let own = notes.iter().filter_map(|note| match &note.what {
                What::Called { client, call } if *client == lane => Some(call.len()),
                What::Returned { client, call, result } if *client == lane => {
                    Some(call.len() + super::brought(result).len() + 2)
                }
                What::LeaseOver { client, .. } if *client == lane => Some(20),
                What::Client { client, what } if *client == lane => Some(what.len()),
                _ => None,
            });
            own.max().unwrap_or(0) as f64 * LETTER + 24.0
        };
        let right = if clients > 1 { longest(clients - 1) } else { 220.0 };
        lanes.margins = (TIMES + longest(0).max(40.0), right.max(60.0));
        lanes
    }

    fn left(&self) -> usize {
        self.clients.div_ceil(2)
    }

    pub fn client(&self, client: usize) -> f64 {
        let left = self.left();
        if client < left {
            self.margins.0 + self.between * client as f64
        } else {
            self.server(self.servers - 1) + self.between * (client - left + 1) as f64
        }
    }

    pub fn server(&self, server: usize) -> f64 {
        self.margins.0 + self.between * self.left() as f64 + SERVERS * server as f64
    }

    /// Whether a client stands left of the servers.
    pub fn is_left(&self, x: f64) -> bool {
        x < self.server(0)
    }

    pub fn width(&self) -> f64 {
        let last = if self.clients > 1 { self.client(self.clients - 1) } else { self.server(0) };
        (last + self.margins.1).max(WIDTH_MIN)
    }

    /// The lanes with their names, from `top` to `bottom`.
    pub fn draw(&self, top: f64, bottom: f64) -> String {
        let mut text = String::new();
        let mut lane = |x: f64, name: String, fill: &str| {
            // A String takes everything.
            let _ = write!(
                text,
                "<line x1='{x:.1}' y1='{top}' x2='{x:.1}' y2='{bottom:.1}' stroke='#999'/>\
                 <rect x='{:.1}' y='{}' width='80' height='22' rx='4' fill='{fill}'/>\
                 <text x='{x:.1}' y='{}' class='name'>{name}</text>",
                x - 40.0,
                top - 40.0,
                top - 25.0
            );
        };
        for client in 0..self.clients {
            lane(self.client(client), format!("client {client}"), color(client));
        }
        for server in 0..self.servers {
            let number = if self.servers > 1 { format!(" {server}") } else { String::new() };
            lane(self.server(server), format!("server{number}"), "#444");
        }
        text
    }
}

/// Room for the times at the left.
const TIMES: f64 = 70.0;
/// Between two servers.
const SERVERS: f64 = 200.0;
/// Width of a letter, generously.
const LETTER: f64 = 5.8;
/// The legend needs as much.
const WIDTH_MIN: f64 = 980.0;
