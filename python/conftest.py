"""A real server for every test and every documented example.

`BATOND` names the daemon, else the newer of the source tree's release and debug builds is used; the
library is the one built beside it, unless `BATON_LIBRARY` is set (empty: the installed package's).
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

_TREE = Path(__file__).resolve().parent.parent
_START_S = 20


def _find_daemon() -> Path | None:
    named = os.environ.get("BATOND")
    if named:
        return Path(named).resolve()
    target = _TREE / os.environ.get("CARGO_TARGET_DIR", "target")
    built = [target / profile / "batond" for profile in ("release", "debug")]
    return max(
        (path for path in built if path.is_file()),
        key=lambda path: path.stat().st_mtime,
        default=None,
    )


DAEMON = _find_daemon()
if DAEMON is not None and "BATON_LIBRARY" not in os.environ:
    os.environ["BATON_LIBRARY"] = str(DAEMON.with_name("libbaton.so"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "server_args(*args): further arguments of the daemon")
    if DAEMON is None:
        pytest.exit("no batond: build it (`cargo build`) or let BATOND name it", returncode=1)


class Server:
    """A running daemon with a data directory of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.data = directory / "data"
        self._stderr_path = directory / "batond.stderr"
        with self._stderr_path.open("wb") as stderr:
            self._process = subprocess.Popen(
                [str(DAEMON), "--listen", "127.0.0.1:0", "--data", str(self.data), *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self._process.stdout is not None
        too_late = threading.Timer(_START_S, self._process.kill)
        too_late.start()
        ready = self._process.stdout.readline()
        too_late.cancel()
        too_late.join()
        assert ready, f"batond did not start: {self._stderr_path.read_text()}"
        #: host:port
        self.address = ready.split()[-1]

    def content(self, name: str) -> bytes:
        """What a data file holds on disk."""
        return (self.data / name).read_bytes()

    def kill(self) -> None:
        """As a crash: SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ends it, and fails the test if it had failed."""
        was_killed = self._process.poll() is not None
        self._process.terminate()
        status = self._process.wait(timeout=_START_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert was_killed or status == 0, f"batond: {status}: {self._stderr_path.read_text()}"


@pytest.fixture(autouse=True)
def server(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A fresh server, which `baton.Connection()` finds by itself."""
    marker = request.node.get_closest_marker("server_args")
    running = Server(tmp_path, *(marker.args if marker else ()))
    monkeypatch.setenv("BATON_SERVER", running.address)
    # Long enough for a busy machine; tests of absent servers set less.
    monkeypatch.setenv("BATON_TIMEOUT_MS", "20000")
    yield running
    running.stop()
