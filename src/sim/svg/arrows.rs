//! Arrows: datagrams between clients and servers, and what servers tell each other.

use super::{Chart, LINE, escaped};
use crate::sim::network::Direction;
use std::fmt::Write;

impl Chart {
    /// A datagram, its duplicate, or its loss.
    pub(super) fn datagram(
        &mut self,
        (client, server): (usize, usize),
        way: Direction,
        message: &str,
        at: u64,
        arrives: &[u64],
    ) {
        let ends = (self.lanes.client(client), self.lanes.server(server));
        let is_reply = way == Direction::ToClient;
        let (x1, x2) = if is_reply { (ends.1, ends.0) } else { ends };
        let first = arrives.first().copied();
        self.arrow((x1, x2), at, first, "sent");
        for copy in arrives.iter().skip(1) {
            self.arrow((x1, x2), at, Some(*copy), "copy");
        }
        if self.labelled.replace((client, at)) == Some((client, at)) {
            return;
        }
        // Side by side, and where a request and its answer are apart.
        let (y1, y2) = (self.y(at), self.arrival(at, first));
        let part = if is_reply { 0.5 } else { 0.24 };
        let (x, y) = match first {
            None => (x1 + (x2 - x1) * 0.22, y1),
            Some(_) => (x1 + (x2 - x1) * part, y1 + (y2 - y1).min(4.0 * LINE) * part),
        };
        self.text(x, y - 3.0, message, "message");
    }

    /// What one server tells another.
    pub(super) fn tell(
        &mut self,
        from: usize,
        to: usize,
        message: &str,
        at: u64,
        arrives: Option<u64>,
    ) {
        let (x1, x2) = (self.lanes.server(from), self.lanes.server(to));
        self.arrow((x1, x2), at, arrives, "told");
        let near = if x2 > x1 { 42.0 } else { -42.0 };
        self.text(x1 + near, self.y(at) - 1.0, message, "peer");
    }

    /// A datagram found nobody.
    pub(super) fn unheard(&mut self, x: f64, at: u64) {
        self.text(x, self.y(at) + 4.0, "✕", "cross");
    }

    fn arrival(&self, at: u64, arrives: Option<u64>) -> f64 {
        match arrives {
            Some(arrives) if arrives > self.to => self.bottom(),
            Some(arrives) => self.y(arrives),
            None => self.y(at) + 4.0,
        }
    }

    fn arrow(&mut self, (x1, x2): (f64, f64), at: u64, arrives: Option<u64>, class: &str) {
        let (y1, y2) = (self.y(at), self.arrival(at, arrives));
        let part = match arrives {
            None => 0.45,
            Some(arrives) if arrives > self.to => 0.6,
            Some(_) => 1.0,
        };
        let x2 = x1 + (x2 - x1) * part;
        let (class, tip) = match arrives {
            None => ("lost", ""),
            Some(_) if class == "told" => (class, " marker-end='url(#peer)'"),
            Some(_) => (class, " marker-end='url(#tip)'"),
        };
        // A String takes everything.
        let _ = write!(
            self.lines,
            "<line x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' class='{class}'{tip}/>"
        );
        if arrives.is_none() {
            self.text(x2, y2 + 4.0, "✕", "cross");
        }
    }

    pub(super) fn text(&mut self, x: f64, y: f64, text: &str, class: &str) {
        let text = escaped(text);
        let _ = write!(self.above, "<text x='{x:.1}' y='{y:.1}' class='{class}'>{text}</text>");
    }
}
