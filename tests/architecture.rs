//! The rules that keep the parts apart, as docs/ARCHITECTURE.md states them under "Who may know
//! whom". They read the sources as text, without tests and comments.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate and what each may import of it besides itself.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("types", &["limits"]),
    ("limits", &[]),
    ("units", &[]),
    ("sys", &[]),
    ("sync", &[]),
    // A constant unless bugs are planted on purpose; everybody may ask it.
    ("mutant", &[]),
    ("disk", &["sys"]),
    ("protocol", &["types", "limits"]),
    ("wire", &["types", "limits", "protocol"]),
    ("json", &["types", "limits", "protocol"]),
    ("machine", &["types", "limits", "protocol"]),
    ("wal", &["types", "limits", "disk"]),
    ("data", &["types", "limits", "disk"]),
    ("engine", &["types", "limits", "protocol", "machine", "disk", "wal", "data"]),
    (
        "server",
        &[
            "types", "limits", "units", "protocol", "wire", "machine", "disk", "wal", "data",
            "engine", "sync", "json",
        ],
    ),
    ("client", &["types", "limits", "protocol", "wire"]),
    ("ffi", &["types", "limits", "protocol", "client", "sync"]),
    ("proxy", &["types", "limits", "protocol", "wire"]),
    // Whole systems in one thread: everything that does no input and output by itself.
    (
        "sim",
        &[
            "types", "limits", "protocol", "wire", "machine", "disk", "wal", "data", "engine",
            "server", "client", "proxy",
        ],
    ),
];

/// One source file: its path below `src`, and its code.
struct Source {
    path: PathBuf,
    code: String,
}

impl Source {
    fn module(&self) -> String {
        let first = self.path.components().next().unwrap();
        Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
    }
}

/// Every source file without its comments and tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.file_stem().unwrap() == "tests";
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") && !is_test {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let code = lines.collect::<Vec<_>>().join("\n");
                sources.push(Source { path: path.strip_prefix(&root).unwrap().into(), code });
            }
        }
    }
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

/// The modules of the crate that the code names, one by one or in a list: `crate::{wal, wire}`.
fn imports(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list.split('}').next().unwrap().split(',').map(name)),
            None => {
                found.insert(name(rest));
            }
        }
    }
    found
}

/// Fails for every source below one of `places` whose code has one of `words`.
fn none_of(places: &[&str], words: &[&str]) {
    for source in sources() {
        if places.iter().any(|place| source.path.starts_with(place)) {
            for word in words {
                assert!(!source.code.contains(word), "{} has {word}", source.path.display());
            }
        }
    }
}

#[test]
fn modules_import_only_what_they_may_know() {
    for source in sources() {
        let module = source.module();
        if ["lib", "bin", "cli"].contains(&module.as_str()) {
            continue;
        }
        let (_, may) = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{module} is not in the table: here and in the document"));
        for import in imports(&source.code) {
            let is_allowed =
                import == module || import == "mutant" || may.contains(&import.as_str());
            assert!(is_allowed, "{} may not import {import:?}", source.path.display());
        }
    }
}

#[test]
fn unsafe_code_stays_in_ffi_sys_and_the_spin_lock() {
    for source in sources() {
        if ["ffi", "sys", "sync"].contains(&source.module().as_str()) {
            continue;
        }
        let mut words = source.code.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(!words.any(|word| word == "unsafe"), "{}", source.path.display());
    }
}

#[test]
fn the_machine_has_no_clock_no_io_no_thread_no_chance_and_no_hash_order() {
    let words =
        ["std::time", "std::net", "std::fs", "std::thread", "std::io", "HashMap", "HashSet"];
    none_of(&["machine"], &words);
}

#[test]
fn the_exchange_has_no_clock_no_socket_and_no_thread() {
    let words = ["std::time", "std::fs", "std::thread", "UdpSocket", "Instant", "SystemTime"];
    none_of(&["client/exchange", "client/window.rs", "client/rtt.rs"], &words);
}

#[test]
fn the_document_names_every_module() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
    let document = fs::read_to_string(document).unwrap();
    let (_, section) = document.split_once("## Who may know whom").unwrap();
    let table = section.split("\n## ").next().unwrap();
    for (module, _) in MAY_IMPORT {
        assert!(table.contains(&format!("`{module}`")), "{module} is missing in the document");
    }
}
