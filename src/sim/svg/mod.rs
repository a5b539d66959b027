//! A run as a message sequence chart: lanes for clients and server, time going down, datagrams as
//! arrows. Whoever holds the lock has a coloured band, pale on the server's lane (what is so) and
//! full on the client's (what it has been told).
//!
//! Time is not to scale: moments at which something happens keep their order and get room to be
//! read, and stretches without events are short.

mod bands;
mod legend;

use super::network::Direction;
use super::story::{Note, What, short};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Draws what happened between two times, in microseconds.
pub fn draw(notes: &[Note], from: u64, to: u64) -> String {
    let mut chart = Chart::new(notes, from, to);
    chart.bands(notes);
    chart.client_bands(notes);
    chart.lanes();
    chart.times();
    let shown = chart.from..=chart.to;
    for note in notes.iter().filter(|note| shown.contains(&note.at)) {
        chart.note(note);
    }
    chart.finish()
}

struct Chart {
    from: u64,
    to: u64,
    clients: usize,
    /// Height of each moment.
    heights: BTreeMap<u64, f64>,
    /// Bands lie below everything else.
    below: String,
    above: String,
    is_cut: bool,
    /// Of datagrams sent at once only the first has its text.
    labelled: Option<(usize, u64)>,
    /// Where the last text beside each lane stands.
    texts: BTreeMap<i64, f64>,
}

impl Chart {
    fn new(notes: &[Note], from: u64, to: u64) -> Chart {
        let mut moments = Vec::new();
        let (mut clients, mut messages, mut last) = (0, 0, to);
        for note in notes.iter().filter(|note| (from..=to).contains(&note.at)) {
            if let What::Sent { client, arrives, .. } = &note.what {
                clients = clients.max(client + 1);
                messages += 1;
                moments.extend(arrives.iter().filter(|at| **at <= to));
            }
            moments.push(note.at);
            if messages == MESSAGES_MAX {
                last = note.at;
                break;
            }
        }
        moments.retain(|at| *at <= last);
        moments.sort_unstable();
        moments.dedup();
        let mut heights = BTreeMap::new();
        let (mut height, mut before) = (TOP, moments.first().copied().unwrap_or(from));
        for at in moments {
            let passed = (at - before) as f64;
            if at > before {
                height += (passed / 40.0).clamp(LINE, 4.0 * LINE);
            }
            heights.insert(at, height);
            before = at;
        }
        let to = heights.keys().next_back().copied().unwrap_or(to);
        let (below, above) = (String::new(), String::new());
        Chart {
            from,
            to,
            clients,
            heights,
            below,
            above,
            is_cut: messages == MESSAGES_MAX,
            labelled: None,
            texts: BTreeMap::new(),
        }
    }

    fn y(&self, at: u64) -> f64 {
        let known = self.heights.range(..=at).next_back().or(self.heights.iter().next());
        known.map_or(TOP, |(_, height)| *height)
    }

    fn x(&self, client: usize) -> f64 {
        // The server stands in the middle, so that no arrow crosses more lanes than it must.
        let left = self.clients.div_ceil(2);
        LEFT + LANE * (if client < left { client } else { client + 1 }) as f64
    }

    fn server_x(&self) -> f64 {
        LEFT + LANE * self.clients.div_ceil(2) as f64
    }

    fn width(&self) -> f64 {
        2.0 * LEFT + LANE * self.clients as f64
    }

    fn bottom(&self) -> f64 {
        self.y(self.to) + 30.0
    }

    fn lanes(&mut self) {
        let bottom = self.bottom();
        let mut lane = |x: f64, name: String, fill: &str| {
            let _ = write!(
                self.above,
                "<line x1='{x}' y1='{TOP}' x2='{x}' y2='{bottom:.1}' stroke='#999'/>\
                 <rect x='{}' y='{}' width='80' height='22' rx='4' fill='{fill}'/>\
                 <text x='{x}' y='{}' class='name'>{name}</text>",
                x - 40.0,
                TOP - 40.0,
                TOP - 25.0
            );
        };
        let left = self.clients.div_ceil(2);
        for client in 0..self.clients {
            let x = LEFT + LANE * (if client < left { client } else { client + 1 }) as f64;
            lane(x, format!("client {client}"), color(client));
        }
        lane(LEFT + LANE * left as f64, "server".into(), "#444");
    }

    fn note(&mut self, note: &Note) {
        let y = self.y(note.at);
        match &note.what {
            What::Sent { client, direction, message, arrives, .. } => {
                self.arrows(*client, *direction, message, note.at, arrives);
            }
            What::Called { client, call } => self.mark(self.x(*client), y, call, "call"),
            What::Returned { client, call, result } => {
                let result = match result.strip_prefix("Granted(FencingToken(") {
                    Some(token) => {
                        let token = token.trim_end_matches(')').parse().unwrap_or(0);
                        format!("granted {}", short(token))
                    }
                    None => result.clone(),
                };
                self.mark(self.x(*client), y, &format!("{call}: {result}"), "return");
            }
            What::Client { client, what } => self.mark(self.x(*client), y, what, "fault"),
            What::LeaseOver { client, token } => {
                let text = format!("lease of {} over", short(*token));
                self.mark(self.x(*client), y, &text, "fault");
            }
            What::Holder { client: Some(client), token, waiters } => {
                let waiters = match waiters {
                    0 => String::new(),
                    1 => ", 1 waits".into(),
                    more => format!(", {more} wait"),
                };
                let text = format!("grants {} to client {client}{waiters}", short(*token));
                self.mark(self.server_x(), y, &text, "holder");
            }
            What::Holder { .. } => self.mark(self.server_x(), y, "the lock is free", "holder"),
            What::Server(what) => {
                let is_bad = what.starts_with("crashes") || what.starts_with("cannot");
                self.mark(self.server_x(), y, what, if is_bad { "fault" } else { "server" });
            }
            What::Disk(what) => self.mark(self.server_x(), y, what, "disk"),
            What::World(what) => {
                let _ = write!(
                    self.above,
                    "<text x='70' y='{:.1}' class='world'>{what}</text>",
                    y + 3.0
                );
            }
            What::Plan(_) | What::Unheard { .. } | What::Member { .. } | What::Told { .. } => {}
        }
    }

    /// Times at the left, where there is room for them.
    fn times(&mut self) {
        let mut next = 0.0;
        for (at, height) in &self.heights {
            if *height >= next {
                next = height + 3.0 * LINE;
                let _ = write!(
                    self.above,
                    "<text x='8' y='{:.1}' class='time'>{:.1} ms</text>",
                    height + 3.0,
                    ms(*at)
                );
            }
        }
    }

    /// A point on a lane; its text stands on the side where no arrows are, below the one before.
    fn mark(&mut self, x: f64, y: f64, text: &str, class: &str) {
        let is_left = x < self.server_x();
        let dot = y;
        let lowest = self.texts.get(&(x as i64)).map_or(y, |last| last + LINE - 3.0);
        let y = y.max(lowest);
        self.texts.insert(x as i64, y);
        let (beside, anchor) = if is_left { (x - 9.0, "end") } else { (x + 9.0, "start") };
        let _ = write!(
            self.above,
            "<circle cx='{x}' cy='{dot:.1}' r='2.5'/><text x='{beside:.1}' y='{:.1}' \
             text-anchor='{anchor}' class='{class}'>{}</text>",
            y + 3.0,
            escaped(text)
        );
    }

    /// A datagram, its duplicate, or its loss.
    fn arrows(&mut self, client: usize, way: Direction, message: &str, at: u64, arrives: &[u64]) {
        let (mut x1, mut x2) = (self.x(client), self.server_x());
        if way == Direction::ToClient {
            std::mem::swap(&mut x1, &mut x2);
        }
        let (y1, middle) = (self.y(at), x1 + (x2 - x1) * 0.45);
        if arrives.is_empty() {
            let _ = write!(
                self.above,
                "<line x1='{x1}' y1='{y1:.1}' x2='{middle:.1}' y2='{:.1}' class='lost'/>\
                 <text x='{middle:.1}' y='{:.1}' class='cross'>✕</text>",
                y1 + 4.0,
                y1 + 8.0
            );
        }
        for (copy, arrives) in arrives.iter().enumerate() {
            let class = if copy == 0 { "sent" } else { "copy" };
            let (x2, y2) = if *arrives > self.to {
                (x1 + (x2 - x1) * 0.6, self.bottom())
            } else {
                (x2, self.y(*arrives))
            };
            let _ = write!(
                self.above,
                "<line x1='{x1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' class='{class}' \
                 marker-end='url(#tip)'/>"
            );
        }
        if self.labelled.replace((client, at)) != Some((client, at)) {
            let place = if way == Direction::ToServer { 0.3 } else { 0.62 };
            let near = self.x(client) + (self.server_x() - self.x(client)) * place;
            let _ = write!(
                self.above,
                "<text x='{near:.1}' y='{:.1}' class='message'>{}</text>",
                y1 - 1.0,
                escaped(message)
            );
        }
    }

    fn finish(self) -> String {
        let legend = legend::draw(self.bottom() + 25.0);
        let (width, height) = (self.width(), self.bottom() + 30.0 + legend::HEIGHT);
        let more = if self.is_cut { " (--range draws another part)" } else { "" };
        let footer = format!("{:.3} ms to {:.3} ms{more}", ms(self.from), ms(self.to));
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height:.0}' \
             viewBox='0 0 {width} {height:.0}'>{HEAD}<rect width='100%' height='100%' \
             fill='white'/>{}{}{legend}<text x='8' y='{:.0}' class='world'>{footer}</text></svg>\n",
            self.below,
            self.above,
            height - 8.0
        )
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

fn color(client: usize) -> &'static str {
    COLORS[client % COLORS.len()]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Colours that people with any colour vision tell apart (Okabe and Ito).
const COLORS: [&str; 7] =
    ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#b2a300"];
const TOP: f64 = 60.0;
const LEFT: f64 = 230.0;
const LANE: f64 = 290.0;
const BAND: f64 = 12.0;
/// Height of a line of text.
const LINE: f64 = 13.0;
/// Messages that a picture can take.
const MESSAGES_MAX: usize = 250;
const HEAD: &str = "<defs><marker id='tip' viewBox='0 0 8 8' refX='8' refY='4' markerWidth='7' \
    markerHeight='7' orient='auto'><path d='M0 0 8 4 0 8z' fill='#333'/></marker><pattern id='down' \
    width='6' height='6' patternUnits='userSpaceOnUse' patternTransform='rotate(45)'><rect width='6' \
    height='6' fill='#eee'/><line x1='0' y1='0' x2='0' y2='6' stroke='#b00' stroke-width='2'/>\
    </pattern></defs><style>text{font:9px sans-serif;fill:#333}.name{font:bold 12px sans-serif;\
    fill:#fff;text-anchor:middle}.sent{stroke:#333}.copy{stroke:#333;stroke-dasharray:1 3}\
    .lost{stroke:#b00;stroke-dasharray:4 3}text.cross{fill:#b00;font-size:11px;text-anchor:middle}\
    .message{text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:3px}\
    .call,.return,.holder,.fault,.disk,.server{paint-order:stroke;stroke:#fff;stroke-width:3px}\
    text.return{font-weight:bold}text.fault{fill:#b00;font-weight:bold}\
    text.disk,text.time{fill:#888}text.server{font-weight:bold}text.world{fill:#777;font-style:italic}\
    circle{stroke:none!important;fill:#333}</style>";
