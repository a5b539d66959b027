//! `baton files`: which files the server has.

use super::connect::Purpose;
use super::show::{ShowArgs, print_json};
use crate::client::Error;
use crate::json;
use crate::limits::FILES_MAX;
use std::io::{self, Write};

/// List the files of the server and how many bytes each has published
#[derive(clap::Args, Clone, Debug)]
pub struct FilesArgs {
    #[command(flatten)]
    show: ShowArgs,
    /// Leave out files that are empty
    #[arg(long)]
    filled: bool,
}

pub fn run(args: FilesArgs) -> anyhow::Result<()> {
    let server = args.show.server.find()?;
    let mut connection = server.connect(Purpose::Look)?;
    let mut files = Vec::new();
    for index in 0..FILES_MAX {
        let name = format!("file_{index}");
        match connection.file_length(&name) {
            Ok(bytes) => files.push((name, bytes)),
            // The files of a server are numbered without gaps.
            Err(Error::FileNotFound) => break,
            Err(error) => return Err(server.failure(error)),
        }
    }
    // What was asked for is here.
    let _ = connection.close();
    files.retain(|&(_, bytes)| bytes > 0 || !args.filled);
    if args.show.json {
        return print_json(&json::files(&files));
    }
    let mut out = io::stdout().lock();
    for (name, bytes) in files {
        writeln!(out, "{bytes:>12}  {name}")?;
    }
    Ok(())
}
