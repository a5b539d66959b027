//! The line language in which a script says what is to happen to which message. docs/PROXY.md
//! teaches it; [`Script::parse`] reads it.

use super::census::Sighting;
use super::message::{Direction, Kind, REPLIES, REQUESTS};
use std::str::FromStr;
use std::time::Duration;

/// What to do with particular messages: one rule a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub rules: Vec<Rule>,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands, from 1.
    pub line: usize,
    pub verb: Verb,
    pub pattern: Pattern,
    /// Transmissions on which it acts; `None`: all that match.
    pub times: Option<u32>,
    pub when: Option<When>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The datagram never arrives.
    Drop,
    /// It is kept back and goes on later.
    Hold,
    /// It passes, and once more later.
    Duplicate,
}

/// When a held datagram or a copy goes on, or a `drop` ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// So long after it came.
    After(Duration),
    /// Right after a datagram that matches came by.
    At(Pattern),
}

/// A description of datagrams, such as `request append of 1 nth 2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub direction: Direction,
    pub subject: Subject,
    pub client: Option<u32>,
    pub nth: Option<u32>,
    pub copy: Option<u32>,
}

/// Which messages of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Any,
    Is(Kind),
    /// Replies to requests of this kind, whatever they say.
    Answers(Kind),
}

/// What is wrong with a script, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found {found}")]
pub struct ScriptError {
    pub line: usize,
    pub expected: String,
    pub found: String,
}

impl Script {
    /// Reads a script. Empty lines, and everything from a `#` on, mean nothing.
    pub fn parse(text: &str) -> Result<Script, ScriptError> {
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let mut words = Words::new(index + 1, line);
            if words.peek().is_some() {
                rules.push(words.rule()?);
                words.end()?;
            }
        }
        Ok(Script { rules })
    }
}

impl Pattern {
    /// Whether the datagram is one of those described.
    pub fn matches(&self, seen: &Sighting) -> bool {
        let (nth, copy) = match self.subject {
            Subject::Any => (seen.nth, seen.copy),
            Subject::Is(kind) if kind == seen.kind => (seen.nth, seen.copy),
            Subject::Answers(kind) => match seen.answers {
                Some(answered) if answered.kind == kind => (answered.nth, answered.copy),
                _ => return false,
            },
            Subject::Is(_) => return false,
        };
        self.direction == seen.direction
            && self.client.is_none_or(|client| client == seen.client)
            && self.nth.is_none_or(|wanted| wanted == nth)
            && self.copy.is_none_or(|wanted| wanted == copy)
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        Script::parse(text)
    }
}

impl FromStr for Pattern {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut words = Words::new(1, text);
        let pattern = words.pattern()?;
        words.end()?;
        Ok(pattern)
    }
}

/// Reads `250ms`, `2s`, `1500us`, or a bare number of milliseconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let value: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "" | "ms" => Some(Duration::from_millis(value)),
        "s" => Some(Duration::from_secs(value)),
        "us" | "µs" => Some(Duration::from_micros(value)),
        _ => None,
    }
}

/// The words of one line that are still to be read.
struct Words<'a> {
    line: usize,
    rest: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
}

impl<'a> Words<'a> {
    fn new(line: usize, text: &'a str) -> Self {
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        Words { line, rest: text.split_whitespace().peekable() }
    }

    fn rule(&mut self) -> Result<Rule, ScriptError> {
        let verb = match self.peek() {
            Some("drop") => Verb::Drop,
            Some("hold") => Verb::Hold,
            Some("duplicate") => Verb::Duplicate,
            _ => return Err(self.expected("\"drop\", \"hold\" or \"duplicate\"")),
        };
        self.rest.next();
        let pattern = self.pattern()?;
        let mut times = Some(1);
        let is_counted = match self.peek() {
            Some("times") => {
                self.rest.next();
                times = Some(self.number("how many times")?);
                true
            }
            Some("always") => {
                self.rest.next();
                times = None;
                true
            }
            _ => false,
        };
        let when = self.when(verb)?;
        // What lasts until an event would leak if the repetitions of the message passed.
        if !is_counted && verb != Verb::Duplicate && matches!(when, Some(When::At(_))) {
            times = None;
        }
        Ok(Rule { line: self.line, verb, pattern, times, when })
    }

    fn when(&mut self, verb: Verb) -> Result<Option<When>, ScriptError> {
        match (verb, self.peek()) {
            (Verb::Drop | Verb::Hold, Some("until")) | (Verb::Duplicate, Some("at")) => {
                self.rest.next();
                Ok(Some(When::At(self.pattern()?)))
            }
            (Verb::Hold, Some("for")) | (Verb::Duplicate, Some("after")) => {
                self.rest.next();
                let duration = self.peek().and_then(parse_duration);
                let duration =
                    duration.ok_or_else(|| self.expected("a duration such as 250ms or 2s"))?;
                self.rest.next();
                Ok(Some(When::After(duration)))
            }
            (Verb::Hold, _) => Err(self.expected("\"until\" and an event, or \"for\" and a time")),
            (Verb::Drop | Verb::Duplicate, _) => Ok(None),
        }
    }

    fn pattern(&mut self) -> Result<Pattern, ScriptError> {
        let (direction, kinds) = match self.peek() {
            Some("request") => (Direction::Request, &REQUESTS[..]),
            Some("reply") => (Direction::Reply, &REPLIES[..]),
            _ => return Err(self.expected("\"request\" or \"reply\"")),
        };
        self.rest.next();
        let subject = match self.peek() {
            Some("any") => {
                self.rest.next();
                Subject::Any
            }
            Some("to") if direction == Direction::Reply => {
                self.rest.next();
                Subject::Answers(self.kind(&REQUESTS)?)
            }
            _ => Subject::Is(self.kind(kinds)?),
        };
        let mut pattern = Pattern { direction, subject, client: None, nth: None, copy: None };
        loop {
            let (slot, what) = match self.peek() {
                Some("of") => (&mut pattern.client, "a client's number"),
                Some("nth") => (&mut pattern.nth, "which message"),
                Some("copy") => (&mut pattern.copy, "which transmission"),
                _ => return Ok(pattern),
            };
            if slot.is_some() {
                return Err(self.expected("each of \"of\", \"nth\" and \"copy\" at most once"));
            }
            self.rest.next();
            *slot = Some(self.number(what)?);
        }
    }

    fn kind(&mut self, kinds: &[(&str, Kind)]) -> Result<Kind, ScriptError> {
        let word = self.peek();
        match kinds.iter().find(|(name, _)| Some(*name) == word) {
            Some(&(_, kind)) => {
                self.rest.next();
                Ok(kind)
            }
            None => {
                let names: Vec<&str> = kinds.iter().map(|&(name, _)| name).collect();
                Err(self.expected(&format!("\"any\" or a kind of message ({})", names.join(", "))))
            }
        }
    }

    fn number(&mut self, what: &str) -> Result<u32, ScriptError> {
        let number = self.peek().and_then(|word| word.parse().ok()).filter(|&number| number > 0);
        let number = number.ok_or_else(|| self.expected(&format!("{what}, a number from 1 on")))?;
        self.rest.next();
        Ok(number)
    }

    fn end(&mut self) -> Result<(), ScriptError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.expected("the end of the line")) }
    }

    fn peek(&mut self) -> Option<&'a str> {
        self.rest.peek().copied()
    }

    fn expected(&mut self, expected: &str) -> ScriptError {
        let found =
            self.peek().map_or("the end of the line".to_owned(), |word| format!("{word:?}"));
        ScriptError { line: self.line, expected: expected.to_owned(), found }
    }
}

#[cfg(test)]
mod tests;
