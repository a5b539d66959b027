//! What a member lacks of the data files, fetched from another: published bytes only grow and are
//! the same everywhere, so it is the end of each file. Checksums of the whole files tell whether
//! they are.

use super::peers::{self, connect_for};
use crate::engine::cluster::codec::Input as Reader;
use crate::engine::cluster::journal::FileMark;
use crate::engine::solo::Ending;
use crate::limits::FILES_MAX;
use crate::machine::Part;
use crate::server::threads::Server;
use crate::types::FileId;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Bytes fetched at once.
const CHUNK: usize = 256 << 10;
/// How long the other member may take for that.
const WAIT: Duration = Duration::from_secs(5);

/// Brings the data files from `have` to `want`.
pub fn fetch(
    server: &Arc<Server>,
    from: u64,
    have: &[FileMark],
    want: &[FileMark],
) -> io::Result<()> {
    let mut stream = None;
    for (id, want) in want.iter().enumerate() {
        let mut mark = have.get(id).copied().unwrap_or_default();
        while mark.size < want.size {
            if server.is_stopping() {
                return Err(io::Error::other("this server stops"));
            }
            let stream = match &mut stream {
                Some(stream) => stream,
                None => stream.insert(connect_for(server, from, peers::Purpose::Fetch)?),
            };
            let len = CHUNK.min((want.size - mark.size) as usize);
            let data = ask(stream, id as u32, mark.size, len)?;
            mark.size += data.len() as u64;
            mark.sum = crc32c::crc32c_append(mark.sum, &data);
            let mut parts = VecDeque::from([Part { file: FileId(id as u32), data }]);
            if server.store().publish(&mut parts) != Ending::Done {
                return Err(io::Error::other("cannot write a data file"));
            }
        }
        if mark != *want {
            return Err(io::Error::other(format!(
                "{} is not the same there and here: its {} bytes do not begin alike",
                FileId(id as u32).name(),
                want.size
            )));
        }
    }
    Ok(())
}

fn ask(stream: &mut TcpStream, file: u32, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(WAIT))?;
    let mut question = [0; QUESTION_LEN];
    question[..4].copy_from_slice(&file.to_le_bytes());
    question[4..12].copy_from_slice(&offset.to_le_bytes());
    question[12..].copy_from_slice(&(len as u32).to_le_bytes());
    stream.write_all(&question)?;
    let mut data = vec![0; len];
    stream.read_exact(&mut data)?;
    Ok(data)
}

/// Answers another member's questions until it has no more.
pub fn answer(server: &Arc<Server>, mut stream: TcpStream) -> io::Result<()> {
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
