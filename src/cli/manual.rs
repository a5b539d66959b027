//! `baton man`: the manual pages, made from the same definitions as `--help`.

use super::Cli;
use crate::server::config::ServerConfig;
use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// Where to write them; made when missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub fn run(args: ManArgs) -> anyhow::Result<()> {
    fs::create_dir_all(&args.directory)
        .with_context(|| format!("cannot make {}", args.directory.display()))?;
    let mut baton = Cli::command();
    baton.build();
    write(&args.directory, baton.clone(), "baton", "1")?;
    for command in baton.get_subcommands().filter(|c| !c.is_hide_set()) {
        write_tree(&args.directory, command, "baton")?;
    }
    write(&args.directory, ServerConfig::command(), "batond", "8")
}

/// The page of a subcommand and the pages of the subcommands below it.
fn write_tree(directory: &Path, command: &Command, parent: &str) -> anyhow::Result<()> {
    let name = format!("{parent}-{}", command.get_name());
    write(directory, command.clone(), &name, "1")?;
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|command| write_tree(directory, command, &name))
}

fn write(directory: &Path, command: Command, name: &str, section: &str) -> anyhow::Result<()> {
    let mut page = Vec::new();
    // The page's title, which the NAME section repeats, is the name with dashes.
    let command = command.name(name.to_owned()).display_name(name.to_owned());
    Man::new(command).section(section).title(name.to_uppercase()).render(&mut page)?;
    let path = directory.join(format!("{name}.{section}"));
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_and_the_daemon_get_a_page() {
        let dir = tempfile::tempdir().unwrap();
        run(ManArgs { directory: dir.path().join("man") }).unwrap();
        for (page, text) in [
            ("baton.1", "BATON"),
            ("baton-backup.1", "restore"),
            ("baton-completions.1", "shell"),
            ("baton-lock.1", "BATON_LOCK_TOKEN"),
            ("baton-shell.1", "stall SECONDS"),
            ("baton-wal-check.1", "log"),
            ("batond.8", "lease"),
        ] {
            let written = fs::read_to_string(dir.path().join("man").join(page)).unwrap();
            assert!(written.contains(text), "{page}");
        }
    }
}
