//! `baton tail`: the end of a file, and what comes after it.

use super::connect::{Purpose, Server, ServerArgs};
use super::exit::{Exit, Failure};
use super::output::copy;
use crate::client::{Connection, Error};
use anyhow::Context;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

/// How far back the search for the beginnings of lines goes, in bytes.
const BACK_MAX: u64 = 1 << 20;
/// How soon to look again at a file that does not grow.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Print the last lines of a file of the server
#[derive(clap::Args, Clone, Debug)]
pub struct TailArgs {
    /// Name of the file on the server, such as file_0
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    server: ServerArgs,
    /// Go on printing what is published, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// How many lines (of the last MiB)
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
}

pub fn run(args: TailArgs) -> anyhow::Result<()> {
    let server = args.server.find()?;
    let mut connection = server.connect(Purpose::Look)?;
    let mut out = io::stdout().lock();
    let context = || format!("cannot read {}", args.file);
    let length = match connection.file_length(&args.file) {
        Ok(length) => length,
        Err(Error::FileNotFound) => {
            let why = format!("the server has no file {}; baton files lists them", args.file);
            return Err(Failure::new(Exit::NoInput, why).into());
        }
        Err(error) => return Err(server.failure(error)),
    };
    let mut offset = length.saturating_sub(BACK_MAX);
    let mut end = Vec::new();
    copy(&mut connection, &args.file, offset, &mut end).with_context(context)?;
    offset += end.len() as u64;
    out.write_all(last_lines(&end, args.lines))?;
    out.flush()?;
    if !args.follow {
        // What was read stays right whether or not the session ends in an orderly way.
        let _ = connection.close();
        return Ok(());
    }
    loop {
        match copy(&mut connection, &args.file, offset, &mut out) {
            Ok(0) => thread::sleep(LOOK_AGAIN),
            Ok(more) => offset += more,
            Err(error) => connection = go_on(&server, &args.file, error)?,
        }
        out.flush()?;
    }
}

/// A reader that follows outlasts the server's absence, and the end of its session.
fn go_on(server: &Server, file: &str, error: anyhow::Error) -> anyhow::Result<Connection> {
    match error.downcast_ref::<Error>() {
        Some(Error::SessionLost) => server.connect(Purpose::Work),
        Some(Error::Unavailable) => {
            eprintln!("baton tail: no server answers; still trying");
            loop {
                if let Ok(connection) = server.connect(Purpose::Work) {
                    return Ok(connection);
                }
            }
        }
        _ => Err(error.context(format!("cannot read {file}"))),
    }
}

/// The last `count` lines; what follows the last newline counts as one.
fn last_lines(text: &[u8], count: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut newlines = body.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'\n');
    match count.checked_sub(1) {
        None => &[],
        Some(before) => newlines.nth(before).map_or(text, |(at, _)| &text[at + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn the_last_lines_are_found_with_and_without_a_newline_at_the_end() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc", 2), b"b\nc");
        assert_eq!(last_lines(b"a\nb\n", 5), b"a\nb\n");
        assert_eq!(last_lines(b"a\n", 0), b"");
        assert_eq!(last_lines(b"", 3), b"");
    }
}
