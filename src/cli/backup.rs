//! `baton backup`: a copy of a running server's files and state in a directory, from which `batond
//! --restore` starts.
//!
//! The manifest is fetched first and put in place last. Between the two come the bytes of the data
//! files that are not there yet, so that an interrupted backup is gone on with, and one of yesterday
//! brought up to date, by the same steps. The server's checksums say whether the files are right.

use super::connect::Purpose;
use super::exit::{Exit, Failure};
use super::progress::Progress;
use super::show::{ShowArgs, local_time, print_json, size};
use crate::client::Connection;
use crate::data::FileMark;
use crate::disk::{RealDisk, replace_file};
use crate::json::utc_time;
use crate::limits::FILES_MAX;
use crate::server::PRIVATE_DIR;
use crate::server::backup::manifest::{Error, MANIFEST, Manifest, UNFINISHED};
use crate::types::FileId;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Copy files and state of a running server, or cluster, into a directory
///
/// The copy is as of one moment: every section that was released before the command began is in it,
/// whole, and none in part. batond --restore DIR starts from it. An interrupted backup is gone on with
/// by the same command; over an earlier backup of the same server only what is new is fetched, and the
/// earlier one stays whole until the new one is.
#[derive(clap::Args, Clone, Debug)]
pub struct BackupArgs {
    /// Where it is put: a new or empty directory, or an earlier backup
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Verify the backup in DIR instead; needs no server
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    show: ShowArgs,
}

pub fn run(args: BackupArgs) -> anyhow::Result<()> {
    let dir = &args.directory;
    let (manifest, fetched) = match args.check {
        true => (check(dir).map_err(failure)?, 0),
        false => fetch(&args)?,
    };
    let count = manifest.filled().count();
    if args.show.json {
        return print_json(&json!({
            "schema": "baton.backup/1",
            "directory": dir,
            "taken_at": utc_time(manifest.at_ms),
            "files": count,
            "bytes": manifest.bytes(),
            "fetched_bytes": fetched,
        }));
    }
    let (bytes, at) = (size(manifest.bytes()), local_time(manifest.at_ms));
    let what = if args.check { "sound" } else { "done" };
    let new = if args.check { String::new() } else { format!(" ({} new)", size(fetched)) };
    Ok(writeln!(
        io::stdout(),
        "{}: {what}: {count} files with {bytes}{new}, as of {at}",
        dir.display()
    )?)
}

/// Verifies what there is.
fn check(dir: &Path) -> Result<Manifest, Error> {
    let (manifest, _) = Manifest::read(dir)?;
    let mut progress = Progress::new(Some(manifest.bytes()), "checked");
    manifest.check(dir, |bytes| progress.advance(bytes))?;
    Ok(manifest)
}

/// Makes the backup, or brings it up to date; says how many bytes that took.
fn fetch(args: &BackupArgs) -> anyhow::Result<(Manifest, u64)> {
    let dir = &args.directory;
    let _marker = claim(dir)?;
    // Before the server is asked: it forgets whoever says nothing for long.
    let mut there = scan(dir)?;
    let server = args.show.server.find()?;
    let mut connection = server.connect(Purpose::Work)?;
    let bytes = connection.backup_manifest().map_err(|error| server.failure(error))?;
    let manifest = Manifest::decode(&bytes, Path::new("the manifest from the server"))?;
    let files = || (0..).map(FileId).zip(manifest.files.iter().copied());
    let lacks = files().map(|(file, mark)| {
        let has = there.get(&file).map_or(0, |found| found.size);
        mark.size.saturating_sub(has)
    });
    let fetched = lacks.fold(0, u64::saturating_add);
    let mut progress = Progress::new(Some(fetched), "fetched");
    for (file, mark) in files() {
        let path = dir.join(file.name());
        let mut copy = Copy { path, file, found: there.remove(&file).unwrap_or_default(), mark };
        let done = copy.complete(&mut connection, &mut progress);
        done.map_err(|error| match error.downcast() {
            Ok(error) => server.failure(error),
            Err(error) => error,
        })?;
    }
    // What was read stays right whether or not the session ends in an orderly way.
    let _ = connection.close();
    finish(dir, &bytes)
        .with_context(|| format!("cannot finish the backup in {}", dir.display()))?;
    Ok((manifest, fetched))
}

/// What the directory has of the data files.
fn scan(dir: &Path) -> anyhow::Result<BTreeMap<FileId, FileMark>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file = FileId::from_name(entry.file_name().as_encoded_bytes(), FILES_MAX);
        files.extend(file.map(|file| (file, entry.path())));
    }
    let total = files.iter().map(|(_, path)| path.metadata().map_or(0, |meta| meta.len())).sum();
    let mut progress = Progress::new(Some(total), "of an earlier backup read");
    let mut there = BTreeMap::new();
    let mut buffer = vec![0; PIECE];
    for (file, path) in files {
        let unable = || format!("cannot read {}", path.display());
        let mut source = File::open(&path).with_context(unable)?;
        let mut found = FileMark::default();
        loop {
            let read = source.read(&mut buffer).with_context(unable)?;
            if read == 0 {
                break;
            }
            found.add(&buffer[..read]);
            progress.advance(read as u64);
        }
        there.insert(file, found);
    }
    Ok(there)
}

/// The files are there: makes the directory a backup.
fn finish(dir: &Path, manifest: &[u8]) -> io::Result<()> {
    let sync_names = || File::open(dir)?.sync_all();
    sync_names()?;
    replace_file(&RealDisk, &dir.join(MANIFEST), &[manifest])?;
    fs::remove_file(dir.join(UNFINISHED))?;
    sync_names()
}

/// Makes sure that the directory is for backups and that nobody else writes there.
fn claim(dir: &Path) -> anyhow::Result<Flock<File>> {
    let say = |why: &str| Failure::new(Exit::Config, format!("{}: {why}", dir.display()));
    let unable = || format!("cannot use {}", dir.display());
    fs::create_dir_all(dir).with_context(unable)?;
    let names: Vec<_> = fs::read_dir(dir).and_then(Iterator::collect).with_context(unable)?;
    let has = |name: &str| names.iter().any(|entry: &fs::DirEntry| entry.file_name() == name);
    if has(PRIVATE_DIR) {
        return Err(say("a data directory of batond; give one that is only for backups").into());
    }
    if !names.is_empty() && !has(MANIFEST) && !has(UNFINISHED) {
        return Err(say("neither empty nor a backup; give another directory").into());
    }
    let path = dir.join(UNFINISHED);
    let open = || {
        let file = File::options().write(true).create(true).truncate(false).open(&path)?;
        File::open(dir)?.sync_all()?;
        // Who may not look into the directory above cannot make the name durable that is there.
        if let Ok(above) = File::open(dir.canonicalize()?.join("..")) {
            above.sync_all()?;
        }
        Ok::<_, io::Error>(file)
    };
    let file = open().with_context(unable)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => {
            let why = format!("{}: another baton backup is writing there", dir.display());
            Failure::new(Exit::Temporary, why).into()
        }
        other => anyhow::Error::from(io::Error::from(other)).context(unable()),
    })
}

/// One data file and its copy.
struct Copy {
    path: PathBuf,
    file: FileId,
    /// What is there, and what is to be.
    found: FileMark,
    mark: FileMark,
}

impl Copy {
    /// Fetches what the copy lacks.
    fn complete(
        &mut self,
        connection: &mut Connection,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let Copy { path, file, found, mark } = self;
        let unable = |what: &str| format!("cannot {what} {}", path.display());
        if found.size > mark.size {
            return Err(self.other("is longer than the server's"));
        }
        if mark.size == 0 {
            return Ok(());
        }
        let opened = File::options().append(true).create(true).open(&path);
        let mut copy = opened.with_context(|| unable("open"))?;
        let mut buffer = vec![0; PIECE];
        while found.size < mark.size {
            let len = (PIECE as u64).min(mark.size - found.size) as usize;
            let read = connection.read(file.name(), found.size, &mut buffer[..len])?;
            if read == 0 {
                bail!("the server has no more than {} bytes of {}", found.size, path.display());
            }
            copy.write_all(&buffer[..read]).with_context(|| unable("write"))?;
            found.add(&buffer[..read]);
            progress.advance(read as u64);
        }
        if found != mark {
            return Err(self.other("does not begin with what the server has"));
        }
        copy.sync_all().with_context(|| unable("sync"))
    }

    /// What is there is of no use for this backup.
    fn other(&self, how: &str) -> anyhow::Error {
        let path = self.path.display();
        let why =
            format!("{path} {how}: it is damaged, or from another server; give an empty directory");
        Failure::new(Exit::Data, why).into()
    }
}

/// The exit code for what is wrong with a backup.
fn failure(error: Error) -> Failure {
    let exit = match &error {
        Error::Missing(_) | Error::Unfinished(_) => Exit::NoInput,
        Error::Io { .. } => Exit::InputOutput,
        Error::Damaged { .. } | Error::Version { .. } => Exit::Data,
    };
    Failure::new(exit, error.to_string())
}

/// Bytes fetched at once.
const PIECE: usize = 1 << 20;
