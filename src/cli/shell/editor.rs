//! Typing in a terminal: editing, history and completion.

use super::command::COMMANDS;
use rustyline::completion::Completer;
use rustyline::config::{CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};
use std::path::PathBuf;
use std::{env, fs};

/// How many lines of earlier sessions are kept.
const HISTORY_MAX: usize = 1000;

/// A line as it was typed, or why there is none.
pub(super) enum Line {
    Typed(String),
    /// Ctrl-C: the line is not meant.
    Dropped,
    /// Ctrl-D.
    End,
}

pub(super) struct Keyboard {
    editor: Editor<Names, DefaultHistory>,
    history: Option<PathBuf>,
}

impl Keyboard {
    pub(super) fn new() -> rustyline::Result<Keyboard> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY_MAX)?
            .history_ignore_space(true)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Names::default()));
        let history = history_file();
        if let Some(path) = &history {
            // The first time there is none.
            let _ = editor.load_history(path);
        }
        Ok(Keyboard { editor, history })
    }

    /// The files that the server has, for completion.
    pub(super) fn set_files(&mut self, files: u32) {
        if let Some(names) = self.editor.helper_mut() {
            names.files = files;
        }
    }

    pub(super) fn read(&mut self, prompt: &str) -> rustyline::Result<Line> {
        match self.editor.readline(prompt) {
            Ok(line) => {
                // A line that is not remembered can be typed again.
                let _ = self.editor.add_history_entry(line.as_str());
                Ok(Line::Typed(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Dropped),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error),
        }
    }

    /// Keeps the history for the next time; where that fails, there is none.
    pub(super) fn save(&mut self) {
        if let Some(path) = &self.history
            && let Some(directory) = path.parent()
            && fs::create_dir_all(directory).is_ok()
        {
            let _ = self.editor.save_history(path);
        }
    }
}

/// `$XDG_STATE_HOME/baton/shell-history`, or the same below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("baton/shell-history"))
}

/// What can be completed: commands, and files after those that take one.
#[derive(Debug, Default)]
struct Names {
    files: u32,
}

impl Names {
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (before, word) = (line[..start].trim(), &line[start..]);
        let names: Vec<String> = match before {
            "" => COMMANDS.iter().map(|entry| format!("{} ", entry.names[0])).collect(),
            "append" | "cat" | "read" => (0..self.files).map(|n| format!("file_{n} ")).collect(),
            _ => Vec::new(),
        };
        (start, names.into_iter().filter(|name| name.starts_with(word)).collect())
    }
}

impl Completer for Names {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(&line[..at]))
    }
}

impl Helper for Names {}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}

impl Validator for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_files_are_completed() {
        let names = Names { files: 12 };
        assert_eq!(names.candidates("re"), (0, vec!["release ".into(), "renew ".into()]));
        let files = ["file_1 ", "file_10 ", "file_11 "].map(String::from).to_vec();
        assert_eq!(names.candidates("append file_1"), (7, files));
        assert_eq!(names.candidates("append file_1 fi").1, Vec::<String>::new());
        assert_eq!(names.candidates("stall ").1, Vec::<String>::new());
    }
}
