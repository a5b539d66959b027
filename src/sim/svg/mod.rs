//! A run as a message sequence chart: lanes for clients and servers, time going down, datagrams as
//! arrows. Whoever holds the lock has a coloured band, pale on the server's lane (what is so) and
//! full on the client's (what it has been told).
//!
//! Time is not to scale: moments at which something happens keep their order and get room to be
//! read, stretches without events are short, and what goes on and on is left out.

mod arrows;
mod bands;
mod lanes;
mod legend;
mod thin;

use super::story::{Note, What, short};
use lanes::Lanes;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Draws what happened between two times, in microseconds.
pub fn draw(notes: &[Note], title: &str, from: u64, to: u64) -> String {
    let shown: Vec<_> = notes.iter().filter(|note| (from..=to).contains(&note.at)).collect();
    let shown: Vec<_> = shown.into_iter().filter(|note| is_drawn(&note.what)).collect();
    let (shown, skipped) = thin::thin(&shown);
    let mut chart = Chart::new(&shown, &skipped, Lanes::of(notes), (from, to));
    chart.server_bands(notes);
    chart.client_bands(notes);
    chart.times();
    let last = chart.to;
    for note in shown.iter().take_while(|note| note.at <= last) {
        chart.note(note);
    }
    skipped.iter().filter(|(_, to)| *to <= last).for_each(|skipped| chart.gap(*skipped));
    chart.finish(title)
}

/// Servers tell each other every few milliseconds that they are there.
fn is_drawn(what: &What) -> bool {
    !matches!(what, What::Told { message: "beat" | "beat back", .. } | What::Plan(_))
}

struct Chart {
    from: u64,
    to: u64,
    lanes: Lanes,
    /// Height of each moment.
    heights: BTreeMap<u64, f64>,
    /// Bands lie below everything else, texts above it.
    below: String,
    lines: String,
    above: String,
    is_cut: bool,
    /// The server that leads.
    leader: usize,
    /// Of datagrams sent at once only the first has its text.
    labelled: Option<(usize, u64)>,
    /// Where the last text beside each lane stands.
    texts: BTreeMap<i64, f64>,
}

impl Chart {
    fn new(shown: &[&Note], skipped: &[(u64, u64)], lanes: Lanes, (from, to): (u64, u64)) -> Chart {
        // How much room each moment needs.
        let mut moments: BTreeMap<u64, f64> = BTreeMap::new();
        let (mut messages, mut last) = (0, to);
        for note in shown {
            let mut arrivals: &[u64] = &[];
            let room = match &note.what {
                What::Told { arrives, .. } => {
                    arrivals = arrives.as_slice();
                    messages += 1;
                    PEER
                }
                What::Sent { arrives, .. } => {
                    arrivals = arrives;
                    messages += 1;
                    LINE
                }
                _ => LINE,
            };
            for at in arrivals.iter().filter(|at| **at <= to).chain([&note.at]) {
                let known = moments.entry(*at).or_insert(room);
                *known = known.max(room);
            }
            if messages == MESSAGES_MAX {
                last = note.at;
                break;
            }
        }
        moments.retain(|at, _| *at <= last);
        let mut heights = BTreeMap::new();
        let first = moments.keys().next().copied().unwrap_or(from);
        let (mut height, mut before) = (TOP, first);
        for (at, room) in moments {
            if at > before {
                height += ((at - before) as f64 / 40.0).clamp(room, 4.0 * room);
            }
            if skipped.iter().any(|(_, to)| (before + 1..=at).contains(to)) {
                height += GAP;
            }
            heights.insert(at, height);
            before = at;
        }
        let to = heights.keys().next_back().copied().unwrap_or(to);
        Chart {
            from: from.max(first),
            to,
            lanes,
            heights,
            below: String::new(),
            lines: String::new(),
            above: String::new(),
            is_cut: messages == MESSAGES_MAX,
            leader: 0,
            labelled: None,
            texts: BTreeMap::new(),
        }
    }

    fn y(&self, at: u64) -> f64 {
        let known = self.heights.range(..=at).next_back().or(self.heights.iter().next());
        known.map_or(TOP, |(_, height)| *height)
    }

    fn bottom(&self) -> f64 {
        self.y(self.to) + 30.0
    }

    fn note(&mut self, note: &Note) {
        let (y, at) = (self.y(note.at), note.at);
        match &note.what {
            What::Sent { client, server, direction, message, arrives } => {
                self.datagram((*client, *server), *direction, message, at, arrives);
            }
            What::Told { from, to, message, arrives } => {
                self.tell(*from, *to, message, at, *arrives);
            }
            What::Unheard { client, server, direction } => {
                let x = match direction {
                    super::network::Direction::ToServer => self.lanes.server(*server),
                    super::network::Direction::ToClient => self.lanes.client(*client),
                };
                self.unheard(x, at);
            }
            What::Called { client, call } => self.mark(self.lanes.client(*client), y, call, "call"),
            What::Returned { client, call, result } => {
                let text = format!("{call}: {}", brought(result));
                self.mark(self.lanes.client(*client), y, &text, "return");
            }
            What::Client { client, what } => {
                self.mark(self.lanes.client(*client), y, what, "fault");
            }
            What::LeaseOver { client, token } => {
                let text = format!("lease of {} over", short(*token));
                self.mark(self.lanes.client(*client), y, &text, "fault");
            }
            What::Holder { client, token, waiters } => {
                let waiters = match waiters {
                    0 => String::new(),
                    1 => ", 1 waits".into(),
                    more => format!(", {more} wait"),
                };
                let text = match client {
                    Some(client) => format!("grants {} to client {client}{waiters}", short(*token)),
                    None => "the lock is free".into(),
                };
                self.mark(self.lanes.server(self.leader), y, &text, "holder");
            }
            What::Server(what) => self.happening(0, y, what),
            What::Member { server, what } => self.happening(*server, y, what),
            What::Disk(what) => self.mark(self.lanes.server(0), y, what, "disk"),
            What::World(what) => self.text(70.0, y + 3.0, what, "world"),
            What::Plan(_) => {}
        }
    }

    /// Something happens to a server.
    fn happening(&mut self, server: usize, y: f64, what: &str) {
        if what.starts_with("leads") {
            self.leader = server;
        }
        let is_bad = ["crashes", "cannot", "stalls", "is cut off"];
        let is_bad = is_bad.iter().any(|bad| what.starts_with(bad));
        self.mark(self.lanes.server(server), y, what, if is_bad { "fault" } else { "server" });
    }

    /// Times at the left, where there is room for them.
    fn times(&mut self) {
        let mut next = 0.0;
        for (at, height) in &self.heights {
            if *height >= next {
                next = height + 3.0 * LINE;
                // A String takes everything.
                let _ = write!(
                    self.above,
                    "<text x='8' y='{:.1}' class='time'>{:.1} ms</text>",
                    height + 3.0,
                    ms(*at)
                );
            }
        }
    }

    /// Between these times all went on as before.
    fn gap(&mut self, (from, to): (u64, u64)) {
        let (y, width) = (self.y(to) - GAP, self.lanes.width());
        let _ = write!(
            self.lines,
            "<rect x='0' y='{:.1}' width='{width}' height='{}' class='gap'/>",
            y - 4.0,
            GAP - 6.0
        );
        let text = format!("… and so on for {:.0} ms …", ms(to - from));
        self.text(width / 2.0, y + 7.0, &text, "goes-on");
    }

    /// A point on a lane; its text stands on the side where no arrows are, below the one before.
    fn mark(&mut self, x: f64, y: f64, text: &str, class: &str) {
        let lowest = self.texts.get(&(x as i64)).map_or(y, |last| last + LINE - 2.0);
        let lower = y.max(lowest);
        self.texts.insert(x as i64, lower);
        let (beside, anchor) =
            if self.lanes.is_left(x) { (x - 9.0, "end") } else { (x + 9.0, "start") };
        let _ = write!(
            self.above,
            "<circle cx='{x:.1}' cy='{y:.1}' r='2.5'/><text x='{beside:.1}' y='{:.1}' \
             text-anchor='{anchor}' class='{class}'>{}</text>",
            lower + 3.0,
            escaped(text)
        );
    }

    fn finish(self, title: &str) -> String {
        let legend = legend::draw(self.bottom() + 25.0, self.lanes.servers > 1);
        let lanes = self.lanes.draw(TOP, self.bottom());
        let (width, height) = (self.lanes.width(), self.bottom() + 30.0 + legend::HEIGHT);
        let more = if self.is_cut { " (--range draws another part)" } else { "" };
        let footer = format!("{:.3} ms to {:.3} ms{more}", ms(self.from), ms(self.to));
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0}' height='{height:.0}' \
             viewBox='0 0 {width:.0} {height:.0}'>{HEAD}<rect width='100%' height='100%' \
             fill='white'/><text x='8' y='20' class='title'>{}</text>{}{lanes}{}{}{legend}\
             <text x='8' y='{:.0}' class='world'>{footer}</text></svg>\n",
            escaped(title),
            self.below,
            self.lines,
            self.above,
            height - 8.0
        )
    }
}

/// What a call brought, for people.
fn brought(result: &str) -> String {
    if let Some(token) = result.strip_prefix("Granted(FencingToken(") {
        return format!("granted {}", short(token.trim_end_matches(')').parse().unwrap_or(0)));
    }
    match result.split_once([' ', '(']) {
        Some(("Read", _)) => "read".into(),
        Some(("Page", _)) => "shown".into(),
        Some(("Refused", why)) => format!("refused, {}", why.trim_end_matches(')')),
        _ => result.into(),
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
const TOP: f64 = 84.0;
const BAND: f64 = 12.0;
/// Height of a line of text.
const LINE: f64 = 13.0;
/// The same for what servers tell each other.
const PEER: f64 = 6.0;
/// Height of what is left out.
const GAP: f64 = 34.0;
/// Messages that a picture can take.
const MESSAGES_MAX: usize = 250;
const HEAD: &str = "<defs><marker id='tip' viewBox='0 0 8 8' refX='8' refY='4' markerWidth='7' \
    markerHeight='7' orient='auto'><path d='M0 0 8 4 0 8z' fill='#333'/></marker><marker id='peer' viewBox='0 0 8 8' \
    refX='8' refY='4' markerWidth='6' markerHeight='6' orient='auto'><path d='M0 0 8 4 0 8z' \
    fill='#8893b8'/></marker><pattern id='down' \
    width='6' height='6' patternUnits='userSpaceOnUse' patternTransform='rotate(45)'><rect width='6' \
    height='6' fill='#eee'/><line x1='0' y1='0' x2='0' y2='6' stroke='#b00' stroke-width='2'/>\
    </pattern></defs><style>text{font:9px sans-serif;fill:#333}.name{font:bold 12px sans-serif;\
    fill:#fff;text-anchor:middle}.sent{stroke:#333}.told{stroke:#8893b8;stroke-width:.8}.gap{fill:#f2f2f2}.copy{stroke:#333;stroke-dasharray:1 3}\
    .lost{stroke:#b00;stroke-dasharray:4 3}text.cross{fill:#b00;font-size:11px;text-anchor:middle}\
    text.title{font-size:13px;font-weight:bold}text.peer{fill:#5b689a;font-size:8px;text-anchor:middle;\
    paint-order:stroke;stroke:#fff;stroke-width:2px}text.goes-on{text-anchor:middle;fill:#777}\
    .message{text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:3px}\
    .call,.return,.holder,.fault,.disk,.server{paint-order:stroke;stroke:#fff;stroke-width:3px}\
    text.return{font-weight:bold}text.fault{fill:#b00;font-weight:bold}\
    text.disk,text.time{fill:#888}text.server{font-weight:bold}text.world{fill:#777;font-style:italic}\
    circle{stroke:none!important;fill:#333}</style>";
