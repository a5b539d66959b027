//! The story of a run, for people and for comparing runs: JSON lines, the same bytes for the same
//! seed on every machine. Nothing is collected unless it was asked for.

use super::network::Direction;
use std::fmt::Write;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Note {
    /// Virtual time in microseconds.
    pub at: u64,
    pub step: u64,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// The parameters of the run.
    Plan(String),
    /// A datagram was sent; `arrives` is empty when it is lost.
    Sent { client: usize, server: usize, direction: Direction, message: String, arrives: Vec<u64> },
    /// A datagram found nobody at home.
    Unheard { client: usize, server: usize, direction: Direction },
    /// A program called its library.
    Called { client: usize, call: String },
    /// The call ended.
    Returned { client: usize, call: String, result: String },
    /// The lock, as the server has it in memory.
    Holder { client: Option<usize>, token: u64, waiters: usize },
    /// The client's lease ended before anybody told it anything.
    LeaseOver { client: usize, token: u64 },
    /// Something happened to a client: crash, stall, return.
    Client { client: usize, what: &'static str },
    /// Something happened to the server.
    Server(String),
    /// Something happened to a server of a cluster.
    Member { server: usize, what: String },
    /// One server of a cluster tells another; `arrives` is None when it is lost.
    Told { from: usize, to: usize, message: &'static str, arrives: Option<u64> },
    /// A step of the disk.
    Disk(String),
    /// The weather and the like.
    World(String),
}

/// Collects notes, if at all.
#[derive(Debug, Default)]
pub struct Story {
    is_told: bool,
    pub notes: Vec<Note>,
    pub step: u64,
}

impl Story {
    pub fn new(is_told: bool) -> Story {
        Story { is_told, ..Story::default() }
    }

    pub fn is_told(&self) -> bool {
        self.is_told
    }

    /// Adds a note; `what` is only asked if somebody listens.
    pub fn tell(&mut self, at: u64, what: impl FnOnce() -> What) {
        if self.is_told {
            self.notes.push(Note { at, step: self.step, what: what() });
        }
    }

    /// When all faults ended.
    pub fn faults_end(&self) -> Option<u64> {
        let is_end = |note: &&Note| matches!(&note.what, What::World(what) if what == FAULTS_END);
        self.notes.iter().find(is_end).map(|note| note.at)
    }

    /// The whole story, one JSON object a line.
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        for note in &self.notes {
            text.push_str(&note.to_json());
            text.push('\n');
        }
        text
    }
}

impl Note {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        let mut line = format!("{{\"us\":{},\"step\":{}", self.at, self.step);
        let mut field = |name: &str, value: &dyn std::fmt::Display| {
            // A String takes everything.
            let _ = write!(line, ",\"{name}\":{value}");
        };
        match &self.what {
            What::Plan(plan) => field("plan", &quoted(plan)),
            What::Sent { client, server, direction, message, arrives } => {
                field("event", &quoted("sent"));
                field("client", client);
                field("server", server);
                field("direction", &quoted(direction.name()));
                field("message", &quoted(message));
                let arrives: Vec<_> = arrives.iter().map(u64::to_string).collect();
                field("arrives", &format!("[{}]", arrives.join(",")));
            }
            What::Unheard { client, server, direction } => {
                field("event", &quoted("unheard"));
                field("client", client);
                field("server", server);
                field("direction", &quoted(direction.name()));
            }
            What::Called { client, call } => {
                field("event", &quoted("called"));
                field("client", client);
                field("call", &quoted(call));
            }
            What::Returned { client, call, result } => {
                field("event", &quoted("returned"));
                field("client", client);
                field("call", &quoted(call));
                field("result", &quoted(result));
            }
            What::Holder { client, token, waiters } => {
                field("event", &quoted("holder"));
                match client {
                    Some(client) => field("client", client),
                    None => field("client", &"null"),
                }
                field("token", &quoted(&short(*token)));
                field("waiters", waiters);
            }
            What::LeaseOver { client, token } => {
                field("event", &quoted("lease over"));
                field("client", client);
                field("token", &quoted(&short(*token)));
            }
            What::Client { client, what } => {
                field("event", &quoted(what));
                field("client", client);
            }
            What::Server(what) => field("server", &quoted(what)),
            What::Member { server, what } => {
                field("event", &quoted(what));
                field("server", server);
            }
            What::Told { from, to, message, arrives } => {
                field("event", &quoted("told"));
                field("from", from);
                field("to", to);
                field("message", &quoted(message));
                match arrives {
                    Some(at) => field("arrives", at),
                    None => field("arrives", &"null"),
                }
            }
            What::Disk(what) => field("disk", &quoted(what)),
            What::World(what) => field("world", &quoted(what)),
        }
        line.push('}');
        line
    }
}

/// What the world tells then.
pub const FAULTS_END: &str = "all faults end";

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Direction::ToServer => "to server",
            Direction::ToClient => "to client",
        }
    }
}

/// A token for people: the start of the server it is from, and which it is of that start.
pub fn short(token: u64) -> String {
    let shift = crate::limits::EPOCH_SHIFT;
    format!("{}.{}", token >> shift, token & ((1 << shift) - 1))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
