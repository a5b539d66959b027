//! `baton cat`: the published bytes of a file.

use super::connect::{Purpose, ServerArgs};
use super::exit::{Exit, Failure};
use super::output::copy_part;
use super::progress::Progress;
use crate::client::Error;
use clap::Args;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

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
    let explain = |error| match error {
        Error::FileNotFound => {
            let why = format!("the server has no file {}; baton files lists them", args.file);
            Failure::new(Exit::NoInput, why).into()
        }
        error => server.failure(error),
    };
    let length = args.length.unwrap_or(u64::MAX);
    let mut out = io::stdout().lock();
    // Where the bytes go to a file, the terminal is free to show how far it is.
    let mut progress = match is_regular_file(&out) {
        false => Progress::none(),
        true => {
            let whole = connection.file_length(&args.file).map_err(explain)?;
            Progress::new(Some(whole.saturating_sub(args.offset).min(length)), "printed")
        }
    };
    let part = (args.offset, length);
    let advance = |bytes| progress.advance(bytes);
    copy_part(&mut connection, &args.file, part, &mut out, advance).map_err(|error| match error
        .downcast::<Error>(
    ) {
        Ok(error) => explain(error),
        Err(error) => error,
    })?;
    out.flush()?;
    // What was read stays right whether or not the session ends in an orderly way.
    let _ = connection.close();
    Ok(())
}

fn is_regular_file(out: &impl AsFd) -> bool {
    let file = out.as_fd().try_clone_to_owned().map(File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.is_file())
}
