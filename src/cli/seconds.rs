//! Times as people give them to commands: in seconds, perhaps a fraction.

use std::str::FromStr;
use std::time::Duration;

/// A time in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Seconds, String> {
        // What is no time, such as -1 or inf, is none to the second step.
        let seconds = text.trim_start().parse().ok();
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.map(Seconds).ok_or_else(|| "not a number of seconds such as 10 or 0.5".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction_and_must_be_a_time() {
        let millis = |text: &str| text.parse::<Seconds>().ok().map(|time| time.0.as_millis());
        for (text, expected) in
            [("0", 0), ("2.5", 2500), (".5", 500), ("1e3", 1_000_000), (" 1", 1000)]
        {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for text in ["", "soon", "-1", "inf", "nan", "1s", "1e300"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
