//! What a client was told about its appends, and whether the server's files bear it out.

use crate::client::call::Answer;
use crate::client::error::Error;
use crate::client::model::{Model, Section};
use crate::types::{FencingToken, SessionId};

type Appends = Vec<Vec<u8>>;

#[derive(Default)]
pub(super) struct Journal {
    count: u64,
    token: Option<FencingToken>,
    /// Appends acknowledged in the section under way.
    acked: Appends,
    /// Appends of the section under way with an unknown outcome.
    unknown: Appends,
    /// Must not be in the files.
    never: Appends,
    /// Whole sections that are in the files or not.
    maybe: Vec<Appends>,
    /// Sections that are in the files, with what else may be in them.
    surely: Vec<(Appends, Appends)>,
}

impl Journal {
    /// Bytes like no others: empty ones cannot be told apart.
    pub(super) fn next_data(&mut self, client: usize, pieces: u64) -> Vec<u8> {
        self.count += 1;
        let mut data = format!("client {client} append {:06};", self.count).into_bytes();
        let len = data.len() + if pieces > 30 { (pieces - 30) as usize * 1000 } else { 0 };
        data.resize(len, b'.');
        data
    }

    pub(super) fn acquired(&mut self, outcome: &Result<Answer, Error>) {
        match outcome {
            Ok(Answer::Granted(token)) => {
                self.holds(Some(*token));
            }
            Err(Error::WouldBlock) => {
                // It may have come while an earlier call was not settled.
            }
            other => self.learned(other),
        }
    }

    pub(super) fn appended(
        &mut self,
        data: &[u8],
        token: Option<FencingToken>,
        outcome: &Result<Answer, Error>,
    ) {
        match outcome {
            Ok(_) => {
                // The grant may have become known while an earlier acquire was settled.
                self.holds(token);
                self.acked.push(data.to_vec());
            }
            Err(Error::TimedOut) => self.unknown.push(data.to_vec()),
            Err(_) => self.never.push(data.to_vec()),
        }
        self.learned(outcome);
    }

    pub(super) fn released(
        &mut self,
        outcome: &Result<Answer, Error>,
        model: &Model,
        session: SessionId,
    ) {
        let acked = std::mem::take(&mut self.acked);
        match outcome {
            // Closing without holding anything is no release.
            Ok(_) if acked.is_empty() => self.discard_maybe(),
            Ok(_) => {
                let last = model.published.iter().rfind(|section| section.session == session);
                let last = last.expect("what was released is published");
                assert!(acked.iter().all(|append| last.appends.contains(append)));
                self.surely.push((acked, std::mem::take(&mut self.unknown)));
            }
            Err(Error::TimedOut | Error::SessionLost) => {
                self.maybe.push(acked);
                self.discard_maybe();
            }
            // Not done, and nothing was sent: all is as it was.
            Err(Error::Unavailable) => {
                self.acked = acked;
                return;
            }
            Err(_) => {
                self.acked = acked;
                self.learned(outcome);
            }
        }
        self.token = None;
    }

    pub(super) fn aborted(&mut self, outcome: &Result<Answer, Error>) {
        match outcome {
            // An abort on its way is settled before anything else.
            Ok(_) | Err(Error::TimedOut) => self.discard(),
            _ => self.learned(outcome),
        }
    }

    /// Any call may tell that the section is lost.
    pub(super) fn learned(&mut self, outcome: &Result<Answer, Error>) {
        if let Err(Error::LeaseExpired | Error::NotHolder | Error::SessionLost) = outcome {
            self.discard();
        }
    }

    fn holds(&mut self, token: Option<FencingToken>) {
        if self.token != token {
            assert!(self.acked.is_empty(), "acknowledged appends were lost unnoticed");
            // What timed out before the token was known may be staged under it.
            self.token = token;
        }
    }

    fn discard(&mut self) {
        self.never.append(&mut self.acked);
        self.never.append(&mut self.unknown);
        self.token = None;
    }

    /// Each append of unknown outcome is in the files or not.
    fn discard_maybe(&mut self) {
        self.maybe.extend(self.unknown.drain(..).map(|append| vec![append]));
    }

    /// Compares all that was told with what was published.
    pub(super) fn check(&self, published: &[Section]) {
        let holding = |append: &Vec<u8>| -> Vec<usize> {
            let found = published.iter().enumerate().flat_map(|(index, section)| {
                section.appends.iter().filter(|a| *a == append).map(move |_| index)
            });
            found.collect()
        };
        for append in &self.never {
            let text = String::from_utf8_lossy(&append[..23.min(append.len())]).into_owned();
            assert!(holding(append).is_empty(), "{text} was not done, but is there");
        }
        for group in &self.maybe {
            let places: Vec<_> = group.iter().map(holding).collect();
            assert!(places.iter().all(|place| *place == places[0] && place.len() <= 1));
        }
        for (acked, unknown) in &self.surely {
            let place = holding(&acked[0]);
            assert_eq!(place.len(), 1, "each acknowledged append once");
            let in_order: Vec<_> = published[place[0]].appends.iter().collect();
            let mut expected = acked.iter();
            let mut next = expected.next();
            for append in in_order {
                if Some(append) == next {
                    next = expected.next();
                } else {
                    assert!(unknown.contains(append), "nothing else is in the section");
                }
            }
            assert!(next.is_none(), "all of the section, in order");
        }
    }
}
