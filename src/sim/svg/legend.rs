//! What the signs of a chart mean.

use super::BAND;
use std::fmt::Write;

/// Room that the legend takes.
pub(super) const HEIGHT: f64 = 80.0;

/// The legend, with its upper edge at `top`.
pub(super) fn draw(top: f64, is_cluster: bool) -> String {
    let band = |opacity: f64| {
        format!(
            "<rect x='0' y='-7' width='{BAND}' height='14' fill='#56b4e9' fill-opacity='{opacity}'/>"
        )
    };
    let line = |class: &str, end: &str| {
        format!("<line x1='0' y1='0' x2='36' y2='0' class='{class}' {end}/>")
    };
    let tip = "marker-end='url(#tip)'";
    let down = format!("<rect x='0' y='-7' width='{BAND}' height='14' fill='url(#down)'/>");
    let lost = format!("{}<text x='40' y='4' class='cross'>✕</text>", line("lost", ""));
    let leads = "<rect x='4' y='-7' width='4' height='14' fill='#444'/>".into();
    let peers = line("told", "marker-end='url(#peer)'");
    let unheard = format!("{}<text x='38' y='4' class='cross'>✕</text>", line("sent", tip));
    let mut signs = vec![
        (line("sent", tip), 48.0, "datagram"),
        (line("copy", tip), 48.0, "its copy"),
        (lost, 48.0, "a lost one"),
        (band(0.45), 20.0, "on the server's lane: this client holds the lock"),
        (band(1.0), 20.0, "on a client's lane: it has been told that it holds the lock"),
        (down, 20.0, "the server is down"),
        (band(0.45), 20.0, "on a client's lane: its lease is over, and it does not know yet"),
        ("<text y='4' class='call'>acquire</text>".into(), 48.0, "a call"),
        ("<text y='4' class='return'>acquire: …</text>".into(), 60.0, "what it brought"),
        ("<text y='4' class='fault'>crashes</text>".into(), 48.0, "a fault"),
        (unheard, 48.0, "it finds nobody there"),
    ];
    if is_cluster {
        signs.push((leads, 20.0, "this server leads"));
        signs.push((peers, 48.0, "what servers tell each other, but that they are there"));
    }
    let mut text = String::new();
    for (at, (sign, width, meaning)) in signs.iter().enumerate() {
        let x = 70.0 + 310.0 * (at % 3) as f64;
        let y = top + 18.0 * (at / 3) as f64;
        // A String takes everything.
        let _ = write!(
            text,
            "<g transform='translate({x} {y:.0})'>{sign}<text x='{width}' y='4'>{meaning}</text></g>"
        );
    }
    text
}
