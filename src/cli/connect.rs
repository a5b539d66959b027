//! Which server a command talks to, and the session with it: by `--server`, `BATON_SERVER` or the
//! configuration file, and what to say when none answers.

use super::exit::{Exit, Failure};
use crate::client::survey::survey;
use crate::client::{Connection, Error, Options};
use clap::Args;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io};

/// Where everybody's configuration is.
const SYSTEM_CONFIG: &str = "/etc/baton/config.toml";
/// Used when nothing names a server.
const SERVER_DEFAULT: &str = "localhost:10000";
/// A person who looks does not want to wait as long as a program that must get through; the
/// variable `BATON_TIMEOUT_MS` rules both.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it takes at most to find out that what does not serve is a cluster.
const SURVEY_PATIENCE: Duration = Duration::from_millis(400);

/// How a command finds its server.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// The server, as HOST or HOST:PORT; several that act as one are separated by commas
    ///
    /// Without it and BATON_SERVER, the line server = "HOST:PORT" in ~/.config/baton/config.toml or
    /// /etc/baton/config.toml names the server; without that it is localhost:10000.
    #[arg(long, env = "BATON_SERVER", value_name = "ADDR", hide_env_values = true)]
    server: Option<String>,
}

impl ServerArgs {
    /// The server that was named, wherever that was.
    pub fn find(&self) -> Result<Server, Failure> {
        if let Some(named) = self.server.as_ref().filter(|named| !named.is_empty()) {
            return Ok(Server { address: named.clone() });
        }
        for path in config_files() {
            if let Some(address) = read_config(&path)?.server {
                return Ok(Server { address });
            }
        }
        Ok(Server { address: SERVER_DEFAULT.into() })
    }
}

/// What a command does with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To look: five seconds without an answer are enough.
    Look,
    /// To get something done, however long the library keeps trying.
    Work,
}

/// The server of a command, or the list of those that act as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    address: String,
}

impl Server {
    /// The server of that name.
    pub fn named(address: String) -> Server {
        Server { address }
    }

    /// As it was named.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A session with the server.
    pub fn connect(&self, purpose: Purpose) -> anyhow::Result<Connection> {
        self.open(purpose).map_err(|error| self.failure(error))
    }

    /// The same for who has more to say about what goes wrong.
    pub fn open(&self, purpose: Purpose) -> Result<Connection, Error> {
        let mut options = Options::default();
        if purpose == Purpose::Look && env::var_os("BATON_TIMEOUT_MS").is_none() {
            options.timeout = LOOK_TIMEOUT;
        }
        Connection::connect_with(&self.address, &options)
    }

    /// The line and the exit code for what went wrong between us and the server.
    pub fn failure(&self, error: Error) -> anyhow::Error {
        Failure::new(Exit::of_client(&error), self.explain(&error)).into()
    }

    /// What went wrong, and what to try next.
    pub fn explain(&self, error: &Error) -> String {
        let at = &self.address;
        match error {
            Error::Unavailable | Error::TimedOut => {
                let unknown = match error {
                    Error::TimedOut => "; whether it was done is not known",
                    _ => "",
                };
                let answers = survey(at, SURVEY_PATIENCE).unwrap_or_default();
                if answers.is_empty() {
                    return format!(
                        "no server answers at {at}{unknown}: is batond running there? \
                         --server or BATON_SERVER names another address"
                    );
                }
                format!(
                    "of the cluster at {at} not enough servers answer{unknown}: a majority must run \
                     and reach each other, and this machine the one that leads; baton cluster status \
                     shows them"
                )
            }
            Error::InvalidArgument(why) => why.clone(),
            Error::System(_) => error.to_string(),
            Error::SessionLost => format!("{at}: {error}; start anew"),
            _ => format!("{at}: {error}"),
        }
    }
}

/// What the configuration file can say.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Config {
    server: Option<String>,
}

/// The configuration files, the user's own first.
fn config_files() -> impl Iterator<Item = PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let user = user.map(|directory| directory.join("baton/config.toml"));
    user.into_iter().chain([PathBuf::from(SYSTEM_CONFIG)])
}

/// What a file says; nothing when it does not exist.
fn read_config(path: &Path) -> Result<Config, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => parse_config(path, &text),
        Err(error) if is_absent(&error) => Ok(Config::default()),
        Err(error) => {
            Err(Failure::new(Exit::Config, format!("cannot read {}: {error}", path.display())))
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn parse_config(path: &Path, text: &str) -> Result<Config, Failure> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count();
        let message = format!(
            "{}, line {line}: {}; it may have the line: server = \"HOST:PORT\"",
            path.display(),
            error.message()
        );
        Failure::new(Exit::Config, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_file_names_the_server_and_nothing_else() {
        let parse = |text| parse_config(Path::new("c.toml"), text);
        let server = |text| parse(text).unwrap().server;
        assert_eq!(server("server = \"db1,db2:7000\""), Some("db1,db2:7000".into()));
        assert_eq!(server("# nothing"), None);
        for (text, part) in
            [("\nsever = \"x\"", "line 2"), ("server = 7", "line 1"), ("server", "line 1")]
        {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("server = "), "{message}");
        }
    }

    #[test]
    fn a_server_named_on_the_command_line_needs_no_file() {
        let args = ServerArgs { server: Some("here:7".into()) };
        assert_eq!(args.find().unwrap().address(), "here:7");
    }
}
