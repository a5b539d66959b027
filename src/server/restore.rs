//! `batond --restore`: makes a data directory that begins with a backup, before the server starts
//! on it as on any other.
//!
//! While `.baton/restoring` is there the directory is nobody's: what was done is done anew. Renaming
//! it to `.baton/restored` is what makes the directory one to start from.

use super::backup::manifest::{self, Manifest, read_file};
use super::cluster::settings::{Origin, Place};
use super::store::member::{Identity, MemberError, NAME, claim, has_begun, identity};
use super::store::write_state;
use super::{Error, OpenError, PRIVATE_DIR, random};
use crate::disk::{Disk, DiskFile, RealDisk, replace_file};
use crate::engine::State;
use crate::engine::cluster::recover::{founding, write_checkpoint};
use crate::protocol::inspect::Hash;
use crate::types::{FileId, LogIndex};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use tracing::info;

/// Why a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("cannot restore: {0}")]
    Backup(#[from] manifest::Error),
    #[error(
        "{0} has been used by a server already, and nothing is restored over that: choose a new or \
         empty directory, or start without --restore"
    )]
    Used(PathBuf),
    #[error(
        "{0} is from a restore that was interrupted: start with --restore again, which begins anew"
    )]
    Interrupted(PathBuf),
    #[error(
        "the backup cannot be restored once more: its fencing tokens would reach the last number \
         there is"
    )]
    Worn,
}

/// What a directory was restored from, if it was: two are equal where the backup was the same.
pub fn origin(dir: &Path) -> Result<Option<String>, OpenError> {
    let path = dir.join(PRIVATE_DIR).join(RESTORED);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

/// Restores the backup into the directory, unless that was done; without a backup makes sure that
/// none was begun.
pub fn prepare(
    dir: &Path,
    backup: Option<&Path>,
    files: u32,
    place: Option<&Place>,
) -> Result<(), Error> {
    let is_begun = dir.join(PRIVATE_DIR).join(RESTORING).exists();
    let fail = |why: RestoreError| Err(OpenError::from(why).into());
    let Some(backup) = backup else {
        return if is_begun { fail(RestoreError::Interrupted(dir.to_owned())) } else { Ok(()) };
    };
    if matches!(place, Some(Place { origin: Origin::Joins(_), .. })) {
        let why = "--restore is for a server of its own, and for all servers of --cluster; one that \
                   joins takes over what the others have";
        return Err(Error::Cluster(why.into()));
    }
    let (manifest, bytes) = Manifest::read(backup).map_err(OpenError::from)?;
    let source = Hash(Sha256::digest(&bytes).into()).to_string();
    if !is_begun {
        if origin(dir)?.is_some_and(|origin| origin == source) {
            info!(dir = %dir.display(), "restored already");
            return Ok(());
        }
        if has_begun(dir) || identity(dir)?.is_some() {
            return fail(RestoreError::Used(dir.to_owned()));
        }
    }
    let has = manifest.machine.files();
    if has > files {
        return Err(OpenError::Fewer { dir: backup.to_owned(), has, asked: files }.into());
    }
    if !manifest.machine.has_epochs() {
        return fail(RestoreError::Worn);
    }
    Ok(restore(dir, backup, manifest, &source, place)?)
}

fn restore(
    dir: &Path,
    backup: &Path,
    manifest: Manifest,
    source: &str,
    place: Option<&Place>,
) -> Result<(), OpenError> {
    let (disk, private) = (RealDisk, dir.join(PRIVATE_DIR));
    info!(from = %backup.display(), bytes = manifest.bytes(), "restoring: checking the backup");
    manifest.check(backup, |_| {})?;
    info!("restoring: copying");
    let (marker, done) = (private.join(RESTORING), private.join(RESTORED));
    replace_file(&disk, &marker, &[source.as_bytes()]).map_err(at(&marker))?;
    clear(dir)?;
    for (file, mark) in manifest.filled() {
        let path = dir.join(file.name());
        let copy = disk.create(&path).map_err(at(&path))?;
        let mut size = 0;
        read_file(backup, file, mark, |bytes| {
            copy.write_at(bytes, size).map_err(at(&path))?;
            size += bytes.len() as u64;
            Ok::<_, OpenError>(())
        })?;
        copy.sync().map_err(at(&path))?;
    }
    disk.sync_dir(dir).map_err(at(dir))?;
    let Manifest { machine, files, .. } = manifest;
    let state = State { machine, files };
    match place {
        None => write_state(&disk, &private, LogIndex(0), &state)?,
        Some(Place { id, origin: Origin::Founder(servers), .. }) => {
            let cluster = servers.fingerprint(Some(source));
            claim(dir, Identity { node: *id, cluster, life: random().max(1) })?;
            let first = founding(&servers.founding(), &state).map_err(MemberError::from)?;
            write_checkpoint(&disk, &private, LogIndex(0), &first).map_err(MemberError::from)?;
        }
        Some(_) => {}
    }
    disk.rename(&marker, &done).map_err(at(&done))?;
    disk.sync_dir(&private).map_err(at(&private))?;
    info!("restored");
    Ok(())
}

/// Removes what an interrupted restore left.
fn clear(dir: &Path) -> Result<(), OpenError> {
    let private = dir.join(PRIVATE_DIR);
    let names = RealDisk.list(dir).map_err(at(dir))?;
    let is_data = |name: &&String| FileId::from_name(name.as_bytes(), u32::MAX).is_some();
    let data = names.iter().filter(is_data).map(|name| dir.join(name));
    for path in data.chain(["checkpoint", NAME].map(|name| private.join(name))) {
        match RealDisk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            _ => {}
        }
    }
    RealDisk.sync_dir(&private).map_err(at(&private))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { path: path.to_owned(), source }
}

/// In the private directory, both with the hash of the manifest.
const RESTORING: &str = "restoring";
const RESTORED: &str = "restored";
