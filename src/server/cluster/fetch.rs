//! What a member lacks of the data files, fetched from another: published bytes only grow and are
//! the same everywhere, so it is the end of each file. Checksums of the whole files tell whether
//! they are.

use super::peers::connect_to_fetch;
use crate::data::{DataFiles, FileMark};
use crate::disk::Disk;
use crate::engine::cluster::codec::Input as Reader;
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
    stream.set_read_timeout(Some(WAIT))?;
    let mut question = [0; QUESTION_LEN];
    question[..4].copy_from_slice(&file.0.to_le_bytes());
    question[4..12].copy_from_slice(&offset.to_le_bytes());
    question[12..].copy_from_slice(&(len as u32).to_le_bytes());
    stream.write_all(&question)?;
    let mut data = vec![0; len];
    stream.read_exact(&mut data)?;
    Ok(data)
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

/// File, offset, length.
const QUESTION_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskFile;
    use crate::disk::mem::MemDisk;
    use crate::engine::cluster::members::Members;
    use crate::server::Store;
    use crate::wal;
    use std::path::Path;

    const DIR: &str = "/member";

    fn open(disk: &MemDisk) -> Store<MemDisk> {
        let options = wal::Options { segment_max: 1 << 20, salt: 1 };
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
}
