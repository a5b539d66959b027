//! One server: a command is committed as soon as it has its place in this machine's log, and what
//! it caused is told when the log has got far enough.
//!
//! Pure bookkeeping, kept under the server's spin lock: it hands out the jobs that need the disk
//! ([`Job`]) and is told how they ended. At most one write and one flush are under way at a time,
//! side by side; what is proposed meanwhile goes out together with the next.

use crate::machine::{Command, Part};
use crate::mutant;
use crate::types::LogIndex;
use crate::wal::{Batch, Pending};
use std::collections::VecDeque;

/// A place in the log, by what has happened to everything up to it. Each mark is never ahead of
/// the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Handed to the kernel: survives the death of this process.
    pub written: LogIndex,
    /// On stable storage, or as good as that with `--durability os`.
    pub stable: LogIndex,
    /// Stable, and what it publishes is in the data files.
    pub published: LogIndex,
}

/// Work for the disk.
#[derive(Debug)]
pub enum Job {
    Write(Batch),
    Flush(Flush),
}

/// Make the log stable (with `--durability os` only at a start), then publish.
#[derive(Debug)]
pub struct Flush {
    /// The log is written up to here.
    pub through: LogIndex,
    pub needs_sync: bool,
    /// What to publish, in order; taken off the front as it gets into the files.
    pub parts: VecDeque<Part>,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// No space: nothing is lost, the job can be done again when there is room.
    Full,
    /// The log cannot be trusted any more.
    Failed,
}

#[derive(Debug)]
pub struct Solo {
    syncs: bool,
    /// Where the log ended at the start.
    found: LogIndex,
    last: LogIndex,
    marks: Marks,
    pending: Pending,
    spare: Vec<u8>,
    /// A batch that did not fit on the disk, to be written first.
    unwritten: Option<Batch>,
    publishing: VecDeque<(LogIndex, Vec<Part>)>,
    /// A flush that is to be done again.
    unflushed: Option<Flush>,
    is_writing: bool,
    is_flushing: bool,
    is_full: bool,
    has_failed: bool,
}

impl Solo {
    /// Goes on behind a log that is stable and published up to `last`.
    pub fn new(last: LogIndex, syncs: bool) -> Self {
        Solo {
            syncs,
            found: last,
            last,
            marks: Marks { written: last, stable: last, published: last },
            pending: Pending::new(),
            spare: Vec::new(),
            unwritten: None,
            publishing: VecDeque::new(),
            unflushed: None,
            is_writing: false,
            is_flushing: false,
            is_full: false,
            has_failed: false,
        }
    }

    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// The last entry that was proposed.
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// Acknowledge nothing any more.
    pub fn fail(&mut self) {
        self.has_failed = true;
    }

    /// The last write found no space; cleared when it has been done after all.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// A write or sync has failed: nothing may be acknowledged any more.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Everything proposed is published, and nothing is under way.
    pub fn is_settled(&self) -> bool {
        self.marks.published == self.last && !self.is_writing && !self.is_flushing
    }

    /// Gives the command its place in the log.
    pub fn propose(&mut self, command: &Command) -> LogIndex {
        self.last = self.last.next();
        self.pending.push(self.last, |buffer| encode(command, buffer));
        self.last
    }

    /// Has these appended to the data files once entry `index` is stable.
    pub fn publish(&mut self, index: LogIndex, parts: Vec<Part>) {
        self.publishing.push_back((index, parts));
    }

    /// The next thing to do on the disk, if it is not under way already. `wants_stable`: a reply
    /// waits for the log to be stable.
    pub fn poll_job(&mut self, wants_stable: bool) -> Option<Job> {
        if self.has_failed || self.is_full {
            return None;
        }
        if !self.is_writing
            && let Some(batch) = self.unwritten.take().or_else(|| self.next_batch())
        {
            self.is_writing = true;
            if mutant::is("written_ahead") {
                self.marks.written = batch.last;
            }
            return Some(Job::Write(batch));
        }
        let wants_flush = wants_stable || self.unflushed.is_some() || !self.publishing.is_empty();
        if !self.is_flushing && wants_flush && self.marks.written > self.marks.published {
            self.is_flushing = true;
            return Some(Job::Flush(self.unflushed.take().unwrap_or_else(|| self.next_flush())));
        }
        None
    }

    /// A write ended.
    pub fn handle_written(&mut self, batch: Batch, ending: Ending) {
        self.is_writing = false;
        match ending {
            Ending::Failed if mutant::is("write_error_ignored") => self.marks.written = batch.last,
            Ending::Done => {
                self.marks.written = batch.last;
                self.spare = batch.into_buffer();
            }
            Ending::Full => {
                self.unwritten = Some(batch).filter(|_| !mutant::is("full_batch_dropped"));
                self.is_full = true;
            }
            Ending::Failed => self.has_failed = true,
        }
    }

    /// Has a flush that nobody has begun yet cover what was written meanwhile, too.
    pub fn widen(&mut self, flush: &mut Flush) {
        if flush.needs_sync {
            let Flush { through, parts, .. } = self.next_flush();
            flush.through = through;
            flush.parts.extend(parts);
        }
    }

    /// A flush ended.
    pub fn handle_flushed(&mut self, flush: Flush, ending: Ending) {
        self.is_flushing = false;
        match ending {
            Ending::Done => {
                let is_ahead = mutant::is("flush_ahead");
                let through = if is_ahead { self.marks.written } else { flush.through };
                self.marks.stable = through;
                self.marks.published = through;
            }
            Ending::Full => {
                self.marks.stable = flush.through;
                if mutant::is("full_flush_counts") {
                    self.marks.published = flush.through;
                }
                let again = Flush { needs_sync: false, ..flush };
                self.unflushed = Some(again).filter(|_| !mutant::is("full_flush_dropped"));
                self.is_full = true;
            }
            Ending::Failed if mutant::is("failed_sync_retried") => self.unflushed = Some(flush),
            Ending::Failed => self.has_failed = true,
        }
    }

    /// Lets what found no space be tried again.
    pub fn retry(&mut self) {
        self.is_full = false;
    }

    fn next_batch(&mut self) -> Option<Batch> {
        (!self.pending.is_empty()).then(|| self.pending.take(std::mem::take(&mut self.spare)))
    }

    fn next_flush(&mut self) -> Flush {
        let through = self.marks.written;
        let mut parts = VecDeque::new();
        while let Some((index, _)) = self.publishing.front()
            && (*index < through || (*index == through && !mutant::is("publish_off_by_one")))
        {
            if let Some((_, more)) = self.publishing.pop_front() {
                parts.extend(more);
            }
            if mutant::is("sections_swapped") {
                parts.make_contiguous().reverse();
            }
        }
        // The first entry of a start is always synced: after a power loss, the next start must not
        // give the same tokens and sessions once more.
        let is_first = self.marks.stable == self.found && !mutant::is("start_not_stable");
        Flush { through, needs_sync: self.syncs || is_first, parts }
    }
}

/// The bytes of a command in the log: postcard (https://postcard.jamesmunns.com/wire-format).
pub(super) fn encode(command: &Command, buffer: &mut Vec<u8>) {
    let mut sink = std::mem::take(buffer);
    // Fails only for types whose length is not known before; `Command` has none.
    sink = postcard::to_extend(command, sink).expect("a command can always be encoded");
    *buffer = sink;
}

/// The log's checksums are right: it is as it was written.
fn unknown(why: &str) -> String {
    format!("a command of another version of the program ({why}): start the one that wrote it")
}

/// Reads a command back from the log.
pub fn decode(payload: &[u8]) -> Result<Command, String> {
    match postcard::take_from_bytes(payload) {
        Ok((command, [])) => Ok(command),
        Ok((_, rest)) => Err(unknown(&format!("{} bytes too many behind it", rest.len()))),
        Err(error) => Err(unknown(&error.to_string())),
    }
}
