//! `baton files`: which files the server has.

use super::ServerArgs;
use crate::client::Error;
use crate::limits::FILES_MAX;
use anyhow::Context;
use std::io::{self, Write};

/// List the files of the server and how many bytes each has published
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "With --json, one line: {\"files\": [{\"name\": \"file_0\", \"bytes\": 12}, \
    ...]}"
)]
pub struct FilesArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Leave out files that are empty
    #[arg(long)]
    filled: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: FilesArgs) -> anyhow::Result<()> {
    let mut connection = args.server.connect()?;
    let mut files = Vec::new();
    for index in 0..FILES_MAX {
        let name = format!("file_{index}");
        match connection.file_length(&name) {
            Ok(bytes) => files.push((name, bytes)),
            // The files of a server are numbered without gaps.
            Err(Error::FileNotFound) => break,
            Err(error) => return Err(error).context(format!("cannot read {name}")),
        }
    }
    let _ = connection.close();
    files.retain(|&(_, bytes)| bytes > 0 || !args.filled);
    let mut out = io::stdout().lock();
    if args.json {
        let list: Vec<_> = files
            .iter()
            .map(|(name, bytes)| serde_json::json!({"name": name, "bytes": bytes}))
            .collect();
        writeln!(out, "{}", serde_json::json!({"files": list}))?;
    } else {
        for (name, bytes) in files {
            writeln!(out, "{bytes:>12}  {name}")?;
        }
    }
    Ok(())
}
