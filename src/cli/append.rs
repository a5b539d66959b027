//! `baton append`: one section from the command line.

use super::connect::{Purpose, Server, ServerArgs};
use super::exit::{Exit, Failure};
use super::progress::Progress;
use crate::client::{Connection, Error};
use anyhow::Context;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes read from the input before they are sent.
const PIECE: usize = 256 * 1024;

/// Append to files of the server: acquire the lock, append, release
///
/// What is appended appears all at once, in one section, or not at all. Without DATA, or when it
/// is -, the standard input is appended. The lock is held until its end and the lease renewed,
/// however slow it comes; should the lock be lost meanwhile, nothing is appended and the exit code
/// is 75.
#[derive(clap::Args, Clone, Debug)]
#[command(override_usage = "baton append [OPTIONS] FILE [DATA]\n       \
    baton append [OPTIONS] FILE=DATA...")]
#[command(after_help = "Examples:\n  baton append file_0 'hello world'\n  \
    seq 1000 | baton append file_0\n  baton append file_0=debit file_1=credit")]
pub struct AppendArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Append DATA as it is, without the newline at its end
    #[arg(short = 'n', long)]
    no_newline: bool,
    /// A file and what to append to it, or several as FILE=DATA
    #[arg(value_name = "FILE", required = true)]
    parts: Vec<OsString>,
}

/// What goes to one file.
enum Source<'a> {
    Text(&'a [u8]),
    Input,
}

pub fn run(args: AppendArgs) -> anyhow::Result<()> {
    let parts = parts(&args.parts)?;
    let server = args.server.find()?;
    let mut connection = server.connect(Purpose::Work)?;
    connection.acquire().map_err(|error| failure(&server, "", error))?;
    for (file, source) in &parts {
        let appended = match source {
            Source::Text(text) => {
                let end: &[u8] = if args.no_newline { b"" } else { b"\n" };
                connection.append(file, [text, end].concat()).map_err(anyhow::Error::from)
            }
            Source::Input => append_input(&mut connection, file),
        };
        if let Err(error) = appended {
            // A section that is not whole is not published: closing would.
            let _ = connection.abort();
            let _ = connection.close();
            let file = String::from_utf8_lossy(file);
            return Err(match error.downcast::<Error>() {
                Ok(error) => failure(&server, &format!("{file}: "), error),
                Err(error) => error.context(format!("{file}: nothing was appended")),
            });
        }
    }
    connection.release().map_err(|error| failure(&server, "", error))?;
    // Published is published, whether the server hears the goodbye or not.
    let _ = connection.close();
    Ok(())
}

/// What became of the section, and what to try next.
fn failure(server: &Server, file: &str, error: Error) -> anyhow::Error {
    let text = match &error {
        Error::FileNotFound => "the server has no such file; baton files lists them".into(),
        Error::TooLarge => "more than one section may hold (see baton status); append it in \
                            parts, which then appear one after the other"
            .into(),
        Error::LeaseExpired | Error::NotHolder => {
            "the lock was lost meanwhile (baton history says how); try again".into()
        }
        error => server.explain(error),
    };
    let outcome = match &error {
        Error::TimedOut | Error::SessionLost | Error::Internal(_) => "",
        _ => "nothing was appended: ",
    };
    Failure::new(Exit::of_client(&error), format!("{file}{outcome}{text}")).into()
}

/// `FILE`, `FILE DATA`, or `FILE=DATA…`.
fn parts(words: &[OsString]) -> Result<Vec<(&[u8], Source<'_>)>, Failure> {
    let split = |word: &OsStr| word.as_bytes().iter().position(|&byte| byte == b'=');
    match words {
        [file] if split(file).is_none() => Ok(vec![(file.as_bytes(), Source::Input)]),
        [file, data] if split(file).is_none() && data == "-" => {
            Ok(vec![(file.as_bytes(), Source::Input)])
        }
        [file, data] if split(file).is_none() => {
            Ok(vec![(file.as_bytes(), Source::Text(data.as_bytes()))])
        }
        _ => words
            .iter()
            .map(|word| {
                let at = split(word).ok_or_else(|| {
                    let word = Path::new(word).display();
                    Failure::new(
                        Exit::Usage,
                        format!("{word}: give FILE DATA, or each as FILE=DATA"),
                    )
                })?;
                let (file, data) = word.as_bytes().split_at(at);
                Ok((file, Source::Text(&data[1..])))
            })
            .collect(),
    }
}

/// Appends the standard input piece by piece, as it comes.
fn append_input(connection: &mut Connection, file: &[u8]) -> anyhow::Result<()> {
    let mut input = io::stdin().lock();
    let mut progress = Progress::new(input_size(), "appended");
    let mut piece = vec![0; PIECE];
    loop {
        let length = read_renewing(connection, &mut input, &mut piece)?;
        if length == 0 {
            return Ok(());
        }
        connection.append(file, &piece[..length])?;
        progress.advance(length as u64);
    }
}

/// Reads what there is; the lease is renewed while the input is silent.
fn read_renewing(
    connection: &mut Connection,
    input: &mut impl Read,
    piece: &mut [u8],
) -> anyhow::Result<usize> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    loop {
        let stdin = io::stdin();
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let wait_ms = (connection.lease_remaining().as_millis() / 2).min(60_000) as u16;
        match poll(&mut fds, PollTimeout::from(wait_ms)) {
            Ok(0) => connection.renew()?,
            Err(nix::errno::Errno::EINTR) => {}
            _ => return input.read(piece).context("standard input"),
        }
    }
}

/// The size of the input, when it is a file.
fn input_size() -> Option<u64> {
    let file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(words: &[&str]) -> Option<Vec<(String, Option<String>)>> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let parts = parts(&words).ok()?;
        let parts = parts.iter().map(|(file, source)| match source {
            Source::Text(data) => (text(file), Some(text(data))),
            Source::Input => (text(file), None),
        });
        Some(parts.collect())
    }

    #[test]
    fn files_and_data_are_told_apart() {
        let one = |data: Option<&str>| Some(vec![("f".to_owned(), data.map(str::to_owned))]);
        assert_eq!(kinds(&["f"]), one(None));
        assert_eq!(kinds(&["f", "-"]), one(None));
        assert_eq!(kinds(&["f", "a=b"]), one(Some("a=b")));
        assert_eq!(kinds(&["f=a=b"]), one(Some("a=b")));
        assert_eq!(kinds(&["f=1", "g=2"]).unwrap().len(), 2);
        assert_eq!(kinds(&["f=1", "g"]), None);
        assert_eq!(kinds(&["f", "1", "2"]), None);
    }
}
