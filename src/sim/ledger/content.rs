//! The bytes of an append: whose it is, and a filling that is nowhere the same.

use super::Ledger;
use std::fmt::Write;

impl Ledger {
    /// The letter that stands for an append in a story.
    pub fn name(&mut self, token: u64, serial: u64, letter: char) {
        self.letters.insert((token, serial), letter);
    }

    /// What is in a file, by letters.
    pub fn letters(&self, id: usize) -> String {
        let (mut text, mut at) = (String::new(), 0);
        while let Some((token, serial, end)) = parse(&self.files[id].bytes, at) {
            text.push(self.letters.get(&(token, serial)).copied().unwrap_or('?'));
            at = end;
        }
        text
    }
}

/// The bytes of an append.
pub(super) fn compose(client: usize, token: u64, serial: u64, padding: usize) -> Vec<u8> {
    let mut text = String::new();
    // A String takes everything.
    let _ = write!(text, "{client}.{token}.{serial}.{padding};");
    let mut bytes = text.into_bytes();
    bytes.extend((0..padding).map(|at| filler(serial, at)));
    bytes
}

/// What stands at this place of an append: no piece of it looks like another.
fn filler(serial: u64, at: usize) -> u8 {
    b'a' + ((at as u64 + at as u64 / 97 + serial) % 26) as u8
}

/// Token and serial of the append that stands at `at`, and where it ends.
pub(super) fn parse(bytes: &[u8], at: usize) -> Option<(u64, u64, usize)> {
    let len = bytes[at..].iter().take(80).position(|&byte| byte == b';')?;
    let text = std::str::from_utf8(&bytes[at..at + len]).ok()?;
    let mut numbers = text.split('.').map(|number| number.parse::<u64>().ok());
    let (_client, token, serial) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let start = at + len + 1;
    let end = start + usize::try_from(numbers.next()??).ok()?;
    let filled = bytes.get(start..end)?;
    let is_whole = filled.iter().enumerate().all(|(at, &byte)| byte == filler(serial, at));
    is_whole.then_some((token, serial, end))
}
