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
fn every_flag_that_is_a_setting_is_a_key_of_the_file() {
    let command = ServerConfig::command();
    let flags: Vec<_> = command
        .get_arguments()
        .filter_map(|arg| Some((arg.get_long()?, arg.get_id().as_str())))
        .filter(|(long, _)| {
            !["config", "restore", "check-config", "help", "version"].contains(long)
        })
        .collect();
    let keys: Vec<_> = SETTINGS.iter().map(|setting| (setting.key, setting.id)).collect();
    assert_eq!(flags, keys);
}

#[test]
fn file_errors_name_line_key_and_remedy() {
    assert_eq!(file_error("\nleese = 1"), "line 2: unknown key leese: did you mean lease?");
    let message = file_error("qqq = 1");
    assert!(message.starts_with("line 1: unknown key qqq: expected one of"), "{message}");
    assert_eq!(
        file_error("files = 7\nlease = \"1ms\""),
        "line 2: lease = 1ms: out of range: 20ms to 1d"
    );
    assert_eq!(
        file_error("data = [1]"),
        "line 1: data: expected a text or a decimal number, found array"
    );
    // All at once, the first line first.
    assert_eq!(
        file_error("lease = 5\nleese = 1"),
        "line 1: lease = 5: expected a whole number with a unit: ms, s, m, h or d (as in 10s); \
         line 2: unknown key leese: did you mean lease?"
    );
    assert!(file_error("files = 1\nfiles = 2").starts_with("line 2: "));
    assert!(file_error("files =").starts_with("line 1: "));
}

#[test]
fn a_bad_file_is_refused_even_where_a_flag_overrides_it() {
    assert!(parse(&["--files", "7"], "files = 0").is_err());
}

#[test]
fn what_is_shown_is_a_file_with_the_same_settings() {
    let file = "http = \"[::1]:10080\"\ndata-limit = \"3GiB\"\ndata = \"a \\\"b\\\"\"\n";
    let config = parse(&["--lease", "2s", "--session-limit=5"], file).unwrap();
    let again = parse(&[], &config.to_toml()).unwrap();
    assert_eq!(again.to_toml(), config.to_toml());
    assert_eq!((again.lease_ms, again.data_limit), (2_000, 3 << 30));
    let defaults = ServerConfig::from_args(["batond"]).unwrap();
    assert!(defaults.to_toml().contains("data-limit = \"none\"\n"));
    assert_eq!(parse(&[], &defaults.to_toml()).unwrap().to_toml(), defaults.to_toml());
}

#[test]
fn a_newer_file_changes_what_can_change_and_names_the_rest() {
    let mut config = parse(&["--files", "3"], "lease = \"1s\"").unwrap();
    let newer = "lease = \"2s\"\nfiles = 9\ndurability = \"os\"\ntrace = \"debug\"";
    let newer = parse(&["--files", "3"], newer).unwrap();
    let changes = config.take_over(&newer);
    let told = |changed: &[Changed]| -> Vec<String> {
        changed.iter().map(|c| format!("{} {} {}", c.key, c.old, c.new)).collect()
    };
    // The flag goes before the file, now as before.
    assert_eq!(told(&changes.made), ["lease 1s 2s", "trace info debug"]);
    assert_eq!(told(&changes.left), ["durability sync os"]);
    assert_eq!((config.lease_ms, config.durability), (2_000, Durability::Sync));
    assert_eq!(config.take_over(&newer).made, []);
}

#[test]
fn flags_out_of_range_name_the_range() {
    for (flag, range) in [
        ("--files=0", "1 to 10000"),
        ("--files=10001", "1 to 10000"),
        ("--lease=2d", "20ms to 1d"),
        ("--session-ttl=1ms", "100ms to 30d"),
        ("--section-limit=3GiB", "1B to 2GiB"),
        ("--session-limit=1000001", "1 to 1000000"),
        ("--waiter-limit=0", "1 to 1000000"),
        ("--disk-floor=1KiB", "at least 256KiB"),
        ("--data-limit=much", "or none"),
        ("--http=10080", "127.0.0.1:10080"),
        ("--spin-us=1001", "0 to 1000"),
    ] {
        let error = ServerConfig::from_args(["batond", flag]).unwrap_err().to_string();
        assert!(error.contains(range), "{error}");
    }
}
