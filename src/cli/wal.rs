//! `baton wal check`: what a data directory holds, and whether a server could start from it.

use super::exit::{Exit, Failure};
use crate::disk::RealDisk;
use crate::engine::State;
use crate::engine::solo;
use crate::server::PRIVATE_DIR;
use crate::wal::{self, Report};
use anyhow::Context;
use clap::{Args, Subcommand};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Look at the write-ahead log of a data directory
#[derive(Args, Clone, Debug)]
pub struct WalArgs {
    #[command(subcommand)]
    command: WalCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum WalCommand {
    Check(CheckArgs),
}

/// Verify a data directory that no server uses, and say what it holds
///
/// Reads the checkpoint and all of the log as a start of batond would, and changes nothing. Exits
/// with 1 when something is damaged.
#[derive(Args, Clone, Debug)]
struct CheckArgs {
    /// The data directory (batond --data)
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What the check found; `damage` says why a server could not start from it.
struct Findings {
    report: Option<Report>,
    /// Sizes of the data files as the checkpoint has them.
    sizes: Vec<u64>,
    damage: Option<String>,
}

pub fn run(args: WalArgs) -> anyhow::Result<()> {
    let WalCommand::Check(args) = args.command;
    let _lock = lock(&args.directory)?;
    let findings = look(&args.directory)?;
    let text = match args.json {
        true => format!("{:#}\n", findings.to_json()),
        false => findings.to_table(&args.directory),
    };
    io::Write::write_all(&mut io::stdout(), text.as_bytes())?;
    match findings.damage {
        Some(damage) => Err(Failure::new(Exit::Failed, damage).into()),
        None => Ok(()),
    }
}

/// Keeps servers out for as long as the result lives; makes nothing that is not there.
fn lock(directory: &Path) -> anyhow::Result<Option<Flock<File>>> {
    let private = directory.join(PRIVATE_DIR);
    if !private.is_dir() {
        let why = format!(
            "{} is no data directory of batond: it has no {PRIVATE_DIR}",
            directory.display()
        );
        return Err(Failure::new(Exit::NoInput, why).into());
    }
    let path = private.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(format!("cannot open {}", path.display())),
    };
    Flock::lock(file, FlockArg::LockSharedNonblock).map(Some).map_err(|(_, errno)| {
        let why = match errno {
            nix::errno::Errno::EWOULDBLOCK => "a server uses it: stop batond first".to_owned(),
            other => other.desc().to_owned(),
        };
        Failure::new(Exit::Temporary, format!("cannot lock {}: {why}", directory.display())).into()
    })
}

fn look(directory: &Path) -> anyhow::Result<Findings> {
    let private = directory.join(PRIVATE_DIR);
    let mut findings = Findings { report: None, sizes: Vec::new(), damage: None };
    let checked = wal::check(&RealDisk, &private, &mut |_, entry| solo::decode(entry).map(drop))
        .and_then(|report| Ok((report, wal::read_checkpoint(&RealDisk, &private)?)));
    let (report, checkpoint) = match checked {
        Ok(found) => found,
        Err(error @ wal::Error::Io { .. }) => return Err(error.into()),
        Err(error) => {
            findings.damage = Some(error.to_string());
            return Ok(findings);
        }
    };
    if report.lost_synced {
        findings.damage = Some("the log ends before entries that had been acknowledged".into());
    }
    findings.report = Some(report);
    if let Some(checkpoint) = checkpoint {
        match postcard::from_bytes::<State>(&checkpoint.state) {
            Ok(state) => findings.sizes = state.files.iter().map(|mark| mark.size).collect(),
            Err(error) => {
                findings.damage = Some(format!(
                    "the checkpoint's state is of another version of the program ({error})"
                ))
            }
        }
    }
    if let Some(damage) = short_file(directory, &findings.sizes)? {
        findings.damage = Some(damage);
    }
    Ok(findings)
}

/// A data file that lost bytes which were synced before the checkpoint.
fn short_file(directory: &Path, sizes: &[u64]) -> anyhow::Result<Option<String>> {
    for (id, &size) in (0..).zip(sizes) {
        let path = directory.join(crate::types::FileId(id).name());
        let found = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error).context(format!("cannot look at {}", path.display())),
        };
        if found < size {
            let path = path.display();
            return Ok(Some(format!("{path} has {found} bytes, the checkpoint knows {size}")));
        }
    }
    Ok(None)
}

impl Findings {
    fn verdict(&self) -> &'static str {
        match (&self.damage, &self.report) {
            (Some(_), _) => "damaged",
            (None, Some(report)) if report.torn.is_some() => "sound, with a torn tail",
            _ => "sound",
        }
    }

    fn to_json(&self) -> Value {
        let report = self.report.as_ref();
        let torn = report.and_then(|report| report.torn.as_ref());
        json!({
            "schema": "baton.wal-check/1",
            "verdict": self.verdict(),
            "is_sound": self.damage.is_none(),
            "damage": self.damage,
            "checkpoint": report.and_then(|report| report.checkpoint).map(|index| index.0),
            "segments": report.map(|report| report.segments),
            "entries": report.map(|report| report.entries),
            "bytes": report.map(|report| report.bytes),
            "last": report.map(|report| report.last.0),
            "torn": torn.map(|torn| json!({
                "file": torn.file, "offset": torn.offset, "bytes": torn.bytes,
            })),
            "checkpoint_files": self.sizes.len(),
            "checkpoint_file_bytes": self.sizes.iter().sum::<u64>(),
        })
    }

    fn to_table(&self, directory: &Path) -> String {
        let mut rows = vec![("directory", directory.display().to_string())];
        if let Some(report) = &self.report {
            let checkpoint = report.checkpoint.map_or("none".into(), |at| format!("entry {at}"));
            rows.push(("checkpoint", checkpoint));
            let (files, bytes) = (self.sizes.len(), self.sizes.iter().sum::<u64>());
            rows.push(("data files", format!("{files}, {bytes} bytes at the checkpoint")));
            rows.push(("segments", report.segments.to_string()));
            let (entries, bytes) = (report.entries, report.bytes);
            rows.push(("entries", format!("{entries} after the checkpoint, {bytes} bytes")));
            rows.push(("last entry", report.last.to_string()));
            let torn = report.torn.as_ref().map_or("none".into(), |torn| {
                let (file, offset) = (torn.file.display(), torn.offset);
                format!(
                    "{} bytes at byte {offset} of {file}; never acknowledged as stable, the next \
                     start drops them",
                    torn.bytes
                )
            });
            rows.push(("torn tail", torn));
        }
        rows.push(("verdict", self.verdict().into()));
        rows.iter().map(|(name, value)| format!("{name:<12}{value}\n")).collect()
    }
}
