//! Reading, with many pieces on their way at once where much is read.

use super::{Connection, RECEIVE_BATCH};
use crate::client::ahead::Ahead;
use crate::client::call::{Answer, Call, Source};
use crate::client::clock::now_us;
use crate::client::error::Error;
use crate::limits::READ_MAX;

impl Connection {
    /// Reads published bytes of a file from `offset` on. Returns how many there were; fewer than
    /// asked for only at the end of the file. Much at once is faster than little by little.
    pub fn read(
        &mut self,
        file: impl AsRef<[u8]>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        self.fetch(Source::File(file.as_ref()), offset, buffer)
    }

    /// How many bytes of a file are published.
    pub fn file_length(&mut self, file: impl AsRef<[u8]>) -> Result<u64, Error> {
        let call = Call::Read { file: file.as_ref(), offset: 0, max: 1 };
        match self.run(call)? {
            Answer::Read { length } => Ok(length),
            other => Err(Error::Internal(format!("a read was answered by {other:?}"))),
        }
    }

    /// Fills the buffer from `offset` on, as far as there is something. One piece is fetched as by
    /// any call, which finds the server or tells why there is none; many pieces at once follow.
    pub(in crate::client) fn fetch(
        &mut self,
        source: Source<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        let mut filled = 0;
        loop {
            let rest = &mut buffer[filled..];
            let at = offset.saturating_add(filled as u64);
            let length = match self.run(source.call(at, rest.len()))? {
                Answer::Read { length } | Answer::Page { next: length } => length,
                other => return Err(Error::Internal(format!("a read was answered by {other:?}"))),
            };
            let data = self.exchange.read_data();
            let first = data.len().min(rest.len());
            rest[..first].copy_from_slice(&data[..first]);
            filled += first;
            let at = at.saturating_add(first as u64);
            let there = length.saturating_sub(at);
            let rest = &mut buffer[filled..];
            if rest.is_empty() || first == 0 || there == 0 {
                return Ok(filled);
            }
            let len = usize::try_from(there).unwrap_or(usize::MAX).min(rest.len()).min(AHEAD_MAX);
            if len > READ_MAX {
                filled += self.fetch_ahead(source, at, &mut rest[..len])?;
            }
            if filled == buffer.len() {
                return Ok(filled);
            }
        }
    }

    /// Fills the buffer with pieces that are there; returns how much of it has come when it ends,
    /// for whatever reason.
    fn fetch_ahead(
        &mut self,
        source: Source<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        let (Some(socket), Some(reads)) = (&self.socket, self.exchange.begin_reads()) else {
            return Ok(0);
        };
        let patience_us = self.exchange.patience_us();
        let mut ahead = Ahead::new(buffer.len(), now_us());
        while !ahead.is_over() {
            while let Some(piece) = ahead.poll_transmit(now_us(), patience_us) {
                let op = source.op(offset + piece.at as u64, piece.len);
                let request = self.outgoing.next();
                reads.encode(op, piece.stamp, request);
                socket.send(request, reads.server);
            }
            let until_us = ahead.timeout(patience_us);
            let mut received = socket.receive_until(until_us, &mut self.incoming, true)?;
            for _ in 0..RECEIVE_BATCH {
                let Some((len, from)) = received else { break };
                if let Some((stamp, data)) = reads.decode(from, &self.incoming[..len])
                    && let Some(at) = ahead.take(stamp, data.map(<[u8]>::len), now_us())
                    && let Some(data) = data
                {
                    buffer[at..at + data.len()].copy_from_slice(data);
                }
                received = socket.receive(&mut self.incoming)?;
            }
        }
        Ok(ahead.whole())
    }
}

/// Bytes that are fetched at once between two ordinary calls: a holder learns from these that its
/// lease is renewed.
const AHEAD_MAX: usize = 1 << 20;
