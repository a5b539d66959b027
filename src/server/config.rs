//! What `batond` can be told: by flag, by environment, by a TOML file, or not at all, in this
//! order of precedence. One setting has one name: `--session-ttl`, `BATON_SESSION_TTL` and the
//! file's `session-ttl` take the same text and check it alike.

use crate::limits::{
    FILES_DEFAULT, FILES_MAX, LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, SECTION_LIMIT_DEFAULT,
    SECTION_LIMIT_MAX, SESSION_TTL_MS_DEFAULT, SESSION_TTL_MS_MAX, SESSION_TTL_MS_MIN,
};
use crate::units::{format_bytes, format_duration_ms, parse_bytes, parse_duration_ms};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::ffi::OsString;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use tracing::level_filters::LevelFilter;

/// When an acknowledged section is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Release answers once the section is on stable storage: it survives a power loss.
    Sync,
    /// Release answers once the section is with the operating system: it survives a killed
    /// server, and a power loss takes the last moments.
    Os,
}

/// The Baton server: grants the lock, keeps the files.
///
/// Serves one lock and a directory of append-only files over UDP, prints the address it listens
/// on to standard output when it is ready, and writes traces to standard error. SIGTERM and SIGINT
/// end it cleanly.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "batond", version, max_term_width = 100)]
pub struct ServerConfig {
    /// IPv4 address and UDP port to listen on; port 0 picks a free one
    #[arg(long, env = "BATON_LISTEN", value_name = "ADDR:PORT", default_value = "0.0.0.0:10000")]
    #[arg(value_parser = listen)]
    pub listen: SocketAddrV4,

    /// Data directory: file_0, file_1, … and the write-ahead log in .baton/. Made when missing;
    /// one server at a time uses it
    #[arg(long, env = "BATON_DATA", value_name = "DIR", default_value = "./baton-data")]
    #[arg(value_parser = data)]
    pub data: PathBuf,

    /// Number of data files, 1 to 10000. A larger number than before adds files; a smaller one is
    /// refused
    #[arg(long, env = "BATON_FILES", value_name = "N", default_value_t = FILES_DEFAULT)]
    #[arg(value_parser = files)]
    pub files: u32,

    /// How long a holder may be silent before a waiter gets the lock, 20ms to 1d
    #[arg(long = "lease", env = "BATON_LEASE", value_name = "DURATION")]
    #[arg(value_parser = lease_ms, default_value = format_duration_ms(LEASE_MS_DEFAULT))]
    pub lease_ms: u64,

    /// How long a session that holds nothing may be silent before it ends, 100ms to 30d
    #[arg(long = "session-ttl", env = "BATON_SESSION_TTL", value_name = "DURATION")]
    #[arg(value_parser = session_ttl_ms)]
    #[arg(default_value = format_duration_ms(SESSION_TTL_MS_DEFAULT))]
    pub session_ttl_ms: u64,

    /// What a release that returned 0 survives
    #[arg(long, env = "BATON_DURABILITY", value_name = "MODE", default_value = "sync")]
    pub durability: Durability,

    /// The most bytes that one section may append, 1 byte to 2GiB
    #[arg(long, env = "BATON_SECTION_LIMIT", value_name = "SIZE", value_parser = section_limit)]
    #[arg(default_value = format_bytes(SECTION_LIMIT_DEFAULT))]
    pub section_limit: u64,

    /// TOML file with any of these settings, named like the flags: lease = "10s"
    #[arg(long, env = "BATON_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What to trace on standard error: off, error, warn, info, debug (each request) or trace
    #[arg(long, env = "BATON_TRACE", value_name = "LEVEL", default_value = "info")]
    #[arg(value_parser = trace)]
    pub trace: LevelFilter,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag or variable is wrong, or help or the version was asked for.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    /// The configuration file says something wrong.
    #[error("{}, line {line}: {message}", path.display())]
    File { path: PathBuf, line: usize, message: String },
}

impl ServerConfig {
    /// Reads flags, environment and, where they name one, the configuration file.
    pub fn from_args<A>(args: impl IntoIterator<Item = A>) -> Result<Self, ConfigError>
    where
        A: Into<OsString> + Clone,
    {
        let matches = Self::command().try_get_matches_from(args)?;
        let mut config = Self::from_arg_matches(&matches)?;
        if let Some(path) = config.config.clone() {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError::Read { path: path.clone(), error })?;
            config.fill_from_file(&matches, &path, &text)?;
        }
        Ok(config)
    }

    /// Takes from the file what neither flag nor environment has set. What they did set is
    /// checked all the same, so that a bad file does not lie in wait.
    fn fill_from_file(
        &mut self,
        matches: &ArgMatches,
        path: &Path,
        text: &str,
    ) -> Result<(), ConfigError> {
        let error = |offset: usize, message: String| {
            let line = 1 + text[..offset.min(text.len())].matches('\n').count();
            ConfigError::File { path: path.to_owned(), line, message }
        };
        let table = DeTable::parse(text)
            .map_err(|e| error(e.span().map_or(0, |span| span.start), e.message().to_owned()))?;
        for (key, value) in table.get_ref() {
            let name: &str = key.get_ref();
            let (_, id, set) = SETTINGS
                .iter()
                .find(|(known, ..)| *known == name)
                .ok_or_else(|| error(key.span().start, unknown_key(name)))?;
            let value_text = match value.get_ref() {
                DeValue::String(text) => text.clone().into_owned(),
                DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
                other => {
                    let message = format!("{name}: expected a text, found {}", other.type_str());
                    return Err(error(value.span().start, message));
                }
            };
            let mut checked = self.clone();
            set(&mut checked, &value_text).map_err(|why| {
                error(value.span().start, format!("{name} = {value_text}: {why}"))
            })?;
            if matches.value_source(id) == Some(ValueSource::DefaultValue) {
                *self = checked;
            }
        }
        Ok(())
    }
}

type Setter = fn(&mut ServerConfig, &str) -> Result<(), String>;

/// The keys of the configuration file: name, field, and how its text becomes the field's value.
const SETTINGS: &[(&str, &str, Setter)] = &[
    ("listen", "listen", |c, text| listen(text).map(|v| c.listen = v)),
    ("data", "data", |c, text| data(text).map(|v| c.data = v)),
    ("files", "files", |c, text| files(text).map(|v| c.files = v)),
    ("lease", "lease_ms", |c, text| lease_ms(text).map(|v| c.lease_ms = v)),
    ("session-ttl", "session_ttl_ms", |c, text| session_ttl_ms(text).map(|v| c.session_ttl_ms = v)),
    ("durability", "durability", |c, text| durability(text).map(|v| c.durability = v)),
    ("section-limit", "section_limit", |c, text| section_limit(text).map(|v| c.section_limit = v)),
    ("trace", "trace", |c, text| trace(text).map(|v| c.trace = v)),
];

fn listen(text: &str) -> Result<SocketAddrV4, String> {
    text.parse().map_err(|_| "expected an IPv4 address and a port (as in 127.0.0.1:10000)".into())
}

fn data(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a directory".into()) } else { Ok(PathBuf::from(text)) }
}

fn files(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (1..=FILES_MAX).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from 1 to {FILES_MAX}")),
    }
}

fn lease_ms(text: &str) -> Result<u64, String> {
    duration_within(text, LEASE_MS_MIN, LEASE_MS_MAX)
}

fn session_ttl_ms(text: &str) -> Result<u64, String> {
    duration_within(text, SESSION_TTL_MS_MIN, SESSION_TTL_MS_MAX)
}

fn duration_within(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let ms = parse_duration_ms(text)?;
    if (min..=max).contains(&ms) {
        return Ok(ms);
    }
    Err(format!("out of range: {} to {}", format_duration_ms(min), format_duration_ms(max)))
}

fn durability(text: &str) -> Result<Durability, String> {
    Durability::from_str(text, false).map_err(|_| "expected sync or os".into())
}

fn section_limit(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if (1..=SECTION_LIMIT_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("out of range: 1B to {}", format_bytes(SECTION_LIMIT_MAX)))
}

fn trace(text: &str) -> Result<LevelFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text.to_ascii_lowercase();
    let known = LEVELS.contains(&text.as_str()).then(|| text.parse().ok()).flatten();
    known.ok_or_else(|| format!("expected one of {}", LEVELS.join(", ")))
}

fn unknown_key(name: &str) -> String {
    let close = |(known, ..): &&(&'static str, &str, Setter)| strsim::jaro(name, known) > 0.7;
    let likeness = |known: &str| (strsim::jaro(name, known) * 1e6) as u64;
    match SETTINGS.iter().filter(close).max_by_key(|(known, ..)| likeness(known)) {
        Some((known, ..)) => format!("unknown key {name}: did you mean {known}?"),
        None => {
            let known: Vec<_> = SETTINGS.iter().map(|(known, ..)| *known).collect();
            format!("unknown key {name}: expected one of {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str], file: &str) -> Result<ServerConfig, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baton.toml");
        std::fs::write(&path, file).unwrap();
        let args = ["batond", "--config", path.to_str().unwrap()];
        ServerConfig::from_args(args.iter().chain(flags))
    }

    fn file_error(file: &str) -> String {
        let Err(error @ ConfigError::File { .. }) = parse(&[], file) else {
            panic!("accepted: {file}");
        };
        let text = error.to_string();
        text.split_once("baton.toml, ").unwrap().1.to_owned()
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = ServerConfig::from_args(["batond"]).unwrap();
        assert_eq!(config.listen, "0.0.0.0:10000".parse().unwrap());
        assert_eq!(config.data, Path::new("./baton-data"));
        assert_eq!((config.files, config.section_limit), (100, 64 << 20));
        assert_eq!((config.lease_ms, config.session_ttl_ms), (10_000, 600_000));
        assert_eq!((config.durability, config.trace), (Durability::Sync, LevelFilter::INFO));
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_defaults() {
        let file = "lease = \"500ms\"\nfiles = 7\nlisten = \"127.0.0.1:0\"\ndurability = \"os\"\n";
        let config = parse(&["--lease", "2s", "--section-limit=1KiB"], file).unwrap();
        assert_eq!((config.lease_ms, config.files, config.section_limit), (2_000, 7, 1024));
        assert_eq!(config.durability, Durability::Os);
        assert_eq!(config.listen.port(), 0);
    }

    #[test]
    fn every_flag_but_config_is_a_key_of_the_file() {
        let command = ServerConfig::command();
        let flags: Vec<_> = command
            .get_arguments()
            .filter_map(|arg| Some((arg.get_long()?, arg.get_id().as_str())))
            .filter(|(long, _)| !["config", "help", "version"].contains(long))
            .collect();
        let keys: Vec<_> = SETTINGS.iter().map(|(key, id, _)| (*key, *id)).collect();
        assert_eq!(flags, keys);
    }

    #[test]
    fn file_errors_name_line_key_and_remedy() {
        assert_eq!(file_error("\nleese = 1"), "line 2: unknown key leese: did you mean lease?");
        let message = file_error("colour = 1");
        assert!(message.starts_with("line 1: unknown key colour: expected one of"), "{message}");
        assert_eq!(
            file_error("files = 7\nlease = \"1ms\""),
            "line 2: lease = 1ms: out of range: 20ms to 1d"
        );
        assert_eq!(file_error("data = [1]"), "line 1: data: expected a text, found array");
        assert!(file_error("files = 1\nfiles = 2").starts_with("line 2: "));
        assert!(file_error("files =").starts_with("line 1: "));
    }

    #[test]
    fn a_bad_file_is_refused_even_where_a_flag_overrides_it() {
        assert!(parse(&["--files", "7"], "files = 0").is_err());
    }

    #[test]
    fn flags_out_of_range_name_the_range() {
        for (flag, range) in [
            ("--files=0", "1 to 10000"),
            ("--files=10001", "1 to 10000"),
            ("--lease=2d", "20ms to 1d"),
            ("--session-ttl=1ms", "100ms to 30d"),
            ("--section-limit=3GiB", "1B to 2GiB"),
        ] {
            let error = ServerConfig::from_args(["batond", flag]).unwrap_err().to_string();
            assert!(error.contains(range), "{error}");
        }
    }
}
