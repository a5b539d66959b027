//! A call of a program, with its bytes.

use crate::client::call::{Call, Patience};
use crate::protocol::inspect::What;
use crate::sim::story::short;
use crate::types::FencingToken;

/// A call with its bytes.
#[derive(Clone, Debug)]
pub enum Ask {
    Connect,
    Acquire(Patience),
    /// `file` is a number for a file that there is.
    Append {
        name: String,
        file: Option<usize>,
        /// What a story calls it.
        letter: Option<char>,
        data: Vec<u8>,
    },
    Release,
    Abort,
    Renew,
    Read {
        file: usize,
        offset: u64,
    },
    Inspect {
        what: What,
        from: u64,
    },
    Revoke {
        token: u64,
    },
    Close,
}

impl Ask {
    pub fn as_call(&self) -> Call<'_> {
        match self {
            Ask::Connect => Call::Connect,
            Ask::Acquire(patience) => Call::Acquire(*patience),
            Ask::Append { name, data, .. } => Call::Append { file: name.as_bytes(), data },
            Ask::Release => Call::Release,
            Ask::Abort => Call::Abort,
            Ask::Renew => Call::Renew,
            Ask::Read { file, offset } => {
                Call::Read { file: FILES[*file].as_bytes(), offset: *offset, max: READ }
            }
            Ask::Inspect { what, from } => Call::Inspect { what: *what, from: *from },
            Ask::Revoke { token } => Call::Revoke { token: FencingToken(*token), reason: "stuck" },
            Ask::Close => Call::Close,
        }
    }

    /// The call for people.
    pub fn name(&self) -> String {
        match self {
            Ask::Connect => "init".into(),
            Ask::Acquire(Patience::Forever) => "acquire".into(),
            Ask::Acquire(Patience::Try) => "try".into(),
            Ask::Acquire(Patience::Until(_)) => "acquire with timeout".into(),
            Ask::Append { letter: Some(letter), .. } => format!("append {letter}"),
            Ask::Append { name, data, .. } => format!("append {} to {name}", data.len()),
            Ask::Release => "release".into(),
            Ask::Abort => "abort".into(),
            Ask::Renew => "renew".into(),
            Ask::Read { file, .. } => format!("read file_{file}"),
            Ask::Inspect { what, .. } => format!("inspect {what:?}").to_lowercase(),
            Ask::Revoke { token } => format!("revoke {}", short(*token)),
            Ask::Close => "close".into(),
        }
    }
}

const FILES: [&str; 4] = ["file_0", "file_1", "file_2", "file_3"];
const READ: u32 = 1024;
