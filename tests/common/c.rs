//! Compiling C programs against the headers and the library of this build, and running them.

use super::{PATIENCE, has_tool, hermetic, wait_for_exit};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The root of the project.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Flags under which everything must compile without a word.
pub const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
/// What finds wrong memory accesses and undefined behaviour in the C side.
pub const SANITIZE: [&str; 3] =
    ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];

/// The library of this build. The copy in `deps`, because cargo brings the one beside the
/// binaries up to date only when the library itself is asked for.
pub fn built(file: &str) -> PathBuf {
    let binaries = Path::new(env!("CARGO_BIN_EXE_batond")).parent().unwrap();
    let path = binaries.join("deps").join(file);
    assert!(path.is_file(), "{} has not been built", path.display());
    path
}

/// A compiled program in a directory of its own.
pub struct Program {
    path: PathBuf,
    _dir: TempDir,
}

impl Program {
    /// Compiles a source file of the project and links it with the shared library.
    pub fn compile(source: &str, flags: &[&str]) -> Program {
        Program::compile_with("cc", source, flags)
    }

    /// The same with another compiler.
    pub fn compile_with(compiler: &str, source: &str, flags: &[&str]) -> Program {
        let dir = TempDir::new().unwrap();
        for name in ["libbaton.so", "libbaton.so.0"] {
            std::os::unix::fs::symlink(built("libbaton.so"), dir.path().join(name)).unwrap();
        }
        let place = dir.path().display();
        let link = [format!("-L{place}"), "-lbaton".into(), format!("-Wl,-rpath,{place}")];
        Program::build(dir, compiler, source, flags, &link)
    }

    /// Compiles and links with the static library.
    pub fn compile_static(source: &str) -> Program {
        let link = [built("libbaton.a").display().to_string(), "-lm".into()];
        Program::build(TempDir::new().unwrap(), "cc", source, &[], &link)
    }

    fn build(
        dir: TempDir,
        compiler: &str,
        source: &str,
        flags: &[&str],
        link: &[String],
    ) -> Program {
        let path = dir.path().join("program");
        let output = Command::new(compiler)
            .args(["-g", "-O1", "-Iinclude", "-pthread"])
            .args(flags)
            .arg(source)
            .arg("-o")
            .arg(&path)
            .args(link)
            .current_dir(ROOT)
            .output()
            .unwrap();
        assert_quiet_success(&format!("{compiler} {source} {flags:?}"), &output);
        Program { path, _dir: dir }
    }

    /// The command that runs it.
    pub fn command(&self) -> Command {
        hermetic(Command::new(&self.path))
    }

    /// The command that runs it under valgrind, which makes it fail for any error it finds;
    /// `None` where there is no valgrind.
    pub fn command_under_valgrind(&self) -> Option<Command> {
        if !has_tool("valgrind") {
            return None;
        }
        let mut command = hermetic(Command::new("valgrind"));
        command
            .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
            .args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"])
            .arg(&self.path);
        Some(command)
    }
}

/// Runs a command to its end, which must be a success, and returns what it printed.
pub fn run(mut command: Command) -> String {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}; `make setup` installs what tests need"));
    // What these programs print fits the pipes' buffers, so it can be read afterwards.
    wait_for_exit(&mut child, &format!("{name} (within {PATIENCE:?})"));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{name}: {}\n{}", output.status, printed(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Fails unless the command succeeded without printing anything.
pub fn assert_quiet_success(name: &str, output: &Output) {
    assert!(output.status.success() && printed(output).is_empty(), "{name}\n{}", printed(output));
}

fn printed(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}
