//! What can be typed in the shell: one table for parsing, help and completion.

use crate::cli::seconds::Seconds;
use std::time::Duration;

/// One line that was typed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Connect(Option<String>),
    Acquire(Option<Duration>),
    Try,
    Append { file: String, data: String },
    Release,
    Abort,
    Renew,
    Read { file: String, offset: u64, length: u64 },
    Status,
    Who,
    Stall(Duration),
    Kill,
    Help,
    Quit,
}

/// A command: its names, the usual one first, its arguments, and what it does.
pub(super) struct Entry {
    pub(super) names: &'static [&'static str],
    arguments: &'static str,
    purpose: &'static str,
    parse: fn(&str) -> Option<Command>,
}

/// What can be typed, in the order in which one would.
pub(super) const COMMANDS: &[Entry] = &[
    Entry {
        names: &["connect"],
        arguments: "[SERVER]",
        purpose: "begin a session, ending the one before",
        parse: |rest| Some(Command::Connect((!rest.is_empty()).then(|| rest.into()))),
    },
    Entry {
        names: &["acquire"],
        arguments: "[SECONDS]",
        purpose: "wait for the lock, so long at most; Ctrl-C leaves the queue",
        parse: |rest| match rest {
            "" => Some(Command::Acquire(None)),
            time => Some(Command::Acquire(Some(seconds(time)?))),
        },
    },
    Entry {
        names: &["try"],
        arguments: "",
        purpose: "take the lock if it is free",
        parse: |rest| alone(rest, Command::Try),
    },
    Entry {
        names: &["append"],
        arguments: "FILE DATA",
        purpose: "append the rest of the line, as a line",
        parse: |rest| {
            let (file, data) = rest.split_once(char::is_whitespace)?;
            let data = unquoted(data.trim());
            Some(Command::Append { file: file.into(), data: format!("{data}\n") })
        },
    },
    Entry {
        names: &["release"],
        arguments: "",
        purpose: "publish what was appended and give the lock back",
        parse: |rest| alone(rest, Command::Release),
    },
    Entry {
        names: &["abort"],
        arguments: "",
        purpose: "discard what was appended and give the lock back",
        parse: |rest| alone(rest, Command::Abort),
    },
    Entry {
        names: &["renew"],
        arguments: "",
        purpose: "renew the lease, as every other command of a holder does",
        parse: |rest| alone(rest, Command::Renew),
    },
    Entry {
        names: &["cat", "read"],
        arguments: "FILE [OFFSET [LENGTH]]",
        purpose: "print what the file holds",
        parse: |rest| {
            let mut words = rest.split_whitespace();
            let file = words.next()?.into();
            let offset = words.next().map_or(Some(0), |word| word.parse().ok())?;
            let length = words.next().map_or(Some(u64::MAX), |word| word.parse().ok())?;
            words.next().is_none().then_some(Command::Read { file, offset, length })
        },
    },
    Entry {
        names: &["status"],
        arguments: "",
        purpose: "show this session and the server",
        parse: |rest| alone(rest, Command::Status),
    },
    Entry {
        names: &["who"],
        arguments: "",
        purpose: "show who holds the lock and who waits for it",
        parse: |rest| alone(rest, Command::Who),
    },
    Entry {
        names: &["stall"],
        arguments: "SECONDS",
        purpose: "do nothing for so long: the lease is not renewed",
        parse: |rest| Some(Command::Stall(seconds(rest)?)),
    },
    Entry {
        names: &["kill"],
        arguments: "",
        purpose: "end as by kill -9: the lock stays held until the lease ends",
        parse: |rest| alone(rest, Command::Kill),
    },
    Entry {
        names: &["help", "?"],
        arguments: "",
        purpose: "show this",
        parse: |rest| alone(rest, Command::Help),
    },
    Entry {
        names: &["quit", "exit"],
        arguments: "",
        purpose: "end, and discard what was not released (Ctrl-D does it too)",
        parse: |rest| alone(rest, Command::Quit),
    },
];

/// What a line asks for; none if it is empty or a comment.
pub(super) fn parse(line: &str) -> Result<Option<Command>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let Some(entry) = COMMANDS.iter().find(|entry| entry.names.contains(&name)) else {
        return Err(format!("{name}: there is no such command; help lists them"));
    };
    let command = (entry.parse)(rest.trim());
    command.map(Some).ok_or_else(|| format!("it is: {name} {}", entry.arguments).trim().into())
}

/// All commands, a line each.
pub(super) fn help() -> String {
    let mut text = String::new();
    for entry in COMMANDS {
        let usage = format!("{} {}", entry.names.join(", "), entry.arguments);
        text.push_str(&format!("  {usage:<33}{}\n", entry.purpose));
    }
    text
}

fn alone(rest: &str, command: Command) -> Option<Command> {
    rest.is_empty().then_some(command)
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(|Seconds(time)| time)
}

/// As a shell would take it, where all of it is in quotes.
fn unquoted(text: &str) -> &str {
    let within = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command_its_arguments_and_nothing_more() {
        let append = |data: &str| Command::Append { file: "f".into(), data: data.into() };
        let read = |offset, length| Command::Read { file: "f".into(), offset, length };
        for (line, command) in [
            ("  acquire ", Command::Acquire(None)),
            ("acquire 0.5", Command::Acquire(Some(Duration::from_millis(500)))),
            ("append f a  b", append("a  b\n")),
            ("append f \"a b \"", append("a b \n")),
            ("append f 'a'b'", append("a'b\n")),
            ("append f it's", append("it's\n")),
            ("cat f", read(0, u64::MAX)),
            ("read f 3 4", read(3, 4)),
            ("connect", Command::Connect(None)),
            ("connect h:7", Command::Connect(Some("h:7".into()))),
            ("exit", Command::Quit),
        ] {
            assert_eq!(parse(line), Ok(Some(command)), "{line}");
        }
        assert_eq!((parse(""), parse(" # try")), (Ok(None), Ok(None)));
    }

    #[test]
    fn what_cannot_be_meant_is_told_how_it_goes() {
        for (line, part) in [
            ("lock", "help lists them"),
            ("append f", "append FILE DATA"),
            ("acquire soon", "acquire [SECONDS]"),
            ("stall", "stall SECONDS"),
            ("try hard", "it is: try"),
            ("cat f 1 2 3", "cat FILE"),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
