//! What `batond` can be told: by flag, by environment, by a TOML file, or not at all, in this
//! order of precedence. One setting has one name: `--session-ttl`, `BATON_SESSION_TTL` and the
//! file's `session-ttl` take the same text and check it alike.

use super::cluster::settings::{self, Seeds, Servers};
use crate::limits::{
    DISK_FLOOR_DEFAULT, FILES_DEFAULT, FILES_MAX, HISTORY_LIMIT_DEFAULT, HISTORY_LIMIT_MAX,
    LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, SECTION_LIMIT_DEFAULT, SECTION_LIMIT_MAX,
    SESSION_LIMIT_DEFAULT, SESSION_TTL_MS_DEFAULT, SESSION_TTL_MS_MAX, SESSION_TTL_MS_MIN,
    SESSIONS_MAX, SPIN_US_DEFAULT, SPIN_US_MAX,
};
use crate::units::{format_bytes, format_duration_ms, parse_bytes, parse_duration_ms};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::str::FromStr;
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

    /// The most sessions at once, 1 to 1000000; one more client is refused
    #[arg(long, env = "BATON_SESSION_LIMIT", value_name = "N")]
    #[arg(value_parser = count, default_value_t = SESSION_LIMIT_DEFAULT)]
    pub session_limit: u64,

    /// The most clients that wait for the lock at once, 1 to 1000000; one more is refused
    #[arg(long, env = "BATON_WAITER_LIMIT", value_name = "N")]
    #[arg(value_parser = count, default_value_t = SESSION_LIMIT_DEFAULT)]
    pub waiter_limit: u64,

    /// The most bytes that all data files together may have, or none: appends beyond it are refused
    #[arg(long, env = "BATON_DATA_LIMIT", value_name = "SIZE", default_value = "none")]
    #[arg(value_parser = data_limit)]
    pub data_limit: u64,

    /// Records that the history of the lock keeps, 1 to 50000; the oldest is forgotten for one more
    #[arg(long, env = "BATON_HISTORY_LIMIT", value_name = "N")]
    #[arg(value_parser = history_limit, default_value_t = HISTORY_LIMIT_DEFAULT)]
    pub history_limit: u32,

    /// Free space to leave on the disk, at least 256KiB: below it nothing is taken on that grows
    #[arg(long, env = "BATON_DISK_FLOOR", value_name = "SIZE", value_parser = disk_floor)]
    #[arg(default_value = format_bytes(DISK_FLOOR_DEFAULT))]
    pub disk_floor: u64,

    /// Address and TCP port for the status page, health checks and metrics, or none. Whoever can
    /// reach it can read everything
    #[arg(long, env = "BATON_HTTP", value_name = "ADDR:PORT", default_value = "none")]
    // By its full path: clap takes a bare `Option` for a flag without a default.
    #[arg(value_parser = http)]
    pub http: std::option::Option<SocketAddr>,

    /// How long to look for the next request before sleeping while requests come in quick
    /// succession, in microseconds, 0 to 1000: sleeping and waking costs more than a request.
    /// 0 spares the processor
    #[arg(long, env = "BATON_SPIN_US", value_name = "MICROSECONDS", default_value_t = SPIN_US_DEFAULT)]
    #[arg(value_parser = spin_us)]
    pub spin_us: u64,

    /// The number of this server in its cluster, or none for a server of its own
    #[arg(long, env = "BATON_NODE", value_name = "NUMBER", default_value = "none")]
    #[arg(value_parser = node)]
    pub node: std::option::Option<u64>,

    /// All servers that a cluster begins with, the same for each and ever after: where they reach
    /// each other, by TCP. Three or five; what a majority has outlives the rest
    #[arg(long, env = "BATON_CLUSTER", value_name = "NUMBER=HOST:PORT,…", default_value = "none")]
    pub cluster: Servers,

    /// Some servers of a cluster that is there, for one that is added to it: it waits until
    /// baton cluster add has let it in, and takes over what they have
    #[arg(long, env = "BATON_JOIN", value_name = "HOST:PORT,…", default_value = "none")]
    pub join: Seeds,

    /// Address and TCP port for the other servers, or none for that in --cluster
    #[arg(long, env = "BATON_PEER_LISTEN", value_name = "ADDR:PORT", default_value = "none")]
    #[arg(value_parser = http)]
    pub peer_listen: std::option::Option<SocketAddr>,

    /// Address and UDP port that clients of the cluster are told, or none for that of --listen
    #[arg(long, env = "BATON_ADVERTISE", value_name = "ADDR:PORT", default_value = "none")]
    #[arg(value_parser = advertise)]
    pub advertise: std::option::Option<SocketAddrV4>,

    /// TOML file with any of these settings, named like the flags: lease = "10s". Read again on
    /// SIGHUP, for what can change while the server runs
    #[arg(long, env = "BATON_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Begin with a backup (baton backup DIR): the data directory must be new or empty. In a cluster
    /// all servers begin with the same one. Later starts need no --restore; with the same one they go
    /// on
    #[arg(long, value_name = "DIR")]
    pub restore: Option<PathBuf>,

    /// Check flags, environment and file, print the settings in force as a TOML file, and end
    #[arg(long)]
    pub check_config: bool,

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
    /// The configuration file says something wrong, in these lines.
    #[error("{}, {}", path.display(), list(faults))]
    File { path: PathBuf, faults: BTreeMap<usize, String> },
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
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut faults = BTreeMap::new();
        let mut note = |offset: usize, message| {
            let line = 1 + text[..offset.min(text.len())].matches('\n').count();
            faults.entry(line).or_insert(message);
        };
        for error in errors {
            note(error.span().map_or(0, |span| span.start), error.message().to_owned());
        }
        for (key, value) in table.get_ref() {
            let name: &str = key.get_ref();
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == name) else {
                note(key.span().start, unknown_key(name));
                continue;
            };
            let value_text = match value.get_ref() {
                DeValue::String(text) => text.clone().into_owned(),
                DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
                other => {
                    let message = format!(
                        "{name}: expected a text or a decimal number, found {}",
                        other.type_str()
                    );
                    note(value.span().start, message);
                    continue;
                }
            };
            let mut checked = self.clone();
            if let Err(why) = (setting.set)(&mut checked, &value_text) {
                note(value.span().start, format!("{name} = {value_text}: {why}"));
            } else if matches.value_source(setting.id) == Some(ValueSource::DefaultValue) {
                *self = checked;
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(ConfigError::File { path: path.to_owned(), faults }),
        }
    }

    /// The settings as a TOML file that would set them all.
    pub fn to_toml(&self) -> String {
        let line = |setting: &Setting| {
            format!("{} = {}\n", setting.key, toml::Value::String((setting.show)(self)))
        };
        SETTINGS.iter().map(line).collect()
    }

    /// Takes over from a newer configuration what can change while the server runs. What it has
    /// otherwise is told: the key, the value in force, the new one.
    pub fn take_over(&mut self, newer: &ServerConfig) -> Changes {
        let mut changes = Changes::default();
        for setting in SETTINGS {
            let (old, new) = ((setting.show)(self), (setting.show)(newer));
            if new == old {
                continue;
            }
            let is_made = setting.is_live && (setting.set)(self, &new).is_ok();
            let list = if is_made { &mut changes.made } else { &mut changes.left };
            list.push(Changed { key: setting.key, old, new });
        }
        changes
    }
}

/// What a configuration that was read again leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In force from now on.
    pub made: Vec<Changed>,
    /// In force after a restart.
    pub left: Vec<Changed>,
}

/// A setting that has another value than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub key: &'static str,
    pub old: String,
    pub new: String,
}

/// A key of the configuration file.
struct Setting {
    key: &'static str,
    /// The field, as clap knows it.
    id: &'static str,
    /// It can change while the server runs.
    is_live: bool,
    /// How its text becomes the field's value.
    set: fn(&mut ServerConfig, &str) -> Result<(), String>,
    /// The text for the field's value, as `set` takes it.
    show: fn(&ServerConfig) -> String,
}

macro_rules! setting {
    ($key:literal, $field:ident, $parse:expr, $show:expr, $is_live:literal) => {
        Setting {
            key: $key,
            id: stringify!($field),
            is_live: $is_live,
            set: |config, text| $parse(text).map(|value| config.$field = value),
            show: |config| $show(&config.$field),
        }
    };
}

const SETTINGS: &[Setting] = &[
    setting!("listen", listen, listen, text_of, false),
    setting!("data", data, data, |path: &PathBuf| path.display().to_string(), false),
    setting!("files", files, files, text_of, false),
    setting!("lease", lease_ms, lease_ms, duration_of, true),
    setting!("session-ttl", session_ttl_ms, session_ttl_ms, duration_of, true),
    setting!("durability", durability, durability, durability_of, false),
    setting!("section-limit", section_limit, section_limit, size_of, true),
    setting!("session-limit", session_limit, count, text_of, true),
    setting!("waiter-limit", waiter_limit, count, text_of, true),
    setting!("data-limit", data_limit, data_limit, size_of, true),
    setting!("history-limit", history_limit, history_limit, text_of, false),
    setting!("disk-floor", disk_floor, disk_floor, size_of, true),
    setting!("http", http, http, none_or, false),
    setting!("spin-us", spin_us, spin_us, text_of, false),
    setting!("node", node, node, none_or, false),
    setting!("cluster", cluster, Servers::from_str, text_of, false),
    setting!("join", join, Seeds::from_str, text_of, false),
    setting!("peer-listen", peer_listen, http, none_or, false),
    setting!("advertise", advertise, advertise, none_or, false),
    setting!("trace", trace, trace, text_of, true),
];

fn text_of(value: &impl ToString) -> String {
    value.to_string()
}

fn duration_of(ms: &u64) -> String {
    format_duration_ms(*ms)
}

fn size_of(bytes: &u64) -> String {
    if *bytes == u64::MAX { "none".into() } else { format_bytes(*bytes) }
}

fn durability_of(durability: &Durability) -> String {
    match durability {
        Durability::Sync => "sync".into(),
        Durability::Os => "os".into(),
    }
}

fn none_or<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "none".into(), T::to_string)
}

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

fn spin_us(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(us) if us <= SPIN_US_MAX => Ok(us),
        _ => Err(format!("expected a number of microseconds from 0 to {SPIN_US_MAX}")),
    }
}

fn trace(text: &str) -> Result<LevelFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text.to_ascii_lowercase();
    let known = LEVELS.contains(&text.as_str()).then(|| text.parse().ok()).flatten();
    known.ok_or_else(|| format!("expected one of {}", LEVELS.join(", ")))
}

/// None at all would not do: a lease ends for somebody who waits, and never where nobody may.
fn count(text: &str) -> Result<u64, String> {
    let most = SESSIONS_MAX as u64;
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {most}"))
}

fn data_limit(text: &str) -> Result<u64, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(u64::MAX);
    }
    parse_bytes(text).map_err(|why| format!("{why}, or none"))
}

fn history_limit(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=HISTORY_LIMIT_MAX).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {HISTORY_LIMIT_MAX}"))
}

fn disk_floor(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    let least = format_bytes(DISK_FLOOR_DEFAULT);
    if bytes < DISK_FLOOR_DEFAULT { Err(format!("at least {least}")) } else { Ok(bytes) }
}

fn http(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let addr = text.parse().map(Some);
    addr.map_err(|_| "expected an address and a port (as in 127.0.0.1:10080), or none".into())
}

fn node(text: &str) -> Result<Option<u64>, String> {
    if text.eq_ignore_ascii_case("none") { Ok(None) } else { settings::node(text).map(Some) }
}

fn advertise(text: &str) -> Result<Option<SocketAddrV4>, String> {
    match text.eq_ignore_ascii_case("none") {
        true => Ok(None),
        false => match listen(text) {
            Ok(addr) if addr.ip().is_unspecified() || addr.port() == 0 => {
                Err("expected an address and a port at which clients reach this server".into())
            }
            found => found.map(Some).map_err(|why| format!("{why}, or none")),
        },
    }
}

fn list(faults: &BTreeMap<usize, String>) -> String {
    let lines: Vec<_> =
        faults.iter().map(|(line, fault)| format!("line {line}: {fault}")).collect();
    lines.join("; ")
}

fn unknown_key(name: &str) -> String {
    let likeness = |setting: &&Setting| (strsim::jaro(name, setting.key) * 1e6) as u64;
    let nearest = SETTINGS.iter().max_by_key(likeness);
    match nearest.filter(|setting| likeness(setting) > 700_000) {
        Some(setting) => format!("unknown key {name}: did you mean {}?", setting.key),
        None => {
            let known: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
            format!("unknown key {name}: expected one of {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
