//! What a member fetches from another: a checkpoint, and what it lacks of the data files. Published
//! bytes only grow and are the same everywhere, so that is the end of each file. Checksums of the
//! whole files tell whether they are.

use super::peers::connect_to_fetch;
use crate::data::{DataFiles, FileMark};
use crate::disk::Disk;
use crate::engine::cluster::checkpoint::Checkpoint;
use crate::engine::cluster::codec::{Input as Reader, put_u64};
use crate::limits::FILES_MAX;
use crate::server::threads::Server;
use crate::types::FileId;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Bytes fetched at once.
const CHUNK: usize = 256 << 10;
/// How long the other member may take for that.
const WAIT: Duration = Duration::from_secs(5);

/// Brings the data files from `have` to `want`. What an earlier attempt has fetched is there still,
/// behind the published bytes, also after a crash.
pub(super) fn fetch(
    server: &Arc<Server>,
    from: u64,
    have: &[FileMark],
    want: &[FileMark],
) -> io::Result<()> {
    let mut stream = None;
    complete(server.store().data(), have, want, |file, offset, len| {
        if server.is_stopping() {
            return Err(io::Error::other("this server stops"));
        }
        let stream = match &mut stream {
            Some(stream) => stream,
            None => stream.insert(connect_to_fetch(server, from)?),
        };
        ask(stream, file, offset, len)
    })
}

/// The checkpoint of another member that stands at this entry.
pub(super) fn fetch_state(server: &Arc<Server>, from: u64, index: u64) -> io::Result<Checkpoint> {
    let mut stream = connect_to_fetch(server, from)?;
    put_question(&mut stream, CHECKPOINT, index, 0)?;
    let read = read_checkpoint(&mut stream, || server.is_stopping())?;
    read.ok_or_else(|| io::Error::other("its state is not ready yet"))
}

/// Length, checksum and bytes; a length of 0 if there is none.
pub(super) fn send_checkpoint(
    stream: &mut impl Write,
    kept: Option<&Checkpoint>,
) -> io::Result<()> {
    let encoded = kept.map(Checkpoint::encode).transpose().map_err(io::Error::other)?;
    let (head, state) = encoded.unwrap_or_default();
    let sum = crc32c::crc32c_append(crc32c::crc32c(&head), state);
    let mut first = Vec::new();
    put_u64(&mut first, (head.len() + state.len()) as u64);
    put_u64(&mut first, sum.into());
    first.extend_from_slice(&head);
    stream.write_all(&first)?;
    stream.write_all(state)
}

/// What [`send_checkpoint`] sends.
pub(super) fn read_checkpoint(
    stream: &mut impl Read,
    is_stopping: impl Fn() -> bool,
) -> io::Result<Option<Checkpoint>> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let mut head = Reader(&head);
    let malformed = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let (len, sum) = (head.u64().map_err(malformed)?, head.u64().map_err(malformed)?);
    if len == 0 {
        return Ok(None);
    }
    // As the bytes come: a length alone reserves no memory.
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < len {
        if is_stopping() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let piece = (len - bytes.len() as u64).min(CHUNK as u64);
        if stream.take(piece).read_to_end(&mut bytes)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if u64::from(crc32c::crc32c(&bytes)) != sum {
        return Err(io::Error::other("its state came damaged"));
    }
    let read = Checkpoint::read(&bytes.into());
    let unreadable = |error| io::Error::other(format!("its state cannot be read: {error}"));
    read.map(Some).map_err(unreadable)
}

/// The way from what there is of the data files to what is wanted, piece by piece.
pub struct Fetching {
    have: Vec<FileMark>,
    want: Vec<FileMark>,
    /// The file at hand.
    file: usize,
    /// How far it is there, once that has been looked at.
    mark: Option<FileMark>,
    /// What it had behind its published bytes counts as fetched.
    is_adopted: bool,
    /// Bytes fetched at once.
    piece: usize,
}

impl Fetching {
    pub fn new(have: Vec<FileMark>, want: Vec<FileMark>, piece: usize) -> Self {
        Fetching { have, want, file: 0, mark: None, is_adopted: false, piece }
    }

    /// The next piece to ask for: file, offset and length; none when all is as wanted. Data that is
    /// not the same there and here is invalid.
    pub fn next<D: Disk>(
        &mut self,
        data: &DataFiles<D>,
    ) -> io::Result<Option<(FileId, u64, usize)>> {
        while let Some(want) = self.want.get(self.file).copied() {
            let file = FileId(self.file as u32);
            let have = self.have.get(self.file).copied().unwrap_or_default();
            let mark = match self.mark {
                Some(mark) => mark,
                None => {
                    let mut mark = have;
                    data.adopt(file, want.size, |bytes| mark.add(bytes))?;
                    self.is_adopted = mark != have;
                    *self.mark.insert(mark)
                }
            };
            if mark.size < want.size && !(self.file == 0 && crate::mutant::is("fetch_skips_file")) {
                let len = self.piece.min((want.size - mark.size) as usize);
                return Ok(Some((file, mark.size, len)));
            }
            if mark == want || (self.file == 0 && crate::mutant::is("fetch_skips_file")) {
                (self.file, self.mark) = (self.file + 1, None);
            } else if self.is_adopted {
                // A power loss may have left something else where it was fetched to.
                (self.mark, self.is_adopted) = (Some(have), false);
                data.rewind_file(file, have.size)?;
            } else {
                let name = file.name();
                let why = format!(
                    "{name} is not the same there and here: its {} bytes do not begin alike",
                    want.size
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        Ok(None)
    }

    /// The piece has come.
    pub fn take<D: Disk>(&mut self, data: &DataFiles<D>, bytes: &[u8]) -> io::Result<()> {
        data.publish(FileId(self.file as u32), bytes)?;
        if let Some(mark) = &mut self.mark {
            mark.add(bytes);
        }
        Ok(())
    }
}

/// Completes each file by what it has behind its published bytes and by what `ask` brings, given
/// file, offset and length.
pub fn complete<D: Disk>(
    data: &DataFiles<D>,
    have: &[FileMark],
    want: &[FileMark],
    mut ask: impl FnMut(FileId, u64, usize) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let mut fetching = Fetching::new(have.to_vec(), want.to_vec(), CHUNK);
    while let Some((file, offset, len)) = fetching.next(data)? {
        let bytes = ask(file, offset, len)?;
        fetching.take(data, &bytes)?;
    }
    Ok(())
}

/// Asks for a part of a data file.
pub(super) fn ask(
    stream: &mut TcpStream,
    file: FileId,
    offset: u64,
    len: usize,
) -> io::Result<Vec<u8>> {
    put_question(stream, file.0, offset, len as u32)?;
    let mut data = vec![0; len];
    stream.read_exact(&mut data)?;
    Ok(data)
}

fn put_question(stream: &mut TcpStream, file: u32, offset: u64, len: u32) -> io::Result<()> {
    stream.set_read_timeout(Some(WAIT))?;
    let mut question = [0; QUESTION_LEN];
    question[..4].copy_from_slice(&file.to_le_bytes());
    question[4..12].copy_from_slice(&offset.to_le_bytes());
    question[12..].copy_from_slice(&len.to_le_bytes());
    stream.write_all(&question)
}

/// Answers another member's questions until it has no more.
pub(super) fn answer(server: &Arc<Server>, mut stream: TcpStream) -> io::Result<()> {
    let mut question = [0; QUESTION_LEN];
    let mut data = vec![0; CHUNK];
    loop {
        stream.read_exact(&mut question)?;
        let mut input = Reader(&question);
        let malformed = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let file = input.u32().map_err(malformed)?;
        let offset = input.u64().map_err(malformed)?;
        let len = input.u32().map_err(malformed)?;
        if file == CHECKPOINT as usize {
            let offered = server.cluster().peers().offered();
            let is_wanted = |kept: &&Checkpoint| kept.head.index == offset;
            send_checkpoint(&mut stream, offered.as_ref().filter(is_wanted))?;
            continue;
        }
        if len > CHUNK || file >= FILES_MAX as usize {
            return Err(io::Error::other("a question beyond any file"));
        }
        let (read, _) = server.store().read(FileId(file as u32), offset, &mut data[..len])?;
        if read < len {
            return Err(io::Error::other("asked for bytes that are not published here"));
        }
        stream.write_all(&data[..len])?;
    }
}

/// In the place of a data file: the checkpoint that stands at the entry in the place of the offset.
const CHECKPOINT: u32 = u32::MAX;
/// File, offset, length.
const QUESTION_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskFile;
    use crate::disk::mem::MemDisk;
    use crate::engine::State;
    use crate::engine::cluster::members::Members;
    use crate::server::Store;
    use crate::wal;
    use std::path::Path;

    const DIR: &str = "/member";

    fn open(disk: &MemDisk) -> Store<MemDisk> {
        let options = wal::Options { segment_max: 1 << 20, salt: 1, ..Default::default() };
        let path = Path::new(DIR);
        disk.create_dir(path).unwrap();
        Store::open_member(disk.clone(), path, 2, &options, &Members::of(&[1, 2, 3])).unwrap().0
    }

    /// What another member has, and the mark of it.
    fn source() -> (Vec<u8>, [FileMark; 2]) {
        let bytes: Vec<u8> = (0..3 * CHUNK as u32 + 7).map(|at| (at / 7) as u8).collect();
        let mut mark = FileMark::default();
        mark.add(&bytes);
        (bytes, [FileMark::default(), mark])
    }

    /// Fetches until this many questions were answered; says which offsets were asked for.
    fn run(store: &Store<MemDisk>, answers: usize) -> (bool, Vec<u64>) {
        let (bytes, want) = source();
        let mut asked = Vec::new();
        let done = complete(store.data(), &[], &want, |file, offset, len| {
            assert_eq!(file, FileId(1));
            if asked.len() == answers {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            asked.push(offset / CHUNK as u64);
            Ok(bytes[offset as usize..][..len].to_vec())
        });
        if done.is_ok() {
            let mut there = vec![0; bytes.len() + 1];
            assert_eq!(store.read(FileId(1), 0, &mut there).unwrap().0, bytes.len());
            assert_eq!(there[..bytes.len()], bytes);
        }
        (done.is_ok(), asked)
    }

    #[test]
    fn what_was_fetched_before_is_not_fetched_again() {
        let disk = MemDisk::new();
        let store = open(&disk);
        assert_eq!(run(&store, 1), (false, vec![0]));
        store.rewind(vec![0, 0]).unwrap();
        assert_eq!(run(&store, 2), (false, vec![1, 2]));
        drop(store);
        let store = open(&disk);
        assert_eq!(store.read(FileId(1), 0, &mut [0; 9]).unwrap().0, 0, "it is not published");
        assert_eq!(run(&store, 9), (true, vec![3]));
    }

    #[test]
    fn bytes_that_turn_out_to_be_others_are_fetched_again() {
        let disk = MemDisk::new();
        let store = open(&disk);
        assert_eq!(run(&store, 2), (false, vec![0, 1]));
        drop(store);
        let file = disk.create(&Path::new(DIR).join("file_1")).unwrap();
        file.write_at(b"torn", 99).unwrap();
        assert_eq!(run(&open(&disk), 9), (true, vec![2, 3, 0, 1, 2, 3]));
    }

    #[test]
    fn files_that_differ_in_what_is_published_are_not_brought_together() {
        let store = open(&MemDisk::new());
        let (bytes, want) = source();
        let wrong = [FileMark::default(), FileMark { sum: !want[1].sum, ..want[1] }];
        let mut asked = 0;
        let done = complete(store.data(), &[], &wrong, |_, offset, len| {
            asked += 1;
            Ok(bytes[offset as usize..][..len].to_vec())
        });
        assert!(done.unwrap_err().to_string().contains("do not begin alike"));
        assert_eq!(asked, 4);
    }

    #[test]
    fn a_checkpoint_that_is_cut_damaged_or_none_is_not_taken() {
        let made = Checkpoint::new(Default::default(), &State::default()).unwrap();
        let mut bytes = Vec::new();
        send_checkpoint(&mut bytes, Some(&made)).unwrap();
        let read = |mut bytes: &[u8]| read_checkpoint(&mut bytes, || false);
        assert_eq!(read(&bytes).unwrap(), Some(made));
        assert!(read_checkpoint(&mut &bytes[..], || true).is_err(), "this server stops");
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "cut to {len}");
        }
        bytes[20] ^= 1;
        assert!(read(&bytes).is_err());
        let mut none = Vec::new();
        send_checkpoint(&mut none, None).unwrap();
        assert_eq!(read(&none).unwrap(), None);
        assert!(read(&[0xFF; 16]).is_err());
    }
}
