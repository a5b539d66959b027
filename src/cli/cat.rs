//! `baton cat`: the published bytes of a file.

use super::connect::{Purpose, ServerArgs};
use super::exit::{Exit, Failure};
use crate::client::Error;
use clap::Args;
use std::io::{self, Write};

/// Bytes asked for between two writes.
const CHUNK: usize = 64 << 10;

/// Print what a file of the server holds
///
/// Only what has been published by a release; not what a holder has appended since.
#[derive(Args, Clone, Debug)]
pub struct CatArgs {
    /// Name of the file on the server, such as file_0
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    server: ServerArgs,
    /// Start at this byte
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Print this many bytes at most; to the file's end if not given
    #[arg(long, value_name = "N")]
    length: Option<u64>,
}

pub fn run(args: CatArgs) -> anyhow::Result<()> {
    let server = args.server.find()?;
    let mut connection = server.connect(Purpose::Look)?;
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; CHUNK];
    let (mut offset, mut left) = (args.offset, args.length.unwrap_or(u64::MAX));
    while left > 0 {
        let room = left.min(CHUNK as u64) as usize;
        let read = match connection.read(&args.file, offset, &mut buffer[..room]) {
            Ok(read) => read,
            Err(Error::FileNotFound) => {
                let why = format!("the server has no file {}; baton files lists them", args.file);
                return Err(Failure::new(Exit::NoInput, why).into());
            }
            Err(error) => return Err(server.failure(error)),
        };
        out.write_all(&buffer[..read])?;
        if read < room {
            break;
        }
        offset += read as u64;
        left -= read as u64;
    }
    out.flush()?;
    // What was read stays right whether or not the session ends in an orderly way.
    let _ = connection.close();
    Ok(())
}
