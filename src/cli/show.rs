//! What the commands that show a server share: times, sizes and clients as
//! people read them, tables, JSON.

use super::connect::ServerArgs;
use crate::json::timestamp;
use crate::protocol::ClientInfo;
use crate::types::Millis;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// Flags of every command that shows something.
#[derive(clap::Args, Clone, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Print JSON instead; docs/JSON.md has the schema
    #[arg(long)]
    pub json: bool,
}

/// Prints a JSON document.
pub fn print_json(document: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, document)?;
    Ok(writeln!(out)?)
}

/// Whether to make headings bold: on a terminal, unless `NO_COLOR` is set (https://no-color.org).
fn is_plain() -> bool {
    !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
}

/// Columns under headings; a heading that begins with `>` aligns its column to the right.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(headings: &[&'static str]) -> Self {
        Table { headings: headings.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn print(&self) -> io::Result<()> {
        let text = self.render(!is_plain());
        io::stdout().lock().write_all(text.as_bytes())
    }

    fn render(&self, is_bold: bool) -> String {
        let titles = self.headings.iter().map(|heading| heading.trim_start_matches('>').to_owned());
        let titles: Vec<String> = titles.collect();
        let rows = || std::iter::once(&titles).chain(&self.rows);
        let width = |column: usize| rows().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..titles.len()).map(|n| width(n).unwrap_or(0)).collect();
        let mut text = String::new();
        for (number, row) in rows().enumerate() {
            let mut line = String::new();
            for ((cell, heading), width) in row.iter().zip(&self.headings).zip(&widths) {
                let gap = " ".repeat(width - cell.chars().count());
                let is_right = heading.starts_with('>');
                let (before, after) = if is_right { (&*gap, "") } else { ("", &*gap) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            let line = line.trim_end();
            match is_bold && number == 0 {
                true => text.push_str(&format!("\x1b[1m{line}\x1b[0m\n")),
                false => text.push_str(&format!("{line}\n")),
            }
        }
        text
    }
}

/// A time of the server's clock as people here read it.
pub fn local_time(at: Millis) -> String {
    match timestamp(at) {
        Some(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        None => format!("{} ms", at.0),
    }
}

/// A duration in the two units that matter.
pub fn duration(ms: u64) -> String {
    let (seconds, minutes) = (ms / 1_000, ms / 60_000);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60_000..3_600_000 => format!("{minutes} m {:02} s", seconds % 60),
        3_600_000..86_400_000 => format!("{} h {:02} m", minutes / 60, minutes % 60),
        _ => format!("{} d {:02} h", minutes / 1_440, minutes / 60 % 24),
    }
}

/// A duration that may not be known.
pub fn ago(ms: Option<u64>) -> String {
    ms.map_or_else(|| "not since the start".into(), |ms| format!("{} ago", duration(ms)))
}

/// A size, rounded.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1_024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Who a client is, in one word. It describes itself, so nothing in it may steer the terminal.
pub fn name(client: &ClientInfo) -> String {
    format!("{}:{}", plain(&client.host), client.pid)
}

/// A client's text without control characters.
pub fn plain(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.is_empty() { "?".into() } else { text }
}

/// The same in a sentence: with program and user.
pub fn full_name(client: &ClientInfo) -> String {
    format!("{} ({}, user {})", name(client), plain(&client.program), plain(&client.user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["A", ">BYTES", "C"]);
        table.row(vec!["läng".into(), "7".into(), "x".into()]);
        table.row(vec!["s".into(), "123456".into(), String::new()]);
        let expected = "A      BYTES  C\nläng       7  x\ns     123456\n";
        assert_eq!(table.render(false), expected);
        assert!(table.render(true).starts_with("\x1b[1mA      BYTES  C\x1b[0m\n"));
    }

    #[test]
    fn times_and_sizes_keep_what_matters() {
        let durations = [0, 999, 1_250, 59_999, 125_000, 3_900_000, 90_000_000].map(duration);
        let expected = ["0 ms", "999 ms", "1.2 s", "59.9 s", "2 m 05 s", "1 h 05 m", "1 d 01 h"];
        assert_eq!(durations, expected);
        let sizes = [0, 1_023, 1_024, 1_536, 1 << 20, (1 << 30) - 1, u64::MAX].map(size);
        let expected =
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1023.9 MiB", "16383.9 PiB"];
        assert_eq!(sizes, expected);
        assert_eq!(crate::json::utc_time(Millis(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(crate::json::utc_time(Millis(u64::MAX)), Value::Null);
    }

    #[test]
    fn what_a_client_says_of_itself_cannot_steer_the_terminal() {
        let client = ClientInfo { host: "h\x1b[2J\n".into(), ..ClientInfo::default() };
        assert_eq!(full_name(&client), "h\u{fffd}[2J\u{fffd}:0 (?, user ?)");
    }
}
