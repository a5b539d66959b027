//! Durations and sizes as people write them (`10s`, `64MiB`): the command line, the environment
//! and configuration files read them alike.

const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: &[(&str, u64)] =
    &[("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Milliseconds of a duration such as `500ms`, `10s`, `10m`, `1h` or `1d`.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    scale(text, DURATIONS)
        .ok_or_else(|| "expected a whole number with a unit: ms, s, m, h or d (as in 10s)".into())
}

/// Bytes of a size such as `65536`, `64KiB`, `64MiB` or `1GiB`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    scale(text, SIZES)
        .ok_or_else(|| "expected a whole number of bytes, KiB, MiB or GiB (as in 64MiB)".into())
}

/// A duration in the largest unit that shows it exactly.
pub fn format_duration_ms(ms: u64) -> String {
    format(ms, DURATIONS)
}

/// A size in the largest unit that shows it exactly.
pub fn format_bytes(bytes: u64) -> String {
    format(bytes, &SIZES[1..])
}

fn scale(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn format(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| value >= *factor && value.is_multiple_of(*factor);
    let (name, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{}{name}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_sizes_do_not() {
        assert_eq!(parse_duration_ms("500ms"), Ok(500));
        assert_eq!(parse_duration_ms(" 10 s "), Ok(10_000));
        assert_eq!(parse_duration_ms("1d"), Ok(86_400_000));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("64mib"), Ok(64 << 20));
        for text in ["", "10", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999999s"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
        for text in ["", "MiB", "1e3", "18446744073709551615GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for value in [0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000, 1 << 40] {
            assert_eq!(parse_duration_ms(&format_duration_ms(value)), Ok(value));
            assert_eq!(parse_bytes(&format_bytes(value)), Ok(value));
        }
    }
}
